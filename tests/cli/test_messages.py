"""Exit codes and messages of the command line: what a user sees when something is wrong."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sse_diffusion import __version__, cli
from sse_diffusion.core.errors import DataError


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch):
    """Replace `sse doctor` by a function of the test, through the real dispatch."""

    def _install(function) -> None:
        monkeypatch.setattr(cli, "stand_in", function, raising=False)
        monkeypatch.setitem(cli.VERBS, "train", ("sse_diffusion.cli:stand_in", "stand-in"))

    return _install


def test_help_lists_every_verb_and_is_quick() -> None:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "sse_diffusion.cli", "--help"], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    assert all(f"  {name} " in done.stdout for name in cli.VERBS)
    assert seconds < 3.0  # 0.05 s alone; the bound only catches an import of torch


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, sse_diffusion.cli as c; c.main(['--help']); sys.exit(bool({'torch', 'hydra', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"sse-diffusion {__version__}\n"


@pytest.mark.parametrize("name", list(cli.VERBS))
def test_help_of_every_verb_shows_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"sse {name} [key=value ...]") and "Options and their defaults" in out and "out:" in out


def test_unknown_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["desing"]) == 2
    assert "unknown verb 'desing'" in (text := capsys.readouterr().err) and "did you mean 'design'?" in text


def test_unknown_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--fast"]) == 2
    assert "unknown flag '--fast'" in capsys.readouterr().err


def test_unknown_option_goes_to_stderr_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "trainer.max_step=3"]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    assert "did you mean 'trainer.max_steps'?" in captured.err


def test_a_verb_gets_its_configuration_and_prints_its_result(verb, out_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(config) -> int:
        out_dir.mkdir()
        (out_dir / "summary.json").write_text('{"sampled": 256, "rate": 0.123456, "seconds": {"sample": 1}}')
        return 0 if config.trainer.max_steps == 5 else 1

    verb(run)
    assert cli.main(["train", "trainer.max_steps=5", f"out={out_dir}"]) == 0
    out = capsys.readouterr().out
    assert "sampled  256" in out and "rate     0.1235" in out and f"results: {out_dir}" in out


def test_a_user_error_is_a_message_and_exit_2(verb, out_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(config) -> int:
        raise DataError("a.csv has no column 'a'", "rename it")

    verb(run)
    assert cli.main(["train", f"out={out_dir}"]) == 2
    assert capsys.readouterr().err == "error: a.csv has no column 'a'\n  -> rename it\n"


def test_interruption_names_the_command_that_resumes(verb, out_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(config) -> int:
        raise KeyboardInterrupt

    verb(run)
    assert cli.main(["train", f"out={out_dir}"]) == 130
    assert f"sse train out={out_dir}" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_full_or_read_only_disk_is_a_message(number: int, verb, out_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(config) -> int:
        raise OSError(number, "no way", str(out_dir / "a.csv"))

    verb(run)
    assert cli.main(["train", f"out={out_dir}"]) == 2
    assert f"cannot write {out_dir / 'a.csv'}: no way" in capsys.readouterr().err


def test_an_output_folder_below_a_file_is_refused_before_the_run(
    verb, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []
    verb(calls.append)
    (tmp_path / "taken").write_text("keep me")
    assert cli.main(["train", f"out={tmp_path / 'taken' / 'run'}"]) == 2
    assert "is a file, not a folder" in capsys.readouterr().err and not calls
    assert (tmp_path / "taken").read_text() == "keep me"


def test_an_unexpected_error_keeps_its_traceback(verb, out_dir: Path) -> None:
    def run(config) -> int:
        raise ZeroDivisionError

    verb(run)
    with pytest.raises(ZeroDivisionError):
        cli.main(["train", f"out={out_dir}"])


def test_doctor_prints_a_table(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["doctor", "checkpoint=nowhere"])
    out = capsys.readouterr().out
    assert code == 1 and "fail  checkpoint" in out and "ok    python" in out
    assert list(in_tmp.iterdir()) == []  # it looks, it does not touch


def test_doctor_data_checks_a_column(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_tmp / "hardness_GPa.yaml").write_text("unit: GPa\nkind: continuous\nlow: 0\nhigh: 100\n")
    cell = '3,3,3,90,90,90,"[0, 0, 0]",[11]'
    table = "material_id,a,b,c,alpha,beta,gamma,frac_coords,atomic_numbers,hardness_GPa\n" + f"x,{cell},5\ny,{cell},900\n"
    (in_tmp / "crystals.csv").write_text(table)
    code = cli.main(["doctor", "data", "+condition=hardness_GPa.yaml", "data.path=crystals.csv", "data.progress=false"])
    out = capsys.readouterr().out
    assert code == 1 and "1/2 outside 0 to 100" in out and "y (900)" in out
    assert cli.main(["doctor", "data", "data.path=crystals.csv"]) == 2
    assert cli.main(["doctor", "data", "+condition=hardness_GPa.yaml"]) == 2
    assert "data.path=" in capsys.readouterr().err


def test_doctor_data_checks_a_labelled_table(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (in_tmp / "t.csv").write_text("formula,sigma (S/cm)\nLi2O,1e-3\nLi4O2,1e-5\nLiF,<1E-10\n")
    label = "hygiene.label='sigma (S/cm)'"
    assert cli.main(["doctor", "data", "hygiene.path=t.csv", label, "hygiene.log10=true", "hygiene.composition=formula"]) == 0
    out = capsys.readouterr().out
    assert "1 are upper limits" in out and "2 rows repeat 1 keys" in out and "0, 1 differ by 2" in out


def test_ions_without_a_framework_are_refused(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sample", "fix.remove=Li", "out=here"]) == 2
    assert "fix.structure=framework.cif" in capsys.readouterr().err


def test_a_reader_that_leaves_early_is_no_error():
    import os
    import subprocess
    import sys

    unread, pipe = os.pipe()
    os.close(unread)
    command = [sys.executable, "-m", "sse_diffusion.cli", "explain", "--help"]  # short: it waits in the buffer until the end
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False, env=buffered)
    os.close(pipe)
    assert done.returncode == 0 and "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr
