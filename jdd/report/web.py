"""A run, or several, as one HTML page that needs no network: `report.html`."""

import base64
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from jdd import files
from jdd.errors import UserError
from jdd.methods import registry
from jdd.report.charts import Point, chart
from jdd.report.console import duration
from jdd.runs.directory import read_settings
from jdd.runs.result import RunResult

NAME = "report.html"
_LOSS = ("iteration", "loss")
_MOST_FRAMES, _MOST_POINTS = 40, 300
_OF_EXPERTS = ("experts", "difficulty")  # settings that a run without experts has, too


class Frame(NamedTuple):
    """A picture of the set, and what it shows."""

    source: str
    words: str


def write_run(out: Path) -> Path:
    """Writes `report.html` of a finished run into its directory.

    Raises:
      UserError: the run is not finished, or the page cannot be written.
    """
    result = RunResult.load(out / "result.json")
    settings = dict(read_settings(out / "settings.json"))
    charts = [
        chart(
            [
                Point(k.iteration, 100 * k.accuracy, f"{100 * k.accuracy:.1f} %")
                for k in result.curve
            ],
            "updates",
            "validation accuracy, %",
        ),
        chart(_losses(out / "metrics.jsonl"), "updates", "loss", dots=False),
    ]
    return _write(
        out / NAME,
        "run.html.j2",
        title=_title(result),
        facts=[
            f"{result.images} stored images", f"from {result.init}", f"preset {result.preset}",
            f"seed {result.seed}", result.machine, f"jdd {result.version}", result.date,
        ],
        accuracy=str(result.best.accuracy),
        networks=len(result.best.accuracy.values),
        network=result.network,
        note=result.note,
        frames=[frame._asdict() for frame in _frames(out / "images", result)],
        charts=[made for made in charts if made is not None],
        compared=list(_compared(result)),
        cost=list(_cost(result)),
        commands=list(_commands(result, out)),
        settings=list(_settings(settings, result)),
    )  # fmt: skip


def up_to_date(out: Path) -> Path:
    """A finished run's `report.html`, written where it is missing or older than the result."""
    page, result = out / NAME, out / "result.json"
    if page.is_file() and page.stat().st_mtime_ns >= result.stat().st_mtime_ns:
        return page
    return write_run(out)


def write_several(results: Sequence[RunResult], path: Path) -> Path:
    """Writes a page that compares finished runs: a table to sort, two charts.

    Raises:
      UserError: the page cannot be written.
    """

    def points(x: Any) -> list[Point]:
        return [
            Point(
                x(run),
                100 * run.best.accuracy.mean,
                f"{_title(run)}: {run.best.accuracy}",
                run.method,
            )
            for run in results
        ]

    scatter = {"joined": False, "logarithmic": True}
    charts = [
        chart(
            points(lambda r: 60 * r.minutes), "seconds of distilling", "test accuracy, %", **scatter
        ),
        chart(
            points(lambda r: r.stored() or 0),
            "numbers stored",
            "test accuracy, %",
            **scatter,
        ),
    ]
    names = ("method", "dataset", "images per class", "seed", "accuracy", "random", "plain",
             "minutes", "numbers stored", "command")  # fmt: skip
    rows = [list(_row(run)) for run in results]
    numbers = [cell["kind"].startswith("number") for cell in rows[0]]
    return _write(
        path,
        "several.html.j2",
        title=f"{len(results)} runs",
        charts=[made for made in charts if made is not None],
        heads=[{"name": n, "number": number} for n, number in zip(names, numbers, strict=True)],
        rows=rows,
    )


def _write(path: Path, template: str, **values: Any) -> Path:
    environment = Environment(
        loader=PackageLoader("jdd.report"), autoescape=True, undefined=StrictUndefined
    )
    text = environment.get_template(template).render(**values)
    try:
        files.write_text(path, text)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror})") from None
    return path


def _title(result: RunResult) -> str:
    return f"{result.method} on {result.dataset}, {result.ipc} per class"


