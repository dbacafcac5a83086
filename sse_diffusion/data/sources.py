"""One entry for every data config: ``load_source(cfg)`` turns configs/data/*.yaml into validated, split rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sse_diffusion.core.config import build
from sse_diffusion.core.errors import ConfigError, DataError, did_you_mean
from sse_diffusion.data.extra_labels import with_extra_labels
from sse_diffusion.data.readers.raw import ColumnMap
from sse_diffusion.data.rows import TableReport
from sse_diffusion.data.splits import SplitConfig, assign_splits, check_leakage
from sse_diffusion.data.tables import read_table
from sse_diffusion.data.validation import ValidationConfig

KINDS = ("table", "prototypes")


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """A table of crystals on disk.

    Attributes:
        kind: ``"table"``.
        path: file or folder; relative paths are looked up from the working folder, then from the project folder.
        labels: label name -> column or {column, unit}.
        extra_labels: files with more labels, keyed by id, see :class:`~sse_diffusion.data.extra_labels.ExtraLabels`.
        columns: names of the structural columns, see :class:`ColumnMap`.
        limit: read only the first rows.
        validation: see :class:`ValidationConfig`.
        splits: see :class:`SplitConfig`.
        progress: show progress bars.
    """

    kind: str = "table"
    path: str = ""
    labels: Mapping[str, Any] = field(default_factory=dict)
    extra_labels: tuple[Mapping[str, Any], ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None
    validation: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[str, Any] = field(default_factory=dict)
    progress: bool = True


@dataclass(frozen=True, kw_only=True)
class PrototypesConfig:
    """The embedded prototypes, decorated by charge-balanced substitution.

    Attributes:
        kind: ``"prototypes"``.
        max_per_prototype: most decorations kept per prototype (the parent compound always is).
        max_misfit: largest relative deviation of a cation-anion distance from the sum of ionic radii.
        labels: label names that every row gets as NaN, so that the same model trains on prototypes and on tables.
        limit: keep only the first crystals.
        validation: see :class:`ValidationConfig`.
        splits: see :class:`SplitConfig`.
        progress: show progress bars.
    """

    kind: str = "prototypes"
    max_per_prototype: int = 100
    max_misfit: float = 0.12
    labels: tuple[str, ...] = ()
    limit: int | None = None
    validation: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[str, Any] = field(default_factory=dict)
    progress: bool = True


def load_source(cfg: Mapping[str, Any]) -> TableReport:
    """Rows of a data config, validated, split by formula and checked for leakage.

    Args:
        cfg: a ``configs/data/*.yaml`` node (DictConfig or mapping); ``kind`` chooses the source.

    Raises:
        ConfigError: unknown kind or key.
        DataError: nothing to read, or no row survives validation, or the given splits leak.
    """
    kind = str(cfg.get("kind", "table"))
    if kind not in KINDS:
        raise ConfigError(f"unknown data kind {kind!r}", did_you_mean(kind, KINDS))
    report = _load_table(build(TableConfig, cfg)) if kind == "table" else _load_prototypes(build(PrototypesConfig, cfg))
    if not report.rows:
        raise DataError("no row passed validation\n" + report.summary(), "check units, columns and data.validation limits")
    rows = assign_splits(report.rows, build(SplitConfig, cfg.get("splits")))
    check_leakage(rows)
    return replace(report, rows=rows)


def _load_table(config: TableConfig) -> TableReport:
    if config.path in ("", "???"):  # OmegaConf writes a mandatory value that nobody gave as ???
        raise ConfigError("data.path is not set", "give your table, folder of CIFs, ASE database or extxyz: data.path=...")
    report = read_table(
        config.path,
        labels=config.labels,
        limit=config.limit,
        progress=config.progress,
        columns=build(ColumnMap, config.columns),
        validation=build(ValidationConfig, config.validation),
    )
    return with_extra_labels(report, config.extra_labels)


def _load_prototypes(config: PrototypesConfig) -> TableReport:
    from sse_diffusion.data.prototypes.decorate import DecorationConfig, decorated_crystals

    return decorated_crystals(
        DecorationConfig(max_per_prototype=config.max_per_prototype, max_misfit=config.max_misfit, labels=config.labels),
        validation=build(ValidationConfig, config.validation),
        limit=config.limit,
        progress=config.progress,
    )
