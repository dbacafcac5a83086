"""Results of dear computations on disk, one JSON line each, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sse_diffusion.core.atomic_files import standard_json
from sse_diffusion.core.errors import OutputError


def kept_records(
    path: Path,
    keys: Mapping[int, str],
    compute: Callable[[Sequence[int]], Iterator[tuple[int, dict[str, Any]]]],
    desc: str,
    progress: bool = True,
) -> dict[int, dict[str, Any]]:
    """One record per item, from the file or computed now and appended at once.

    Args:
        path: JSON lines; a line that an interruption cut is dropped and its item computed again.
        keys: item -> hash of everything its record depends on.
        compute: gives (item, record) of the items that the file lacks, in any order, as they are finished.
        desc: of the progress bar.
        progress: show it.

    Returns:
        item -> record, in the order of the items.

    Raises:
        OutputError: the file cannot be written.
    """
    from tqdm import tqdm

    from sse_diffusion.verification.hull_table import read_records

    stored = {record["key"]: record for record in read_records(path)}
    done = {item: stored[key] for item, key in keys.items() if key in stored}
    todo = [item for item in keys if item not in done]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        cut = path.is_file() and not path.read_bytes().endswith(b"\n")
        with path.open("a", encoding="utf-8") as handle:
            if cut and path.stat().st_size:
                handle.write("\n")  # a killed run may leave half a line; the next record starts on its own
            for item, record in tqdm(compute(todo), desc=desc, total=len(keys), initial=len(done), disable=not progress):
                done[item] = standard_json({"key": keys[item], "index": item, **record})
                handle.write(json.dumps(done[item], allow_nan=False) + "\n")
                handle.flush()
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}", "choose another folder with out=DIR") from error
    return dict(sorted(done.items()))
