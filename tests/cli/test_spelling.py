"""Options with dashes and a bare path are the same as key=value."""

from __future__ import annotations

import pytest

from sse_diffusion.cli import _key_values


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("verify folder/ --budget 2h", "verify input=folder/ budget=2h"),
        ("verify --budget=2h folder/", "verify budget=2h input=folder/"),
        ("verify input=a.cif --debug", "verify input=a.cif --debug"),
        ("verify a.cif --debug out=b", "verify input=a.cif --debug out=b"),
        ("verify ~a.b input=x", "verify ~a.b input=x"),
        ("train --fast", "train --fast"),
        ("train --fast n=3", "train --fast n=3"),
        ("doctor data", "doctor data"),
        ("design --n 8 --help", "design n=8 --help"),
        ("", ""),
    ],
)
def test_spellings(written, meant):
    assert _key_values(written.split()) == meant.split()
