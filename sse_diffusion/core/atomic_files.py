"""Result files appear whole or not at all, so that a run can be ended at any moment and resumed."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sse_diffusion.core.errors import OutputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary neighbour to write to; it replaces ``path`` when the block ends well and is removed when not.

    The folder is made.

    Raises:
        OutputError: the folder cannot be made or written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        hint = "choose a folder that you can write (and that has space left); what was computed before is kept"
        raise OutputError(f"cannot write {path}: {error.strerror or error}", hint) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write all of ``content`` or nothing; see :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json_atomically(path: Path, record: Any) -> None:
    """Write standard JSON (NaN and infinities become null) atomically."""
    write_bytes_atomically(path, f"{json.dumps(standard_json(record), indent=1, allow_nan=False)}\n".encode())


def read_json(path: Path) -> Any | None:
    """The JSON in ``path``; ``None`` when the file cannot be read or is not whole (it is then computed again)."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return None


def standard_json(value: Any) -> Any:
    """Plain JSON values: NumPy scalars and arrays unpacked, tuples and sets as lists, NaN and infinities as ``None``."""
    if isinstance(value, dict):
        return {str(k): standard_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [standard_json(v) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted(standard_json(v) for v in value)
    if hasattr(value, "tolist"):
        return standard_json(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)
