"""Errors that tell the user what was wrong, where, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SSEError(Exception):
    """Base of every error this package raises on purpose.

    Args:
        message: what was wrong and where.
        hint: what the user can do about it (one sentence).
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message}\n  -> {hint}" if hint else message)


class ConfigError(SSEError):
    """A configuration key or value that cannot be used."""


class DataError(SSEError):
    """An input table or structure file that cannot be read or used."""


class ChemistryError(SSEError):
    """Chemistry constraints that are unknown or contradict each other."""


class CheckpointError(SSEError):
    """A checkpoint that is missing, truncated, or of an unknown version."""


class EngineError(SSEError):
    """A force field that cannot be loaded or fails its known-answer test."""


class OutputError(SSEError):
    """An output folder that cannot be written."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """One sentence naming the closest known name and the whole list."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    lead = f"did you mean {close[0]!r}? " if close else ""
    return f"{lead}known: {', '.join(choices)}"
