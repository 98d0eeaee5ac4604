"""A run as one HTML page that needs no network: `report.html`."""

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined

from jdd import files
from jdd.errors import UserError
from jdd.evaluation import evaluated_on
from jdd.report.charts import Point, chart
from jdd.report.commands import commands
from jdd.report.console import duration
from jdd.report.origins import origins
from jdd.runs.directory import read_settings
from jdd.runs.result import RunResult

NAME = "report.html"
_LOSS = ("iteration", "loss")
_MOST_FRAMES, _MOST_POINTS = 40, 300
_LEAST, _WIDEST = 0.85, 10_000  # of its width, a picture is shown with; pixels


class Frame(NamedTuple):
    """A picture of the set, and what it shows."""

    source: str
    words: str
    least: int  # pixels of its width that its letters need


def counted(count: int, what: str) -> str:
    """Such as "1 fresh network" or "1,000 updates"."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def write_run(out: Path) -> Path:
    """Writes `report.html` of a finished run into its directory.

    Raises:
      UserError: the run is not finished, or the page cannot be written.
    """
    result = RunResult.load(out / "result.json")
    if not (out / "settings.json").exists():
        raise UserError(f"{out} is a set that was exported from a run: name its run")
    settings = read_settings(out / "settings.json")
    stored = settings.get("places")
    places: Mapping[str, Any] = stored if isinstance(stored, Mapping) else {}
    charts = [
        chart(
            [
                Point(k.iteration, 100 * k.accuracy, f"{100 * k.accuracy:.1f} %")
                for k in result.curve
            ],
            "updates",
            f"accuracy on {evaluated_on(result.choose)}, %",
        ),
        chart(_losses(out / "metrics.jsonl"), "updates", "loss", dots=False),
    ]
    return write(
        out / NAME,
        "run.html.j2",
        title=title(result),
        facts=[
            counted(result.images, "stored image"), f"from {result.init}",
            f"preset {result.preset}", f"seed {result.seed}", result.machine,
            f"jdd {result.version}", result.date,
        ],
        accuracy=str(result.best.accuracy),
        networks=counted(len(result.best.accuracy.values), "fresh network"),
        network=result.network,
        note=result.note,
        frames=[frame._asdict() for frame in _frames(out / "images", result)],
        charts=[made for made in charts if made is not None and len(made.points) > 1],
        compared=list(_compared(result)),
        cost=list(_cost(result)),
        here=str(Path.cwd()),
        commands=list(commands(result, places, out)),
        places=list(_places(settings, places, out)),
        settings=[origin._asdict() for origin in origins(settings, result)],
    )  # fmt: skip


def up_to_date(out: Path) -> Path:
    """A finished run's `report.html`, written where it is missing or older than the result."""
    page, result = out / NAME, out / "result.json"
    if page.is_file() and page.stat().st_mtime_ns >= result.stat().st_mtime_ns:
        return page
    return write_run(out)


def write(path: Path, template: str, **values: Any) -> Path:
    """Fills a template, and gives the page's path back.

    Raises:
      UserError: the page cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("jdd.report"), autoescape=True, undefined=StrictUndefined
    )
    text = environment.get_template(template).render(**values)
    try:
        files.write_text(path, text)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror})") from None
    return path


def title(result: RunResult) -> str:
    """Such as "dm, factor 2 on mnist, 10 per class"."""
    return f"{result.label} on {result.dataset}, {result.ipc} per class"


def _frames(folder: Path, result: RunResult) -> list[Frame]:
    """The pictures at each evaluation, thinned out, and the best set's last."""
    named = (path for path in folder.glob("*.png") if path.stem.isdigit())
    paths = sorted(named, key=lambda path: int(path.stem))
    if not result.iterations:  # what was chosen at once is the best set
        paths = []
    step = -(-len(paths) // _MOST_FRAMES) or 1
    accuracies = {look.iteration: look.accuracy for look in result.curve}
    frames = []
    for path in paths[::step]:
        accuracy = accuracies.get(int(path.stem))
        words = f"iteration {int(path.stem)}"
        if accuracy is not None:
            words += f": {100 * accuracy:.1f} % on {evaluated_on(result.choose)}"
        frames.append(_frame(path, words))
    if (folder / "best.png").is_file():
        words = f"{'best: ' if result.iterations else ''}{result.best.accuracy} on test images"
        frames.append(_frame(folder / "best.png", words))
    return frames


def _frame(path: Path, words: str) -> Frame:
    content = files.read_bytes(path)
    width = int.from_bytes(content[16:20])  # of a PNG
    source = "data:image/png;base64," + base64.b64encode(content).decode()
    return Frame(source, words, int(_LEAST * width) if width < _WIDEST else 0)


def _losses(path: Path) -> list[Point]:
    """Loss by iteration from `metrics.jsonl`, thinned out; damaged lines are passed over."""
    losses = {}
    for _, row in files.read_lines(path) if path.exists() else ():
        iteration, loss = (row.get(k) if isinstance(row, dict) else None for k in _LOSS)
        if isinstance(iteration, int) and isinstance(loss, (int, float)):
            losses[iteration] = float(loss)
    rows = sorted(losses.items())
    return [Point(*row) for row in rows[:: -(-len(rows) // _MOST_POINTS) or 1]]


def _compared(result: RunResult) -> Iterator[tuple[str, str]]:
    best = "the best set" if result.iterations else "the set"
    yield best, str(result.best.accuracy)
    if result.final.iteration != result.best.iteration:
        yield "the set of the last iteration", str(result.final.accuracy)
    if result.plain is not None:
        yield f"{best}, hard labels, no augmentation", str(result.plain)
    if result.random is not None:
        yield "random real images in the same storage", str(result.random)
    if result.full_data is not None:
        yield result.full_data_words, str(result.full_data)


def _cost(result: RunResult) -> Iterator[tuple[str, str]]:
    if result.expert_seconds:
        yield "training the experts", duration(result.expert_seconds)
    if result.curve:
        work = counted(result.iterations, "update") if result.iterations else "choosing the images"
        yield f"{work}, with evaluations", duration(result.curve[-1].seconds)
    yield "the whole command, when it ended the run", duration(result.seconds)
    stored = {
        "numbers": "numbers stored, for pixels or what stands for them, and labels",
        "labels": "of them soft labels",
        "images": "images that they decode to",
    }
    for what, words in stored.items():
        count = result.stored(what)
        if count and (what, count) != ("images", result.images):
            yield words, f"{count:,}"
    if result.dropped_updates:
        yield "updates dropped", f"{result.dropped_updates:,}"


def _places(
    settings: Mapping[str, Any], places: Mapping[str, Any], out: Path
) -> Iterator[tuple[str, str]]:
    """Where the run and what it was made from are."""
    yield "this run", str(out.resolve())
    named = {"data_dir": "the data", "experts": "the experts"}
    for name, words in named.items():
        if name in places:
            yield words, str(places[name])
    for plugin in settings.get("plugins", ()):
        yield "a plugin", str(plugin.get("path"))
    if settings.get("fingerprint"):
        yield "fingerprint of the training images", str(settings["fingerprint"])
