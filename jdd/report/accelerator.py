"""The table of what was measured of an accelerator."""

from collections.abc import Mapping, Sequence
from typing import Any

from jdd.report import benchmark
from jdd.report.outcome import percent, table

_HEAD = ("part", "result", "minutes", "left out")
_RUNS = ("run", "test accuracy, %", "of", "updates", "distilling, s")
WIDTH, TRIAL_WIDTH = 128, 8


def page(parts: Mapping[str, Mapping[str, Any]], commands: Sequence[str]) -> str:
    """A line for each part, then their tables.

    Args:
      parts: by name, as `jdd.benchmarks.accelerator` stores them.
      commands: of runs that no part makes.
    """
    first = next(iter(parts.values()))
    title = f"{first['machine']}, jdd {first['version']}, {first['date']}"
    if first["trial"]:
        title += ". A TRIAL at the smallest sizes: nothing here is a measurement"
    rows = [
        [name, _in_words(part), f"{part['seconds'] / 60:.1f}", _left_out(part)]
        for name, part in parts.items()
    ]
    lines = [title, "", table(_HEAD, rows)]
    for name, part in parts.items():
        notes = [f"{name}: {note}" for note in part["notes"]]
        if part.get("cases"):
            width = TRIAL_WIDTH if part["trial"] else WIDTH
            lines += ["", f"{name}: " + benchmark.page(width, part["machine"], part["cases"])]
        if part.get("rows"):
            lines += ["", table(_RUNS, [_run(row) for row in part["rows"]])]
        lines += ["", *notes] if notes else []
    lines += ["", "The rest is made by:", "", "```", *commands, "```"]
    return "\n".join(lines) + "\n"


def _in_words(part: Mapping[str, Any]) -> str:
    if "passed" in part:
        words = f"{part['passed']} tests passed, {len(part['failed'])} failed"
        return words + (f", {part['skipped']} skipped" if part["skipped"] else "")
    if "cases" in part:
        rows = part["cases"]
        ratios = [f"{n} {row['peer']['ratio']:.2f}" for n, row in rows.items() if "peer" in row]
        if ratios:
            return f"PyTorch / jdd: {', '.join(ratios)}"
        seconds = [f"{name} {row['seconds_per_step']:.3g}" for name, row in rows.items()]
        return f"s a step: {', '.join(seconds)}"
    tested = [row for row in part.get("rows", ()) if "accuracy_mean" in row]
    return ", ".join(f"{_name(row)} {_accuracy(row)} %" for row in tested) or "nothing"


def _left_out(part: Mapping[str, Any]) -> str:
    failed = [f"{name} FAILED" for name in part["failed"]]
    return ", ".join([*failed, *part["left_out"]]) or "nothing"


def _run(row: Mapping[str, Any]) -> list[str]:
    seconds = f"{row['distilling_seconds']:.0f}" if "distilling_seconds" in row else "–"
    updates = f"{row['iterations']} of {row['of']}"
    accuracy = _accuracy(row) if "accuracy_mean" in row else "–"
    return [_name(row), accuracy, row.get("tested", "–"), updates, seconds]


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['method']}-{row['ipc']}"


def _accuracy(row: Mapping[str, Any]) -> str:
    return percent(row["accuracy_mean"], row["accuracy_std"])