def _frames(folder: Path, result: RunResult) -> list[Frame]:
    """The pictures at each evaluation, thinned out, and the best set's last."""
    paths = sorted(path for path in folder.glob("*.png") if path.stem.isdigit())
    step = -(-len(paths) // _MOST_FRAMES) or 1
    known = {look.iteration: look.accuracy for look in result.curve}
    frames = []
    for path in paths[::step]:
        accuracy = known.get(int(path.stem))
        words = f"iteration {int(path.stem)}"
        if accuracy is not None:
            words += f": {100 * accuracy:.1f} % on validation"
        frames.append(Frame(_embedded(path), words))
    if (folder / "best.png").is_file():
        frames.append(Frame(_embedded(folder / "best.png"), f"best: {result.best.accuracy}"))
    return frames


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(files.read_bytes(path)).decode()


def _losses(path: Path) -> list[Point]:
    """Loss by iteration from `metrics.jsonl`, thinned out; damaged lines are passed over."""
    found = {}
    for _, row in files.read_lines(path) if path.exists() else ():
        iteration, loss = (row.get(k) if isinstance(row, dict) else None for k in _LOSS)
        if isinstance(iteration, int) and isinstance(loss, (int, float)):
            found[iteration] = float(loss)
    rows = sorted(found.items())
    return [Point(*row) for row in rows[:: -(-len(rows) // _MOST_POINTS) or 1]]


def _compared(result: RunResult) -> Iterator[tuple[str, str]]:
    yield "the best set", str(result.best.accuracy)
    if result.final.iteration != result.best.iteration:
        yield "the set of the last iteration", str(result.final.accuracy)
    if result.plain is not None:
        yield "the best set, hard labels, no augmentation", str(result.plain)
    if result.random is not None:
        yield "random real images in the same storage", str(result.random)
    if result.full_data is not None:
        yield f"all {result.full_data_images} real images", str(result.full_data)


def _cost(result: RunResult) -> Iterator[tuple[str, str]]:
    if result.expert_seconds:
        yield "training the experts", duration(result.expert_seconds)
    if result.curve:
        yield f"{result.iterations} updates, with evaluations", duration(result.curve[-1].seconds)
    yield "the whole command, when it ended the run", duration(result.seconds)
    stored = {
        "numbers": "numbers stored",
        "labels": "of them soft labels",
        "images": "images that they decode to",
    }
    for what, words in stored.items():
        if count := result.stored(what):
            yield words, f"{count:,}"
    if result.dropped_updates:
        yield "updates dropped", f"{result.dropped_updates:,}"


def _commands(result: RunResult, out: Path) -> Iterator[tuple[str, str]]:
    if result.command:
        yield "The same run again:", result.command
    place = shlex.quote(str(out))
    yield (
        "Evaluate the set with ten fresh networks:",
        f"python bin/evaluate.py {place} --networks 10",
    )
    yield "Hand it to other programs:", f"python bin/export.py {place} --to set.npz"
    yield "Load it in Python:", f"import jdd\n\nsynthetic = jdd.SyntheticSet.load({str(out)!r})"


def _settings(settings: dict[str, Any], result: RunResult) -> Iterator[dict[str, str]]:
    """Each setting with where it came from."""
    given = {word.removeprefix("--no-").removeprefix("--").partition("=")[0].replace("-", "_")
             for word in result.command.split() if word.startswith("--")}  # fmt: skip
    try:
        cell = registry.preset(result.preset, result.method, result.dataset, result.ipc)
        preset = set(cell.values)
        if registry.entry(result.method).settings().needs.segments is None:
            settings = {name: value for name, value in settings.items() if name not in _OF_EXPERTS}
    except UserError:  # a method or a preset that is not known any more
        preset = set()
    changed = result.note.partition(registry.SUITED)[2]
    preset |= {word.partition(" ")[0] for word in changed.split(", ")}
    for name, value in _flat(settings):
        origin = "default"
        if name in given:
            origin = "command line"
        elif name in preset:
            origin = f"preset {result.preset}{', borrowed' if result.note else ''}"
        yield {"name": name, "value": str(value), "origin": origin}


def _flat(settings: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield name, value


def _row(run: RunResult) -> Iterator[dict[str, Any]]:
    """The cells of a run: what is shown, what it is sorted by, and how it is set."""
    accuracy, numbers = run.best.accuracy, run.stored() or 0
    yield {"text": run.method, "sort": run.method, "kind": "keep"}
    yield {"text": run.dataset, "sort": run.dataset, "kind": "keep"}
    yield {"text": run.ipc, "sort": run.ipc, "kind": "number"}
    yield {"text": run.seed, "sort": run.seed, "kind": "number"}
    yield {"text": str(accuracy), "sort": round(accuracy.mean, 5), "kind": "number keep"}
    for other in (run.random, run.plain):
        shown = "–" if other is None else f"{100 * other.mean:.1f} %"
        yield {"text": shown, "sort": 0.0 if other is None else other.mean, "kind": "number keep"}
    yield {"text": f"{run.minutes:.1f}", "sort": round(run.minutes, 3), "kind": "number"}
    yield {"text": f"{numbers:,}" if numbers else "–", "sort": numbers, "kind": "number"}
    yield {"text": run.command, "sort": run.command, "kind": "long"}
