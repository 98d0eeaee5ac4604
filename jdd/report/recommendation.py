"""Which method to take: what RESULTS.md measured, and the command that it speaks for.

`measured.json`, next to this file, is written by `results.py --measured`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jdd import files
from jdd.errors import SettingError, UserError
from jdd.report.outcome import percent
from jdd.report.results import grouped
from jdd.runs.result import RunResult

MEASURED = Path(__file__).with_name("measured.json")


def rows(results: Sequence[RunResult]) -> list[dict[str, Any]]:
    """What is known of each row of the tables that a command can make again, as plain JSON."""
    measured = []
    for group in grouped(results):
        first, accuracies = group[0], [v for run in group for v in run.best.accuracy.values]
        if first.command and first.init == "real" and first.choose == "validation":
            measured.append(
                {
                    "dataset": first.dataset,
                    "ipc": first.ipc,
                    "method": first.method,
                    "accuracy": round(float(np.mean(accuracies)), 6),
                    "std": round(float(np.std(accuracies)), 6),
                    "minutes": round(max(run.minutes for run in group), 2),
                    "factor": int(first.storage.get("factor", 1)),
                    "machine": first.machine,
                    "command": first.command,
                }
            )
    return measured


def recommend(
    measured: Sequence[dict[str, Any]], dataset: str, ipc: int, minutes: float
) -> dict[str, Any]:
    """The row of highest accuracy that takes no longer than `minutes`.

    Args:
      measured: from `rows`.
      dataset: whose.
      ipc: images per class.
      minutes: of distilling, experts and evaluation on the validation split included.

    Raises:
      UserError: nothing was measured for the dataset.
      SettingError: for this number of images per class, or nothing that is as fast.
    """
    of_dataset = [row for row in measured if row["dataset"] == dataset]
    if not of_dataset:
        datasets = ", ".join(sorted({row["dataset"] for row in measured}))
        raise UserError(f"no method was measured on {dataset}, only on {datasets or 'nothing'}")
    of_size = [row for row in of_dataset if row["ipc"] == ipc]
    if not of_size:
        counts = ", ".join(map(str, sorted({row["ipc"] for row in of_dataset})))
        raise SettingError("ipc", ipc, f"{dataset} was measured at {counts} per class")
    fast = [row for row in of_size if row["minutes"] <= minutes]
    if not fast:
        least = min(of_size, key=lambda row: row["minutes"])
        words = f"the fastest measured is {least['method']}, {least['minutes']:.1f} minutes"
        raise SettingError("minutes", minutes, words)
    return max(fast, key=lambda row: row["accuracy"])


def in_words(row: dict[str, Any]) -> str:
    """The command, and what to expect of it."""
    command = row["command"].replace(" --eval-plain", "").replace(" --full-data-epochs 0", "")
    return (
        f"{command}\n"
        f"expected: {percent(row['accuracy'], row['std'])} % on test images, "
        f"{row['minutes']:.1f} minutes of distilling on {row['machine']}"
    )


def stored() -> list[dict[str, Any]]:
    """The rows that this jdd came with."""
    measured: list[dict[str, Any]] = files.read_json(MEASURED)
    return measured
