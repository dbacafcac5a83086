"""The table of docs/ablations.md from results/ablations.json.

python benchmarks/ablation_table.py [core_minutes=4]
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import yaml
from ablation import Job, read_rows
from measure import options

LOSSES = ("coordinates", "cell", "species", "wyckoff", "group")
RATES = {
    "match_rate": "matched",
    "match_rate_rmse_0.1": "RMSE < 0.1",
    "match_rate_up_to_8": "N <= 8",
    "match_rate_9_to_20": "N > 8",
}


def noise(rows: dict[str, list[Job]]) -> dict[str, float]:
    """Standard deviation of each loss from seed to seed, pooled over the variants with several."""
    several = [runs for runs in rows.values() if len(runs) > 1]
    pooled = {}
    for name in LOSSES:
        squares = [(run["val"][name] - np.mean([r["val"][name] for r in runs])) ** 2 for runs in several for run in runs]
        freedom = sum(len(runs) - 1 for runs in several)
        pooled[name] = float(np.sqrt(sum(squares) / freedom)) if freedom else float("nan")
    return pooled


def losses(runs: list[Job], name: str) -> str:
    """Mean over seeds, and half the range when there are several."""
    values = [run["val"][name] for run in runs]
    spread = f" ± {np.ptp(values) / 2:.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"


def rate(runs: list[Job], key: str) -> str:
    """k/n of all seeds together with its 95 % interval in percent (the same crystals: seeds do not make it narrower)."""
    runs = [run for run in runs if f"{key}_k" in run]
    if not runs:
        return "not run"
    low, high = zip(*(run[f"{key}_ci95"] for run in runs), strict=True)
    counts = " ".join(f"{run[f'{key}_k']}/{run[f'{key}_n']}" for run in runs)
    return f"{counts} ({100 * np.mean(low):.0f}-{100 * np.mean(high):.0f} %)"


def table(rows: dict[str, list[Job]], order: list[str]) -> str:
    """Markdown."""
    heads = ["variant", "overrides", "seeds", "CPU s", "steps", "crystals seen", *LOSSES, *RATES.values(), "RMSE"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name in order:
        runs = rows[name]
        rmse = " ".join(f"{run['rmse']:.2f}" if run.get("rmse") is not None else "-" for run in runs)
        cells = [
            name, " ".join(f"`{o}`" for o in runs[0]["overrides"]), ", ".join(str(run["seed"]) for run in runs),
            " ".join(f"{run['cpu_seconds']:.0f}" for run in runs), f"{np.mean([run['steps'] for run in runs]):.0f}",
            f"{np.mean([run['crystals_seen'] for run in runs]) / 1000:.1f} k",
            *(losses(runs, loss) for loss in LOSSES), *(rate(runs, key) for key in RATES), rmse,
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Print the table and the noise."""
    asked = options(arguments, core_minutes="4", plan=str(Path(__file__).with_name("ablations.yaml")))
    rows: dict[str, list[Job]] = defaultdict(list)
    for row in sorted(read_rows(), key=lambda row: row["seed"]):
        if row["core_minutes"] == float(asked["core_minutes"]):
            rows[row["variant"]].append(row)
    order = [name for name in yaml.safe_load(Path(asked["plan"]).read_text()) if name in rows]
    print(table(rows, order))
    print("\nfrom seed to seed:", ", ".join(f"{name} {value:.3f}" for name, value in noise(rows).items()))


if __name__ == "__main__":
    main(sys.argv[1:])
