r"""Which elements go together: a small network that completes compositions, one role at a time.

Known are the atoms of every role and the elements of some; asked is the element e of one more:

    log p(e | rest) = h . K_e + g log P(neutral | rest, e) + const

h reads the roles (a transformer over at most eight tokens), K_e the element. P(neutral) is the probability that the oxidation
states of all atoms add up to zero when every element draws one state of its own, or that all of them are metals without charge:

    P = 1/M sum_k prod_r phi_{e_r}(2 pi k n_r / M)  +  prod_r m_{e_r},      phi_e(t) = (1 - m_e) sum_s w_es exp(i t s)

with n_r atoms in role r divided by their common divisor. The sum is the Fourier form of the convolution of the roles' charges
(exact as long as no total reaches M). A role that is still open counts with the mean phi and m of all elements. w and m are
learnt; they start from the usual oxidation states of each element.

Trained on the compositions of the training table alone, with a random share of the roles hidden.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from tqdm import tqdm

from sse_diffusion.core.orbit_batch import MASKED_SPECIES, MAX_SPECIES

STATES = tuple(s for s in range(-4, 9) if s != 0)
"""Oxidation states that an element can take."""

PERIOD = 96
"""M: charges of a formula unit are told apart up to this."""


@dataclass(frozen=True, kw_only=True)
class ChemistryConfig:
    """Size of the network and its training.

    Attributes:
        width: of the tokens.
        layers: of the transformer.
        dropout: in it.
        epochs, learning_rate, weight_decay, batch: of the training (AdamW, one cycle).
    """

    width: int = 96
    layers: int = 2
    dropout: float = 0.1
    epochs: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    batch: int = 512


class RoleChemistry(nn.Module):
    """Completes compositions.

    Args:
        config: size.
        element_features: (95, f) standardised properties of the elements; row 0 is unused.
    """

    def __init__(self, config: ChemistryConfig, element_features: Float[Tensor, "95 f"]) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.register_buffer("element_features", element_features)
        self.register_buffer("share", torch.zeros(MAX_SPECIES + 1))
        self.element = nn.Embedding(MAX_SPECIES + 1, d)
        self.properties = nn.Linear(element_features.shape[1], d, bias=False)
        self.amount = nn.Linear(4, d)
        self.asked = nn.Parameter(torch.zeros(d))
        layer = nn.TransformerEncoderLayer(d, 4, 2 * d, config.dropout, "gelu", batch_first=True, norm_first=True)
        self.roles = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.read = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, d))
        self.key = nn.Linear(element_features.shape[1], d, bias=False)
        self.key_own = nn.Embedding(MAX_SPECIES + 1, d)
        self.bias = nn.Parameter(torch.zeros(MAX_SPECIES + 1))
        self.gain = nn.Parameter(torch.tensor(0.5))
        states, metal = _usual_states()
        self.states, self.metal = nn.Parameter(states.clone()), nn.Parameter(metal.clone())
        nn.init.normal_(self.element.weight, std=0.3)
        nn.init.zeros_(self.key_own.weight)

    def forward(
        self, species: Int64[Tensor, "b r"], atoms: Int64[Tensor, "b r"], asked: Int64[Tensor, " b"]
    ) -> Float[Tensor, "b 95"]:
        """Log-probabilities of the element of one role; elements that are there already and 0 have none.

        Args:
            species: element of each role, ``MASKED_SPECIES`` where it is open (also in the role that is asked for).
            atoms: atoms of each role in any cell, 0: no such role.
            asked: the role that is asked for.
        """
        atoms = atoms // torch.tensor(np.gcd.reduce(atoms.cpu().numpy(), axis=1), device=atoms.device)[:, None]
        there = atoms > 0
        n = atoms.float()
        share = n / n.sum(1, keepdim=True)
        open_ = (species == MASKED_SPECIES).float()
        size = torch.stack([share, n.clamp_min(1).log(), open_, n.sum(1, keepdim=True).log().expand_as(n)], dim=-1)
        target = torch.zeros_like(n).scatter_(1, asked[:, None], 1.0)
        known = self.element(species) + self.properties(self.element_features[species]) * (1 - open_[..., None])
        x = known + self.amount(size) + target[..., None] * self.asked
        x = self.roles(x, src_key_padding_mask=~there)
        h = self.read(x.gather(1, asked[:, None, None].expand(-1, 1, x.shape[2]))[:, 0])
        keys = self.key(self.element_features) + self.key_own.weight
        score = h @ keys.T / keys.shape[1] ** 0.5 + self.bias + self.gain * self.neutral(species, atoms, asked)
        used = torch.zeros_like(score, dtype=torch.bool).scatter_(1, species, True)
        used[:, MASKED_SPECIES] = True
        return score.masked_fill(used, -torch.inf).log_softmax(-1)

    @torch.no_grad()
    def log_odds(
        self, species: Int64[Tensor, "b r"], atoms: Int64[Tensor, "b r"], asked: Int64[Tensor, " b"]
    ) -> Float[Tensor, "b 95"]:
        """log p(e | rest) / p(e), 0 for those that cannot be; arguments as in :meth:`forward`."""
        alone = (self.share.clamp_min(1.0) / self.share.clamp_min(1.0).sum()).log()
        odds = self(species, atoms, asked) - alone
        return torch.where(torch.isfinite(odds), odds, torch.zeros(()))

    def neutral(self, species: Tensor, atoms: Tensor, asked: Tensor) -> Float[Tensor, "b 95"]:
        """log P(neutral) with each element in the role that is asked for."""
        m = self.metal.sigmoid()
        charged = (1 - m)[:, None] * self.states.softmax(-1)
        q = self.share / self.share.sum().clamp_min(1e-9)
        m, charged = m.clone(), charged.clone()
        m[0], charged[0] = (q * m).sum(), (q[:, None] * charged).sum(0)
        k = torch.arange(PERIOD // 2 + 1, device=atoms.device)
        angle = 2 * math.pi / PERIOD * torch.arange(PERIOD, device=atoms.device)
        states = torch.tensor(STATES, device=atoms.device)
        wave = torch.polar(torch.ones(1, device=angle.device), angle[:, None] * states).to(torch.complex64)
        phi = charged.to(torch.complex64) @ wave.T  # (95, M): phi_e at every angle
        phase = atoms[..., None] * k % PERIOD  # (b, r, K)
        others = torch.ones_like(atoms, dtype=torch.bool).scatter_(1, asked[:, None], False) & (atoms > 0)
        each = torch.where(others[..., None], phi[species[..., None], phase], torch.ones((), dtype=phi.dtype))
        rest = each.prod(1)  # (b, K)
        mine = phi[:, phase.gather(1, asked[:, None, None].expand(-1, 1, phase.shape[2]))[:, 0]]  # (95, b, K)
        weight = torch.ones(len(k), device=k.device)
        weight[1:-1] = 2.0  # the other half is the complex conjugate
        ionic = torch.einsum("ebk,bk,k->be", mine, rest, weight.to(phi.dtype)).real / PERIOD
        metals = torch.where(others, m[species], 1.0).prod(1, keepdim=True) * m
        return (ionic.clamp_min(0) + metals + 1e-4).log()


@lru_cache(maxsize=1)
def _usual_states() -> tuple[Tensor, Tensor]:
    """Logits of the states of each element, and of being a metal without charge, to start from."""
    from pymatgen.core import Element

    states, metal = torch.full((MAX_SPECIES + 1, len(STATES)), -4.0), torch.full((MAX_SPECIES + 1,), -3.0)
    for z in range(1, MAX_SPECIES + 1):
        element = Element.from_Z(z)
        for wanted, value in ((element.oxidation_states, -1.0), (element.common_oxidation_states, 1.0)):
            for s in wanted:
                if int(s) in STATES:
                    states[z, STATES.index(int(s))] = value
        metal[z] = 0.0 if element.is_metal else -3.0
    return states, metal


def as_roles(compositions: Sequence[Mapping[int, int]]) -> tuple[Int64[Tensor, "n r"], Int64[Tensor, "n r"]]:
    """Elements and their atoms, one row per composition, padded with 0."""
    width = max(len(c) for c in compositions)
    species = torch.zeros(len(compositions), width, dtype=torch.long)
    atoms = torch.zeros_like(species)
    for i, c in enumerate(compositions):
        species[i, : len(c)], atoms[i, : len(c)] = torch.tensor(list(c)), torch.tensor(list(c.values()))
    return species, atoms


def hide(species: Tensor, atoms: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A role to ask for and others left open at random.

    Returns:
        Species with hidden ones masked, the role asked for, and its element.
    """
    n_roles = (atoms > 0).sum(1)
    u = torch.rand(species.shape, generator=generator).masked_fill(atoms == 0, 2.0)
    rank = u.argsort(1).argsort(1)
    asked = rank.argmin(1)
    n_open = (torch.rand(len(species), generator=generator) * n_roles).long()[:, None]
    answer = species.gather(1, asked[:, None])[:, 0]
    return species.masked_fill(rank <= n_open, MASKED_SPECIES), asked, answer


