"""The page of results: a table of finished runs for each dataset, the commands below it."""

from collections.abc import Sequence
from pathlib import Path

from jdd.errors import UserError
from jdd.report.outcome import percent, table
from jdd.runs.result import RunResult
from jdd.training import Accuracy, Recipe

_HEAD = """# Results

Written by `python bin/results.py` from the runs' `result.json`; not by hand. Each row is what its
command printed: test accuracy in %, mean ± standard deviation over as many fresh networks as the
brackets say, trained on the set that was best on a validation split. *Random* is the same for as
many random real images. *Paper* is what the method's paper or repository reports with its own
settings (ConvNet-3 of width 128, many more iterations and real images); – where it reports nothing.
Its brackets say who reports it (the paper, its repository, or others who ran it again) and of which
set: the last one, or the one that was best on the test images, which is too good a figure. Runs of
ours that chose so, to compare with them (`--choose`), stand apart, under "as published".
The command of each row, how its networks were trained, and the time that the whole command took are
below the table, under the row's number. Machines differ in speed, and some had other work at the
same time. A start from noise takes longer to the same accuracy; how much longer is in
[docs/dev/presets.md](docs/dev/presets.md).
"""
_COLUMNS = ("#", "method", "images per class", "accuracy", "random", "paper", "iterations")

# Accuracy at 1, 10 and 50 images per class, %; whose figures, and of which set.
_COUNTS = (1, 10, 50)
_PAPERS: dict[tuple[str, str], tuple[tuple[float, float, float], str]] = {
    ("dc", "mnist"): ((91.7, 97.4, 98.8), "repository, last"),
    ("dsa", "mnist"): ((88.7, 97.8, 99.2), "repository, last"),
    ("dm", "mnist"): ((89.7, 97.5, 98.6), "paper, last"),
    ("mtt", "mnist"): ((91.4, 97.3, 98.5), "re-run, best on test"),
    ("dc", "cifar10"): ((28.3, 44.9, 53.9), "repository, last"),
    ("dsa", "cifar10"): ((28.8, 52.1, 60.6), "repository, last"),
    ("dm", "cifar10"): ((26.0, 48.9, 63.0), "paper, last"),
    ("mtt", "cifar10"): ((46.3, 65.3, 71.6), "paper, best on test"),
    ("datadam", "cifar10"): ((32.0, 54.2, 67.0), "paper, best on test"),
    ("datm", "cifar10"): ((46.9, 66.8, 76.1), "paper, best on test"),
    ("pad", "cifar10"): ((47.2, 67.4, 77.0), "paper, best on test"),
}


def find(places: Sequence[str]) -> list[Path]:
    """The `result.json` files at or below each place, without repeats.

    Raises:
      UserError: there are none.
    """
    paths: dict[Path, None] = {}
    for place in map(Path, places):
        here = [place] if place.is_file() else sorted(place.rglob("result.json"))
        if not here:
            raise UserError(f"{place} holds no result.json: name a finished run")
        paths.update(dict.fromkeys(here))
    return list(paths)


def page(results: Sequence[RunResult]) -> str:
    """The page, as Markdown."""
    parts = [_HEAD]
    sections = sorted({(result.choose != "validation", result.dataset) for result in results})
    for as_published, dataset in sections:
        rows = sorted(
            (
                row
                for row in results
                if (row.choose != "validation", row.dataset) == (as_published, dataset)
            ),
            key=lambda row: (row.ipc, row.method, row.init, row.iterations),
        )
        title = f"## {dataset}{', as published' if as_published else ''}"
        cells = [_cells(number, row) for number, row in enumerate(rows, 1)]
        details = [f"{number}. {_details(row)}" for number, row in enumerate(rows, 1)]
        parts.append("\n".join([title, "", table(_COLUMNS, cells), "", *details, ""]))
    return "\n".join(parts)


def _cells(number: int, result: RunResult) -> list[str]:
    start = {"real": "", "noise": ", from noise"}.get(result.init, ", from a stored set")
    at = result.best.iteration
    best = "" if at == result.iterations else f", best at {at}"
    if result.choose != "validation":
        best += {"last": ", the last", "test": " on TEST images"}[result.choose]
    return [
        str(number),
        result.method + start,
        str(result.ipc),
        _accuracy(result.best.accuracy),
        "–" if result.random is None else _accuracy(result.random),
        _paper(result),
        f"{result.iterations}{best}",
    ]


def _details(result: RunResult) -> str:
    """Such as "`python …`: ConvNet (width 128, depth 3), 1000 epochs, DSA; 98 s, 2 CPU cores"."""
    command = f"`{result.command}`" if result.command else "command not known"
    time = f"{result.seconds:.0f} s"
    return f"{command}: {_recipe(result.recipe)}; {', '.join(filter(None, [time, result.machine]))}"


def _accuracy(accuracy: Accuracy) -> str:
    return f"{percent(accuracy.mean, accuracy.std)} ({len(accuracy.values)})"


def _paper(result: RunResult) -> str:
    figures, kind = _PAPERS.get((result.method, result.dataset), ((), ""))
    reported = dict(zip(_COUNTS, figures, strict=False)).get(result.ipc)
    return "–" if reported is None else f"{reported} ({kind})"


def _recipe(recipe: Recipe) -> str:
    """Such as "ConvNet (width 128, depth 3), 1000 epochs, DSA"."""
    shown = [name for name in ("width", "depth") if name in recipe.options]
    options = ", ".join(f"{name} {recipe.options[name]}" for name in shown)
    network = recipe.network + (f" ({options})" if options else "")
    name = recipe.augmentation
    augmentation = name if name.startswith("each_") else "DSA"
    if name == "none":
        augmentation = "no augmentation"
    return f"{network}, {recipe.epochs} epochs, {augmentation}"
