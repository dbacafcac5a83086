"""The command line: ``sse <verb> [key=value ...]``. The only place that prints, sets up logging and chooses exit codes.

Exit codes: 0 done; 1 the verb reports failure, or an unexpected error (with traceback); 2 the user can mend it (message and
hint on stderr); 130 interrupted.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sse_diffusion import __version__
from sse_diffusion.core.errors import ConfigError, OutputError, SSEError, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from sse_diffusion.core.doctor import Check

DOCTOR_DATA = "doctor_data"
VERBS: dict[str, tuple[str, str]] = {
    "train": ("sse_diffusion.diffusion.train:run_train", "train the diffusion model, or a predictor (experiment=predictor_...)"),
    "sample": ("sse_diffusion.diffusion.sample:run_sample", "sample crystals under conditions and hard chemistry"),
    "predict": ("sse_diffusion.predictors.predict:run_predict", "properties of given crystals or formulas, with intervals"),
    "tilt": ("sse_diffusion.design.tilt_run:run_tilt", "weigh crystals of a formula by a force field's free energy at (T, P)"),
    "evaluate": (
        "sse_diffusion.design.evaluation.evaluate:run_evaluate",
        "the field's numbers for a checkpoint or for given crystals",
    ),
    "verify": ("sse_diffusion.verification.verify:run_verify", "validity, relaxation, hull and MD gate of given structures"),
    "design": ("sse_diffusion.design.pipeline:run_design", "ask, sample, screen, relax, place on the hull, test by MD, report"),
    "report": ("sse_diffusion.report.page:run_report", "write the HTML page of a run folder again"),
    "explain": ("sse_diffusion.design.explain:run_explain", "say in words what happened to one candidate of a run"),
    "doctor": ("sse_diffusion.cli:run_doctor", "check this installation: packages, checkpoint, disk, force field"),
    DOCTOR_DATA: ("sse_diffusion.cli:run_doctor_data", "check a column to condition on, with its file (also: sse doctor data)"),
}
"""Verb -> (function imported when the verb is called, one-line help)."""

FLAGS = ("--help", "--version", "--debug")
RESULT_FILES = ("summary.json", "verification.json", "model/metrics.json")
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the ``sse`` command.

    Args:
        argv: arguments without the program name; ``None`` takes them from ``sys.argv``.

    Returns:
        The exit code.
    """
    arguments = _key_values(sys.argv[1:] if argv is None else argv)
    flags = {a for a in arguments if a.startswith("-") and "=" not in a}
    words = [a for a in arguments if a not in flags]
    if "--version" in flags:
        print(f"sse-diffusion {__version__}")
        return 0
    if not words:
        print(_usage())
        return 0 if flags & {"-h", "--help"} or not arguments else 2
    verb, *overrides = words
    if words[:2] == ["doctor", "data"]:
        verb, overrides = DOCTOR_DATA, words[2:]
    set_up_logging(debug="--debug" in flags)
    return guarded(lambda: _dispatch(verb, overrides, flags), f"sse {shlex.join(arguments)}")


def _key_values(arguments: Sequence[str]) -> list[str]:
    """Options in the spelling of Hydra: ``--budget 2h`` as ``budget=2h``, the path in ``sse verify path`` as ``input=path``."""
    spelled: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word.startswith("--") and "=" in word:
            word = word[2:]
        elif word.startswith("--") and word not in FLAGS and words and not words[0].startswith("-") and "=" not in words[0]:
            word = f"{word[2:]}={words.pop(0)}"
        elif spelled[:1] == ["verify"] and word[:1] not in "-~" and "=" not in word:
            word = f"input={word}"
        spelled.append(word)
    return spelled


def run_verb(verb: str, config: DictConfig) -> int:
    """Run a verb on a composed configuration (what ``scripts/*.py`` call); same messages and exit codes as the command."""
    set_up_logging(debug=False)
    return guarded(lambda: _run(verb, config), shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]))