def fit_chemistry(
    model: RoleChemistry, compositions: Sequence[Mapping[int, int]], seed: int = 0, progress: bool = True
) -> RoleChemistry:
    """Train in place; deterministic for one seed."""
    torch.manual_seed(seed)
    config, generator = model.config, torch.Generator().manual_seed(seed)
    species, atoms = as_roles(compositions)
    model.share.copy_(torch.bincount(species[atoms > 0], minlength=MAX_SPECIES + 1).float())
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    steps = config.epochs * (len(species) // config.batch + 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config.learning_rate, total_steps=max(steps + 1, 20), pct_start=0.1)
    model.train()
    for _ in tqdm(range(config.epochs), desc="role chemistry", unit="epoch", disable=not progress):
        for rows in torch.randperm(len(species), generator=generator).split(config.batch):
            given, asked, answer = hide(species[rows], atoms[rows], generator)
            loss = nn.functional.nll_loss(model(given, atoms[rows], asked), answer)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def nll_of_hidden(model: RoleChemistry, compositions: Sequence[Mapping[int, int]], seed: int = 0) -> tuple[int, float, float]:
    """Number of compositions of two elements or more, -log p of one random element: by its overall share, given the others."""
    species, atoms = as_roles([c for c in compositions if len(c) > 1])
    u = torch.rand(species.shape, generator=torch.Generator().manual_seed(seed)).masked_fill(atoms == 0, 2.0)
    asked = u.argmin(1)
    answer = species.gather(1, asked[:, None])
    given = model(species.scatter(1, asked[:, None], MASKED_SPECIES), atoms, asked)
    share = model.share.clamp_min(1.0) / model.share.clamp_min(1.0).sum()
    return len(species), float(-share[answer].log().mean()), float(-given.gather(1, answer).mean())
