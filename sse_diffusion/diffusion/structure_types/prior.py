r"""How often each structure type occurs, given which elements are wanted: naive Bayes over the roles of a type.

    p(v, e_1 .. e_R) ~ n_v prod_r p(e_r | v, r),      p(e | v, r) = (c_vre + a q_e) / (n_v + a)

with n_v crystals of type v, c_vre of them with element e in role r, and q_e the share of e among all roles. Where only some
elements are allowed every role must draw one of them; a required element must be drawn by at least one role.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from sse_diffusion.diffusion.hard_chemistry import HardChemistry
from sse_diffusion.diffusion.structure_types.library import MAX_ROLES, TypeLibrary

SMOOTHING = 1.0
"""a: crystals that the overall shares count for."""


def role_probability(library: TypeLibrary, role_elements: Float[np.ndarray, "r 95"]) -> Float[np.ndarray, "r 95"]:
    """p(e | v, r) of every role of every type."""
    share = role_elements.sum(0) / role_elements.sum()
    members = np.repeat(library.count, np.diff(library.role_start)).astype(float)
    return (role_elements + SMOOTHING * share) / (members + SMOOTHING)[:, None]


def role_log_odds(library: TypeLibrary, role_elements: Float[np.ndarray, "r 95"]) -> Float[np.ndarray, "r 95"]:
    """log p(e | v, r) / q_e: what a role says about its element beyond how common the element is."""
    share = np.maximum(role_elements.sum(0) / role_elements.sum(), 1e-6)
    odds: np.ndarray = np.log(np.maximum(role_probability(library, role_elements), 1e-9) / share)
    odds[:, 0] = 0.0
    return odds


def type_weights(library: TypeLibrary, role_elements: Float[np.ndarray, "r 95"], chemistry: HardChemistry) -> np.ndarray:
    """(V,) unnormalised probability of each type under the constraints; zero where it cannot meet them.

    Args:
        library: the types.
        role_elements: crystals with each element in each role.
        chemistry: constraints; a prescribed composition is not looked at here.
    """
    probability = role_probability(library, role_elements)
    start = library.role_start[:-1]
    weight = library.count.astype(float)
    if len(chemistry.allowed) < role_elements.shape[1] - 1:
        weight = weight * np.multiply.reduceat(probability[:, list(chemistry.allowed)].sum(1), start)
    for z in chemistry.require:
        weight = weight * (1.0 - np.multiply.reduceat(1.0 - probability[:, z], start))
    roles = np.diff(library.role_start)
    weight = weight * np.isin(library.group, chemistry.groups) * (roles >= len(chemistry.require)) * (roles <= MAX_ROLES)
    weight = weight * (roles <= len(chemistry.allowed))
    if chemistry.n_atoms is not None:
        weight = weight * (library.n_atoms >= chemistry.n_atoms[0]) * (library.n_atoms <= chemistry.n_atoms[1])
    return weight
