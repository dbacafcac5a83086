"""The ledger opens as an ASE database; explain tells a candidate's life."""

from __future__ import annotations

import pytest
from ase.db import connect
from omegaconf import OmegaConf

from sse_diffusion.core.errors import ConfigError, DataError
from sse_diffusion.design.explain import run_explain
from sse_diffusion.design.pipeline import run_design


def test_ledger_has_one_row_per_candidate_with_stages_and_provenance(design_config, proposer, engine, tmp_path) -> None:
    run_design(design_config(), proposer)
    with connect(str(tmp_path / "out" / "ledger.db")) as database:
        assert database.count() == 6
        assert {r.candidate for r in database.select("stopped_at=unique")} == {"t-00001"}
        row = database.get(candidate="t-00004")
        assert row.data["stages"]["structure"]["passed"] is False and row.data["stages"]["structure"]["reason"]
        assert row.data["provenance"]["checkpoint_sha256"] == "ab" * 32
        assert row.toatoms().get_chemical_symbols() == ["Li", "Cl"]


def test_explain_tells_stages_end_and_commands(design_config, proposer, engine, tmp_path) -> None:
    run_design(design_config(), proposer)
    words = run_explain(OmegaConf.create({"id": "t-00001", "run": str(tmp_path / "out")}))
    assert "stopped at unique: the same crystal as t-00000" in words and "sse design n=6 seed=0" in words
    assert words.index("structure") < words.index("unique")


def test_explain_names_the_closest_id_and_refuses_other_folders(design_config, proposer, engine, tmp_path) -> None:
    run_design(design_config(), proposer)
    with pytest.raises(ConfigError, match="did you mean 't-0000"):
        run_explain(OmegaConf.create({"id": "t-0001", "run": str(tmp_path / "out")}))
    with pytest.raises(DataError, match=r"candidates\.csv"):
        run_explain(OmegaConf.create({"id": "t-00001", "run": str(tmp_path / "nowhere")}))
