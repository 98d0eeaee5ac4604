"""Several runs as one HTML page: a table to sort, and two charts for each dataset."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from jdd.report import web
from jdd.report.charts import Point, chart
from jdd.report.results import stored
from jdd.runs.result import RunResult

Numbered = Sequence[tuple[int, RunResult]]  # runs with their numbers in the table


def write_several(results: Sequence[RunResult], path: Path) -> Path:
    """Writes a page that compares finished runs.

    Raises:
      UserError: the page cannot be written.
    """
    names = ("#", "method", "dataset", "images per class", "seed", "accuracy", "random", "plain",
             "minutes", "numbers stored")  # fmt: skip
    runs = list(enumerate(results, 1))
    rows = [list(_row(*run)) for run in runs]
    numbers = [cell["kind"].startswith("number") for cell in rows[0]]
    datasets = dict.fromkeys(run.dataset for run in results)
    return web.write(
        path,
        "several.html.j2",
        title=f"{len(results)} run{'s' * (len(results) > 1)}",
        sections=[_section(name, [r for r in runs if r[1].dataset == name]) for name in datasets],
        heads=[{"name": n, "number": number} for n, number in zip(names, numbers, strict=True)],
        rows=rows,
        commands=[
            (f"{number}. {web.title(run)}, seed {run.seed}", run.command)
            for number, run in runs
            if run.command
        ],
    )


def _section(dataset: str, runs: Numbered) -> dict[str, Any]:
    """The charts of the runs on a dataset, and what they leave out."""
    axes: tuple[tuple[str, Callable[[RunResult], float], str], ...] = (
        ("seconds of distilling", lambda run: 60 * run.minutes, "there were none"),
        ("numbers stored", lambda run: stored(run) or 0, "the result does not say them"),
    )
    has_one_ipc = len({run.ipc for _, run in runs}) == 1
    charts, left_out = [], []
    for axis, of, why in axes:
        points = [
            Point(
                of(run),
                100 * run.best.accuracy.mean,
                f"{number}. {web.title(run)}, seed {run.seed}: {run.best.accuracy}",
                run.label if has_one_ipc else f"{run.label}, ipc {run.ipc}",
            )
            for number, run in runs
        ]
        charts.append(chart(points, axis, "test accuracy, %", joined=False, logarithmic=True))
        if missing := [f"run {number}" for number, run in runs if of(run) <= 0]:
            left_out.append(f"Not in the chart of {axis}, as {why}: {', '.join(missing)}.")
    made = [each for each in charts if each is not None]
    if any(len(each.names) < len(each.points) for each in made):
        left_out.append("A dot without a name has no room for one: point at it to see which it is.")
    return {"name": dataset, "charts": made, "left_out": left_out}


def _row(number: int, run: RunResult) -> Iterator[dict[str, Any]]:
    """The cells of a run: what is shown, what it is sorted by, and how it is set."""
    accuracy, numbers = run.best.accuracy, stored(run) or 0
    yield {"text": number, "sort": number, "kind": "number"}
    yield {"text": run.label, "sort": run.label, "kind": "keep"}
    yield {"text": run.dataset, "sort": run.dataset, "kind": "keep"}
    yield {"text": run.ipc, "sort": run.ipc, "kind": "number"}
    yield {"text": run.seed, "sort": run.seed, "kind": "number"}
    yield {"text": str(accuracy), "sort": round(accuracy.mean, 5), "kind": "number keep"}
    for other in (run.random, run.plain):
        text = "–" if other is None else f"{100 * other.mean:.1f} %"
        yield {"text": text, "sort": 0.0 if other is None else other.mean, "kind": "number keep"}
    yield {"text": f"{run.minutes:.1f}", "sort": round(run.minutes, 3), "kind": "number"}
    yield {"text": f"{numbers:,}" if numbers else "–", "sort": numbers, "kind": "number"}
