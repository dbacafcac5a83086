"""Hashes are those of the bytes and of the content, not of the order or the block size."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sse_diffusion import __version__
from sse_diffusion.core.provenance import git_commit, hash_of_config, package_versions, sha256_of_file


def test_file_hash_over_several_blocks(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192  # 2 MiB: more than one block
    path = tmp_path / "weights.bin"
    path.write_bytes(content)
    assert sha256_of_file(path) == hashlib.sha256(content).hexdigest()


def test_config_hash_ignores_order_but_not_values() -> None:
    assert hash_of_config({"a": 1, "b": {"c": 2, "d": 3}}) == hash_of_config({"b": {"d": 3, "c": 2}, "a": 1})
    assert hash_of_config({"a": 1}) != hash_of_config({"a": 2})
    assert len(hash_of_config({})) == 16


def test_versions_name_this_package_and_torch() -> None:
    versions = package_versions()
    assert versions["torch"].startswith("2.")
    assert versions["sse-diffusion"] == __version__


def test_commit_is_a_hash_or_says_unknown() -> None:
    commit = git_commit()
    assert commit == "unknown" or len(commit.removesuffix("+dirty")) == 40
