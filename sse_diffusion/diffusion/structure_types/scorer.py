r"""Which structure type does a composition take? A network scores every type and every way to hand out its roles.

For a composition with elements e and a type v with roles r, an assignment pi gives each role an element of its frequency:

    s(v, pi) = b_v + B_v . psi + sum_r (A_vr . phi_pi(r) + g l_vr,pi(r)),
    l_vr,e = log((sum_e' c_vre' K_e'e + a q_e) / (n_v + a)),   K_ee' = exp(-|x_e - x_e'|^2)
    p(v, pi | composition) = softmax over all v, pi and "none"

phi_e reads the element and the whole composition, psi the composition; A_vr reads group and sites of the role, plus a term of
its own. l counts the members of a type with a similar element in the role (c_vre with element e, n_v in all, q_e their overall
share; the places x_e of the elements, a and g are learnt); in training a crystal does not count itself. "None" means that the
composition has an arrangement that the library lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sse_diffusion.core.orbit_batch import MAX_SPECIES
from sse_diffusion.core.wyckoff import N_GROUPS, wyckoff_table
from sse_diffusion.diffusion.layers import feed_forward
from sse_diffusion.diffusion.structure_types.grouping import role_orders
from sse_diffusion.diffusion.structure_types.library import TypeLibrary


@dataclass(frozen=True, kw_only=True)
class ScorerConfig:
    """Size of the network.

    Attributes:
        width: of the scalar products.
        hidden: of the layers before them.
        dropout: on elements and compositions.
    """

    width: int = 96
    hidden: int = 192
    dropout: float = 0.35


@dataclass(frozen=True)
class Question:
    """Compositions of one signature and the types that could hold them.

    Attributes:
        signature: atoms of each element, ascending.
        elements: (b, r) atomic numbers in that order.
        types: (s,) candidate types.
        orders: (p, r) assignments: role -> column of ``elements``.
        own_type: (b,) place in ``types`` of the type that each composition was counted in, -1: of none.
        own_roles: (b, r, 95) how it was counted there: its share of each element in each role.
    """

    signature: tuple[int, ...]
    elements: Int64[Tensor, "b r"]
    types: Int64[Tensor, " s"]
    orders: Int64[Tensor, "p r"]
    own_type: Int64[Tensor, " b"] | None = None
    own_roles: Float[Tensor, "b r 95"] | None = None

    def part(self, chosen: Tensor) -> Question:
        """Some of the compositions."""
        own = (None, None) if self.own_type is None or self.own_roles is None else (self.own_type[chosen], self.own_roles[chosen])
        return Question(self.signature, self.elements[chosen], self.types, self.orders, *own)


def elements_by_frequency(composition: dict[int, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Signature and elements of a composition (atomic number -> atoms): ascending frequency, then atomic number."""
    ordered = sorted(composition.items(), key=lambda item: (item[1], item[0]))
    return tuple(n for _, n in ordered), tuple(z for z, _ in ordered)


def question(library: TypeLibrary, signature: tuple[int, ...], elements: Sequence[tuple[int, ...]]) -> Question:
    """Collect the candidates for compositions of one signature."""
    numbers = library.by_signature.get(signature, np.zeros(0, dtype=np.int64))
    orders = role_orders(dict(enumerate(signature)))
    return Question(
        signature, torch.tensor(elements), torch.from_numpy(numbers), torch.tensor(orders).view(len(orders), len(signature))
    )


@dataclass(frozen=True)
class Prepared:
    """Keys (k, d), element kernel (95, 95) and members with similar elements (k, 95) of all roles."""

    keys: Float[Tensor, "k d"]
    kernel: Float[Tensor, "95 95"]
    similar: Float[Tensor, "k 95"]


