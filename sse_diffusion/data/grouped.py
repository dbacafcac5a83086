"""Grouped cross-validation: rows that share a source or a composition stay on one side, and leakage fails loudly."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from sse_diffusion.core.errors import ConfigError, DataError

SHOWN = 3
"""Examples named in an error."""


def composition_key(composition: Mapping[str, float], digits: int = 3) -> str:
    """A composition whatever its scale and order, as a key: ``{"Li": 6, "O": 3}`` -> ``"Li0.667 O0.333"``.

    Args:
        composition: element symbol -> amount, whole or not (partial occupancy); pymatgen: ``c.get_el_amt_dict()``.
        digits: of the atomic fractions; two compositions that round to the same fractions are one.
    """
    total = sum(composition.values())
    return " ".join(f"{symbol}{amount / total:.{digits}f}" for symbol, amount in sorted(composition.items()) if amount > 0)


def doi_key(source: str | None) -> str | None:
    """A digital object identifier in lower case without its resolver (``https://doi.org/``); ``None`` when there is none."""
    text = "" if source is None or source != source else str(source).strip().lower()  # source != source: NaN
    text = re.sub(r"^(https?://)?(dx\.)?(doi\.org/|doi:\s*)", "", text)
    return text or None


def connected_groups(*keys: Sequence[str | None]) -> NDArray[np.int64]:
    """Group number (n,) of each row: rows that share a key in any column, directly or through others, are one group.

    Args:
        keys: columns of n keys, such as source, composition, chemical system; ``None`` (or NaN) ties a row to nothing.

    Raises:
        DataError: no column, or columns of different length.
    """
    if len({len(column) for column in keys}) != 1:
        raise DataError(f"columns of keys have lengths {[len(column) for column in keys]}", "give one key per row and column")
    n_rows = len(keys[0])
    node_of: dict[tuple[int, str], int] = {}
    edges = [
        (row, n_rows + node_of.setdefault((column, key), len(node_of)))
        for column, values in enumerate(keys)
        for row, key in enumerate(values)
        if key is not None and key == key  # a NaN does not equal itself
    ]
    rows, nodes = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    size = n_rows + len(node_of)
    _, labels = connected_components(coo_matrix((np.ones(len(rows)), (rows, nodes)), shape=(size, size)), directed=False)
    return np.unique(labels[:n_rows], return_inverse=True)[1].astype(np.int64)


def grouped_folds(
    groups: Sequence[int] | NDArray[np.int64],
    n_folds: int,
    seed: int,
    strata: Sequence[int] | NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Fold (n,) of each row: groups stay whole, folds have like sizes and, as far as groups allow, like strata.

    Groups are dealt from the largest to the smallest (equal sizes in an order drawn from ``seed``), each to the fold where it
    disturbs the balance least; the balance is the sum of squared shares of rows and of each stratum.

    Args:
        groups: (n,) group of each row, for example of :func:`connected_groups`.
        n_folds: folds.
        seed: of the order among groups of equal size.
        strata: (n,) class of each row, for example the quantile bin of the label (:func:`quantile_bins`).

    Raises:
        ConfigError: fewer groups than folds.
        DataError: ``strata`` of another length.
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    n_groups = int(group.max(initial=-1)) + 1
    if not 2 <= n_folds <= n_groups:
        raise ConfigError(f"{n_folds} folds of {n_groups} groups of rows", "use at least 2 folds, at most one per group")
    _, stratum = np.unique(np.zeros(len(group)) if strata is None else np.asarray(strata), return_inverse=True)
    if len(stratum) != len(group):
        raise DataError(f"{len(stratum)} strata for {len(group)} rows", "give one stratum per row")
    counts = np.zeros((n_groups, int(stratum.max()) + 2))  # the last column counts every row
    np.add.at(counts, (group, stratum), 1)
    counts[:, -1] = counts.sum(1)
    share = counts / counts.sum(0)
    order = np.random.default_rng(seed).permutation(n_groups)
    order = order[np.argsort(-counts[order, -1], kind="stable")]
    fold_of_group, load = np.zeros(n_groups, dtype=np.int64), np.zeros((n_folds, counts.shape[1]))
    for g in order:
        fold_of_group[g] = np.argmin(load @ share[g])  # the group's own term of the squares is the same for every fold
        load[fold_of_group[g]] += share[g]
    return fold_of_group[group]


def quantile_bins(labels: NDArray[np.float64], n_bins: int) -> NDArray[np.int64]:
    """Stratum (n,) of each label: ``n_bins`` bins of like count, and one more for unknown labels (NaN)."""
    known = labels[np.isfinite(labels)]
    edges = np.quantile(known, np.arange(1, n_bins) / n_bins) if len(known) else np.empty(0)
    return np.where(np.isfinite(labels), np.searchsorted(edges, labels, side="right"), n_bins).astype(np.int64)


def check_no_leakage(train_keys: Sequence[str | None], test_keys: Sequence[str | None], what: str) -> None:
    """Make sure that no key is on both sides; ``None`` and NaN are nobody's key.

    Args:
        train_keys, test_keys: keys of the rows on either side.
        what: the key in words, for the error: ``"source (DOI)"``.

    Raises:
        DataError: keys on both sides; names the first three.
    """
    shared = sorted({k for k in train_keys if k is not None and k == k} & {k for k in test_keys if k is not None})
    if shared:
        shown = ", ".join(shared[:SHOWN]) + (" ..." if len(shared) > SHOWN else "")
        raise DataError(
            f"{len(shared)} {what} on both the training and the test side: {shown}",
            "split by data.grouped.connected_groups of every key that must not leak",
        )
