"""Accuracy against time and against storage, as pictures."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from jdd.report import plots
from jdd.report.results import grouped, stored
from jdd.runs.result import RunResult

_BEST_OF = "validation accuracy so far, %"
_STORED = "numbers stored"
_MINUTES = "minutes of distilling, experts included"


def cells(results: Sequence[RunResult]) -> dict[tuple[str, int], list[RunResult]]:
    """The runs that a curve is known of, by dataset and images per class; one of each `label`.

    It is that from real images with the lowest seed.
    """
    by_cell: dict[tuple[str, int], dict[str, RunResult]] = {}
    for run in sorted(results, key=lambda run: (run.method, run.seed)):
        if len(run.curve) > 1 and run.init == "real" and run.choose == "validation":
            by_cell.setdefault((run.dataset, run.ipc), {}).setdefault(run.label, run)
    return {cell: list(runs.values()) for cell, runs in sorted(by_cell.items())}


def picture(runs: Sequence[RunResult], peers: Mapping[str, float]) -> Figure:
    """The best validation accuracy so far against seconds, with experts' training; one machine.

    Args:
      runs: of one dataset and number of images per class, one of each method.
      peers: method → how many times as long PyTorch takes; its curve is drawn lightly.
    """
    series, slower = {}, {}
    for run in runs:
        if run.method in peers:  # however its set is stored: that is a small part of its time
            slower[run.label] = peers[run.method]
        seconds = [run.expert_seconds + look.seconds for look in run.curve]
        best = [max(look.accuracy for look in run.curve[: i + 1]) for i in range(len(run.curve))]
        # The untouched start has no time on a logarithmic axis: it is left out.
        series[run.label] = (seconds[1:], [100 * value for value in best[1:]])
    first = runs[0]
    words = f"{first.dataset}, {first.ipc} image{'s' * (first.ipc > 1)} per class"
    light = f"\nlight: at PyTorch's speed (time × {_range(slower.values())})" if slower else ""
    return plots.races(series, slower, _BEST_OF, f"{words}, {_machines(runs)}{light}")


def choice(results: Sequence[RunResult]) -> Figure | None:
    """Test accuracy against what is stored and against minutes, a row for each dataset.

    A point is a method at a number of images per class; one line joins a method's points. Returns
    None where there is no run.
    """
    rows: dict[str, dict[str, dict[str, list[plots.Point]]]] = {}
    for group in grouped(results):
        first = group[0]
        if first.init != "real" or first.choose != "validation":
            continue
        accuracy = 100 * float(np.mean([v for run in group for v in run.best.accuracy.values]))
        minutes = max(run.minutes for run in group)
        against = {_STORED: stored(first) or 0, _MINUTES: minutes}
        row = rows.setdefault(first.dataset, {_STORED: {}, _MINUTES: {}})
        for what, x in against.items():
            if x > 0:  # not known; or random images, which take no time
                row[what].setdefault(first.label, []).append((float(x), accuracy))
    title = "What a method reaches: one point for each number of images per class"
    return plots.panels(rows, "test accuracy, %", title) if rows else None


def _machines(runs: Sequence[RunResult]) -> str:
    """ "1 CPU core or 2 CPU cores, x86_64, JAX 0.10.2"."""
    parts = sorted(run.machine.partition(", ")[::2] for run in runs)
    return ", ".join(" or ".join(dict.fromkeys(words)) for words in zip(*parts, strict=True))


def _range(ratios: Collection[float]) -> str:
    ends = f"{min(ratios):.1f}", f"{max(ratios):.1f}"
    return " to ".join(dict.fromkeys(ends))
