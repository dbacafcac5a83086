"""The graph network: CHGNet's gated atom convolution (matgl) on orbit graphs, and a head that predicts location and scale."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sse_diffusion.predictors.graph.graphs import GraphBatch

MIN_LOG_SCALE, MAX_LOG_SCALE = -5.0, 3.0


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Shape of the network.

    Attributes:
        width: features per node.
        blocks: convolutions.
        hidden: hidden layers of the gated perceptron inside a convolution.
        radial: Bessel functions of the bond length.
        dropout: share of features switched off in training, in what a convolution adds and in the crystal's mean.
        cutoff_exponent: p of the polynomial that takes them to zero at the cutoff (larger: later).
    """

    width: int = 64
    blocks: int = 3
    hidden: int = 1
    radial: int = 16
    dropout: float = 0.1
    cutoff_exponent: int = 5


class CrystalNetwork(nn.Module):
    r"""Invariant message passing; convolutions, Bessel basis and cutoff are matgl's.

    With nodes h_i, bonds b_ij = f_c(r) bessel(r) and the gated perceptron phi (value x gate) of Deng et al., Nat. Mach. Intell.
    5, 1031 (2023), without bond and angle updates,

        h_i <- h_i + W sum_j o_j (V b_ij) * phi(LN h_j, U b_ij, LN h_i)

    with the occupancy o_j of the neighbour (1 in ordered crystals). The crystal is the mean of its atoms, h = sum_i w_i h_i; the
    head gives mu and log b of a Laplace distribution per target.

    Args:
        config: shape.
        cutoff_A: of the graphs.
        elements: (Z + 1, P) standardised elemental properties by atomic number; a node starts from them and a free vector.
        n_targets: properties.
    """

    def __init__(self, config: NetworkConfig, cutoff_A: float, elements: Float[Tensor, "z p"], n_targets: int) -> None:
        from matgl.layers import CHGNetGraphConv, RadialBesselFunction

        super().__init__()
        width = config.width
        self.config, self.cutoff_A, self.n_targets = config, cutoff_A, n_targets
        self.register_buffer("elements", elements.clone())
        self.free_embedding = nn.Embedding(len(elements), width)
        self.property_embedding = nn.Linear(elements.shape[1], width)
        self.basis = RadialBesselFunction(max_n=config.radial, cutoff=cutoff_A, learnable=True)
        self.bond_embedding = nn.Linear(config.radial, width, bias=False)
        self.bond_weight = nn.Linear(config.radial, width, bias=False)
        dims = [3 * width, *[width] * (config.hidden + 1)]
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.blocks))
        self.convolutions = nn.ModuleList(CHGNetGraphConv.from_dims(nn.SiLU(), dims) for _ in range(config.blocks))
        self.last_norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2 * n_targets))

    def embed(self, graphs: GraphBatch) -> Float[Tensor, "b d"]:
        """Mean of each crystal's node features."""
        from matgl.utils.cutoff import polynomial_cutoff

        length = graphs.bond_vec.norm(dim=1)
        basis = self.basis(length) * polynomial_cutoff(length, self.cutoff_A, self.config.cutoff_exponent)[:, None]
        bond = self.bond_embedding(basis)
        weight = self.bond_weight(basis) * graphs.occupancy.index_select(0, graphs.edge_index[1])[:, None]
        nodes = self.free_embedding(graphs.node_type) + self.property_embedding(self.elements)[graphs.node_type]
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            nodes = nodes + self.dropout(convolve(convolution, norm(nodes), bond, weight, graphs.edge_index))
        return graphs.mean(self.last_norm(nodes))

    def forward(self, graphs: GraphBatch) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
        """Location and log scale of each target, in standardised units."""
        return self.read_out(self.embed(graphs))

    def read_out(self, embedding: Float[Tensor, "b d"]) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
        """Location and log scale from the mean of the node features."""
        mu, log_scale = self.head(self.dropout(embedding)).float().split(self.n_targets, dim=-1)
        return mu, log_scale.clamp(MIN_LOG_SCALE, MAX_LOG_SCALE)


def convolve(
    convolution: nn.Module,
    nodes: Float[Tensor, "n d"],
    bond: Float[Tensor, "e d"],
    weight: Float[Tensor, "e d"],
    edge_index: Int[Tensor, "2 e"],
) -> Float[Tensor, "n d"]:
    """What matgl's ``CHGNetGraphConv`` adds to the nodes, its first layer multiplied per node instead of per bond.

    The first layer of [h_j, b_ij, h_i] is the sum of three products; two of them are the same for all bonds of a node, and there
    are thirty bonds to a node.
    """
    centre, neighbour = edge_index
    value, gate = convolution.node_update_func.value.layers, convolution.node_update_func.gate.layers
    matrix = torch.cat([value[0].weight, gate[0].weight])
    of_neighbour, of_bond, of_centre = matrix.split(nodes.shape[1], dim=1)
    per_node = nodes @ torch.cat([of_neighbour, of_centre]).T
    as_neighbour, as_centre = per_node.split(len(matrix), dim=1)
    bias = torch.cat([value[0].bias, gate[0].bias])
    first = as_neighbour.index_select(0, neighbour) + as_centre.index_select(0, centre)
    first = first + nn.functional.linear(bond, of_bond, bias)
    v, g = first.split(len(matrix) // 2, dim=1)
    for value_layer, gate_layer in zip(list(value)[1:], list(gate)[1:], strict=True):
        v, g = value_layer(nn.functional.silu(v)), gate_layer(nn.functional.silu(g))
    messages = nn.functional.silu(v) * torch.sigmoid(g) * weight
    total = torch.zeros_like(nodes, dtype=messages.dtype).index_add_(0, centre, messages)
    return convolution.node_out_func(total)
