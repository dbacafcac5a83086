"""A quantity carries its status; a failed one is never mistaken for a number."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_diffusion.core.results import Quantity, Status


def test_failed_is_nan_with_a_reason() -> None:
    failed = Quantity.failed("no reference phase for Tc", "eV/atom", engine="chgnet")
    assert math.isnan(failed.value) and not failed.ok
    assert (failed.status, failed.reason, failed.provenance) == (Status.FAILED, "no reference phase for Tc", {"engine": "chgnet"})


@pytest.mark.parametrize("status", [Status.UPPER_BOUND, Status.UNCONVERGED, Status.FAILED])
def test_only_ok_is_ok(status: Status) -> None:
    assert not Quantity(1.0, status=status).ok
    assert Quantity(1.0).ok


def test_results_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Quantity(1.0).value = 2.0  # type: ignore[misc]


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from(Status))
def test_json_is_standard_and_keeps_finite_numbers(value: float, uncertainty: float, status: Status) -> None:
    record = json.loads(json.dumps(Quantity(value, uncertainty, "eV", status).to_dict(), allow_nan=False))
    assert record["value"] == (value if math.isfinite(value) else None)
    assert record["uncertainty"] == (uncertainty if math.isfinite(uncertainty) else None)
    assert record["status"] == status.value