class TypeScorer(nn.Module):
    """Scores of structure types for compositions.

    Args:
        library: the types.
        config: size.
        element_features: (95, f) standardised properties of the elements; row 0 is unused.
        role_elements: (R, 95) members with each element in each role.
    """

    def __init__(
        self,
        library: TypeLibrary,
        config: ScorerConfig,
        element_features: Float[Tensor, "95 f"],
        role_elements: Float[np.ndarray, "r 95"],
    ) -> None:
        super().__init__()
        self.config, self.library = config, library
        d, h = config.width, config.hidden
        self.register_buffer("element_features", element_features)
        self.place = nn.Parameter(element_features.clone() / element_features.shape[1] ** 0.5)
        self.log_smoothing, self.gain = nn.Parameter(torch.zeros(())), nn.Parameter(torch.tensor(0.5))
        counts = torch.tensor(role_elements, dtype=torch.float32)
        self.register_buffer("counts", counts, persistent=False)
        self.register_buffer("share", counts.sum(0) / counts.sum(), persistent=False)
        members = np.repeat(library.count, np.diff(library.role_start))
        self.register_buffer("members", torch.tensor(members, dtype=torch.float32), persistent=False)
        self.element = nn.Embedding(MAX_SPECIES + 1, h // 2)
        self.properties = nn.Linear(element_features.shape[1], h // 2)
        self.dropout = nn.Dropout(config.dropout)
        self.whole = feed_forward(2 * h + 4, h, h)
        self.role_of_element = feed_forward(2 * h + 2, h, d)
        self.psi = nn.Linear(h, d)
        self.none = nn.Linear(h, 1)
        self.group = nn.Embedding(N_GROUPS + 1, h // 4)
        self.position = nn.Embedding(len(wyckoff_table().group), h // 4)
        self.role_from_sites = feed_forward(h // 2 + 2, h, d)
        self.role_own = nn.Embedding(len(library.role_atoms), d)
        self.type_own = nn.Embedding(len(library), d)
        self.bias = nn.Parameter(torch.from_numpy(np.log(library.count)).float())
        nn.init.normal_(self.role_own.weight, std=0.02)
        nn.init.normal_(self.type_own.weight, std=0.02)
        role_row = library.role_start[np.repeat(np.arange(len(library)), np.diff(library.start))] + library.role
        self.register_buffer("role_row", torch.from_numpy(role_row), persistent=False)
        self.register_buffer("orbit_position", torch.from_numpy(library.wyckoff), persistent=False)
        type_of_role = np.repeat(np.arange(len(library)), np.diff(library.role_start))
        self.register_buffer("role_group", torch.from_numpy(library.group[type_of_role]), persistent=False)
        atoms = library.role_atoms
        sizes = np.stack([np.log(atoms), atoms / library.n_atoms[type_of_role]], axis=1)
        self.register_buffer("role_size", torch.tensor(sizes, dtype=torch.float32), persistent=False)

    def forward(self, asked: Question, given: Prepared | None = None) -> Float[Tensor, "b c"]:
        """Log-probabilities of every (type, assignment), types first, and of "none" in the last column.

        Args:
            asked: the compositions.
            given: :meth:`prepare`, when it serves several questions.
        """
        phi, whole = self._read(asked)
        b, r, _ = phi.shape
        if len(asked.types) == 0:
            return phi.new_zeros(b, 1)
        given = given or self.prepare()
        rows = torch.from_numpy(self.library.role_start)[asked.types][:, None] + torch.arange(r)
        pairs = torch.einsum("srd,bed->bsre", given.keys[rows], phi) + self.gain * self._counted(asked, given, rows)
        columns = asked.orders[None, None, :, :, None].expand(b, len(asked.types), -1, -1, -1)
        score = pairs[:, :, None].expand(-1, -1, len(asked.orders), -1, -1).gather(-1, columns).sum(dim=(-1, -2))
        own = self.bias[asked.types] + self.psi(whole) @ self.type_own(asked.types).T
        every = (score + own[:, :, None]).flatten(1)
        return torch.cat([every, self.none(whole)], dim=1).log_softmax(-1)

    def prepare(self) -> Prepared:
        """What does not depend on the question: keys of all roles, similar elements counted."""
        kernel = torch.exp(-torch.cdist(self.place, self.place).square())
        return Prepared(self.role_keys(), kernel, self.counts @ kernel)

    def _counted(self, asked: Question, given: Prepared, rows: Int64[Tensor, "s r"]) -> Float[Tensor, "b s r e"]:
        """l of every role of every candidate and every element of each composition."""
        z, smoothing = asked.elements, self.log_smoothing.exp()
        similar = given.similar[rows][:, :, z].permute(2, 0, 1, 3)
        members = self.members[rows][None, :, :, None].expand(len(z), -1, -1, 1)
        if asked.own_type is not None and asked.own_roles is not None:
            here = torch.nonzero(asked.own_type >= 0).flatten()
            mine = torch.einsum("brz,zy->bry", asked.own_roles[here], given.kernel)
            mine = mine.gather(-1, z[here][:, None].expand(-1, rows.shape[1], -1))
            place = asked.own_type[here]
            similar = similar.index_put((here, place), -mine, accumulate=True)
            members = members.index_put((here, place), -torch.ones_like(mine[..., :1]), accumulate=True)
        prior = smoothing * self.share[z][:, None, None, :]
        return ((similar.clamp_min(0) + prior + 1e-4) / (members + smoothing)).log()

    def _read(self, asked: Question) -> tuple[Float[Tensor, "b r d"], Float[Tensor, "b h"]]:
        """phi of each element and the vector of the whole composition."""
        z = asked.elements
        x = self.dropout(torch.cat([self.element(z), self.properties(self.element_features[z])], dim=-1))
        n = torch.tensor(asked.signature, dtype=torch.float32, device=z.device)
        share = n / n.sum()
        mean = (x * share[:, None]).sum(1)
        extent = (x.sub(mean[:, None]).square() * share[:, None]).sum(1).add(1e-6).sqrt()
        size = torch.stack([n.sum().log(), torch.tensor(float(len(n))), share.max(), share.min()]).expand(len(z), -1)
        whole = self.dropout(self.whole(torch.cat([mean, extent, size.to(x)], dim=-1)))
        amount = torch.stack([share, n.log()], dim=-1)[None].expand(len(z), -1, -1)
        phi = self.role_of_element(torch.cat([x, whole[:, None].expand(-1, z.shape[1], -1), amount], dim=-1))
        return phi, whole

    def role_keys(self) -> Float[Tensor, "k d"]:
        """A of every role of every type."""
        sites = torch.zeros(len(self.role_size), self.position.weight.shape[1], device=self.role_size.device)
        sites = sites.index_add(0, self.role_row, self.position(self.orbit_position))
        from_sites = self.role_from_sites(torch.cat([sites, self.group(self.role_group), self.role_size], dim=-1))
        return from_sites + self.role_own.weight
