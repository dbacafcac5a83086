"""Errors say what was wrong and what to do."""

from __future__ import annotations

import inspect

import pytest

from sse_diffusion.core import errors


def test_message_and_hint_are_both_shown() -> None:
    error = errors.DataError("row 7 of a.csv has no lattice", "give columns a, b, c")
    assert str(error) == "row 7 of a.csv has no lattice\n  -> give columns a, b, c"
    assert (error.message, error.hint) == ("row 7 of a.csv has no lattice", "give columns a, b, c")


def test_without_a_hint_there_is_no_arrow() -> None:
    assert "->" not in str(errors.SSEError("plain"))


@pytest.mark.parametrize("name", [n for n, c in vars(errors).items() if inspect.isclass(c) and n.endswith("Error")])
def test_every_error_is_an_sse_error(name: str) -> None:
    assert issubclass(getattr(errors, name), errors.SSEError)


@pytest.mark.parametrize(("typed", "meant"), [("trainr", "trainer"), ("elemnts", "elements"), ("band_gap", "band_gap_eV")])
def test_did_you_mean_finds_the_closest_name(typed: str, meant: str) -> None:
    assert errors.did_you_mean(typed, ["trainer", "elements", "band_gap_eV"]).startswith(f"did you mean {meant!r}?")


def test_did_you_mean_is_silent_when_nothing_is_close() -> None:
    text = errors.did_you_mean("zzz", ["b", "a"])
    assert text == "known: a, b"