def guarded(action: Callable[[], int], command: str) -> int:
    """Call ``action`` and turn errors that the user can mend into one message on stderr and an exit code."""
    try:
        code = action()
        sys.stdout.flush()
        return code
    except SSEError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\ninterrupted. What was finished is kept; the same command goes on from there:\n  {command}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head`: nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        where = error.filename or "the output folder"
        print(
            f"error: cannot write {where}: {error.strerror}\n  -> choose another folder with out=DIR, or free it", file=sys.stderr
        )
        return 2


def set_up_logging(debug: bool) -> None:
    """On stderr: this package from INFO up, others from WARNING; ``debug`` shows everything, Python warnings included."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _ProgressSafeHandler)]:
        root.removeHandler(handler)
    handler = _ProgressSafeHandler()
    handler.addFilter(lambda record: debug or record.levelno >= logging.WARNING or record.name.startswith("sse_diffusion"))
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S"))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.getLogger("sse_diffusion").setLevel(logging.DEBUG if debug else logging.INFO)
    logging.captureWarnings(not debug)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)


class _ProgressSafeHandler(logging.Handler):
    """Writes to stderr without tearing a tqdm bar that is being drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print above the bar, when there is one."""
        message = self.format(record)
        if "tqdm" in sys.modules:
            sys.modules["tqdm"].tqdm.write(message, file=sys.stderr)
        else:
            print(message, file=sys.stderr)


def _dispatch(verb: str, overrides: list[str], flags: set[str]) -> int:
    unknown = flags - {"-h", "--help", "--debug"}
    if verb not in VERBS:
        raise ConfigError(f"unknown verb {verb!r}", did_you_mean(verb, VERBS))
    if unknown:
        raise ConfigError(
            f"unknown flag {sorted(unknown)[0]!r}",
            "options are written key=value, without dashes; flags: --help --debug --version",
        )
    from sse_diffusion.core import compose

    root, overrides = compose.root_of(verb, overrides)
    if flags & {"-h", "--help"}:
        print(f"sse {verb} [key=value ...] [--debug]\n\n{compose.describe(root)}")
        return 0
    return _run(verb, compose.compose(root, overrides))


def _run(verb: str, config: DictConfig) -> int:
    from importlib import import_module

    from sse_diffusion.core import compose, doctor
    from sse_diffusion.core.task import TASK, run_task

    compose.require_filled(verb, config)
    out = Path(str(config["out"])) if config.get("out") else None
    if verb == "doctor":
        return run_doctor(config)  # it reports a bad output folder as one line among others
    if out is not None and (problem := doctor.why_not_writable(out)):
        raise OutputError(f"cannot write results to {out}: {problem}", "choose another folder with out=DIR")
    if verb == "train" and config.get(TASK):
        return _finish(run_task(config, ignore=map(str, compose.compose(verb))), out)
    module, _, name = VERBS[verb][0].partition(":")
    result = getattr(import_module(module), name)(config)
    return _finish(result, out)


def _finish(result: Any, out: Path | None) -> int:
    """Print what a verb returned, or the flat numbers of its result file; return the exit code."""
    if any(os.environ.get(name, "0") != "0" for name in ("LOCAL_RANK", "SLURM_PROCID")):
        return result if isinstance(result, int) else 0  # one of several processes: the first one speaks
    if isinstance(result, str):
        print(result)
        return 0
    if isinstance(result, Mapping):
        _print_flat(result)
        return 0
    if out is not None and out.is_dir():
        for file in (out / name for name in RESULT_FILES):
            if file.is_file():
                _print_flat(json.loads(file.read_text(encoding="utf-8")))
                break
        print(f"results: {out}{os.sep}")
    return int(result or 0)


def _print_flat(numbers: Any) -> None:
    """The scalar entries of a mapping, one per line; nested ones stay in their file."""
    if not isinstance(numbers, Mapping):
        return
    flat = {k: v for k, v in numbers.items() if isinstance(v, (int, float, str)) and len(str(v)) <= 80}
    width = max((len(k) for k in flat), default=0)
    for key, value in flat.items():
        print(f"  {key:<{width}}  {f'{value:.4g}' if isinstance(value, float) else value}")


def run_doctor(config: DictConfig) -> int:
    """Print the table of checks; 1 when one failed."""
    from sse_diffusion.core import doctor

    data_path = Path(str(config["data_path"])) if config["data_path"] else None
    checks = doctor.check_all(Path(str(config["out"])), Path(str(config["checkpoint"])), data_path)
    if config["engine"]:
        checks.append(_check_engine())
    return _print_checks(checks)


def run_doctor_data(config: DictConfig) -> int:
    """Check a labelled table (hygiene.path=...), or one of its columns against the file that makes it a condition; 1 when a check
    failed."""
    from sse_diffusion.core.config import build, plain
    from sse_diffusion.data.hygiene_report import HygieneConfig, check_table
    from sse_diffusion.data.sources import load_source
    from sse_diffusion.thermo.own_condition import OwnCondition, check_labels

    if config["hygiene"].get("path"):
        return _print_checks(check_table(build(HygieneConfig, plain(config["hygiene"]))))
    if not config.get("condition"):
        hint = (
            "add +condition=my_property.yaml (docs/add_a_property.md), or hygiene.path=TABLE hygiene.label=COLUMN (docs/data.md)"
        )
        raise ConfigError("nothing to check is given", hint)
    if not config["data"].get("path") and config["data"].get("kind") == "table":
        raise ConfigError("no table is given", "add data.path=my_crystals.parquet, or data=mp")
    own = OwnCondition.read(str(config["condition"]))
    rows = load_source(own.source(plain(config["data"]))).rows
    return _print_checks(check_labels(own, [row.labels for row in rows], [row.id for row in rows]))


def _print_checks(checks: Sequence[Check]) -> int:
    for check in checks:
        advice = f"  -> {check.advice}" if check.advice else ""
        print(f"{check.level:<5} {check.name:<18} {check.found}{advice}")
    failed = sum(check.level == "fail" for check in checks)
    print("nothing failed" if not failed else f"{failed} check(s) failed")
    return 1 if failed else 0


def _check_engine() -> Any:
    """Load the default force field, which runs its known-answer test."""
    from sse_diffusion.core.compose import compose
    from sse_diffusion.core.doctor import Check
    from sse_diffusion.verification.potential import load_potential

    try:
        engine = load_potential(compose("verify")["verification"]["engine"])
    except SSEError as error:
        return Check("force field", "fail", error.message, error.hint)
    return Check("force field", "ok", f"{engine.info.name} {engine.info.version}: known answers reproduced")


def _usage() -> str:
    lines = ["sse <verb> [key=value ...]    inverse design of solid-state electrolytes", ""]
    lines += [f"  {verb:<9} {text}" for verb, (_, text) in VERBS.items()]
    lines += ["", "sse <verb> --help lists its options and config groups; sse --version; --debug shows everything logged.",
              "First run: sse design out=outputs/demo"]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
