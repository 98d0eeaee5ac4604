"""The page of results: a table of finished runs for each dataset, the commands below it."""

import dataclasses
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jdd.data.shapes import SHAPES
from jdd.errors import UserError
from jdd.report.outcome import percent, table
from jdd.runs.result import RunResult
from jdd.training import STACKED, Accuracy, Recipe

_HEAD = """# Results

Written by `python bin/results.py` from the runs' `result.json`; not by hand. All figures are test
accuracies in %, mean ± standard deviation over fresh networks, trained on the set that was best on
a validation split.

- *method*: a row of another preset than `quick` says which; its command has what differs from that.
- *accuracy*: the brackets say over how many networks; `3 × 5`: five on each of three sets, made
  with the seeds 0, 1 and 2; `13 on 3`: where they are not as many on each. *Between sets* is the
  standard deviation of those sets' means.
- *plain*: the same sets, trained on with hard labels and without augmentation.
- *random*: as many random real images, by the recipe of the row; one draw for each set.
- *paper*: what the method's paper or repository reports with its own settings (ConvNet-3 of width
  128, FRePo's wider, many more iterations and real images). IDC's and NCFM's figures are of factor
  2, all others of images as they are, also where the row has a factor. Brackets say who reports it
  (the paper, its repository, or others who ran it again) and of which set: the last one, or the one
  that was best on the test images, which is too good a figure. Runs of ours that chose so, to
  compare with them (`--choose`), stand apart, under "as published".
- *stored*: numbers that the set has; in brackets how many of them are soft labels.
- *minutes*: of distilling, with compiling, training experts and evaluating on the validation split,
  but without the tests at the end (the oldest rows: with them); of the longest run where there are
  several. A coreset's are 0: the network that it compares features of is not counted. Machines
  differ in speed, and some had other work at the same time.

The command of each row, how its networks were trained, and the time that the command took, with all
tests, are below the table, under the row's number. That time is less than the minutes where a run
found its experts made, or was stopped and resumed. Rows *from noise* have other numbers of
iterations than those from real images, most of them half; what more of them bring is in
[docs/dev/presets.md](docs/dev/presets.md). What all real images give is in
[docs/results/reproduction](docs/results/reproduction/README.md).
"""
_COLUMNS = (
    *("#", "method", "images per class", "accuracy", "between sets", "plain", "random", "paper"),
    *("stored", "iterations", "minutes"),
)

# Methods whose sets had hard labels before results had their storage; mtt's had a step size, too.
_HARD_LABELS = {"random", "herding", "k_center", "dc", "dsa", "dm", "datadam", "mtt"}
_OTHER_STORAGE = ("--image-size", "--factor", "--decoder")

# Accuracy at 1, 10 and 50 images per class, %; whose figures, and of which set.
_COUNTS = (1, 10, 50)
_PAPERS: dict[tuple[str, str], tuple[tuple[float | None, ...], str]] = {
    # Of coresets: Zhao, Mopuri, Bilen 2021, table 1.
    ("random", "mnist"): ((64.9, 95.1, 97.9), "re-run"),
    ("herding", "mnist"): ((89.2, 93.7, 94.8), "re-run"),
    ("k_center", "mnist"): ((89.3, 84.4, 97.4), "re-run"),
    ("random", "cifar10"): ((14.4, 26.0, 43.4), "re-run"),
    ("herding", "cifar10"): ((21.5, 31.6, 40.4), "re-run"),
    ("k_center", "cifar10"): ((21.5, 14.7, 27.0), "re-run"),
    ("dc", "mnist"): ((91.7, 97.4, 98.8), "repository, last"),
    ("dsa", "mnist"): ((88.7, 97.8, 99.2), "repository, last"),
    ("idc", "mnist"): ((94.2, 98.4, 99.1), "repository, last"),
    ("dm", "mnist"): ((89.7, 97.5, 98.6), "paper, last"),
    ("mtt", "mnist"): ((91.4, 97.3, 98.5), "re-run, best on test"),
    ("frepo", "mnist"): ((93.0, 98.6, 99.2), "paper, best on test"),
    ("dc", "cifar10"): ((28.3, 44.9, 53.9), "repository, last"),
    ("dsa", "cifar10"): ((28.8, 52.1, 60.6), "repository, last"),
    ("idc", "cifar10"): ((50.6, 67.5, 74.5), "repository, last"),
    ("dm", "cifar10"): ((26.0, 48.9, 63.0), "paper, last"),
    ("mtt", "cifar10"): ((46.3, 65.3, 71.6), "paper, best on test"),
    ("datadam", "cifar10"): ((32.0, 54.2, 67.0), "paper, best on test"),
    ("frepo", "cifar10"): ((46.8, 65.5, 71.7), "paper, best on test"),
    ("ncfm", "cifar10"): ((49.5, 71.8, 77.4), "paper, best on test"),
    ("datm", "cifar10"): ((46.9, 66.8, 76.1), "paper, best on test"),
    ("pad", "cifar10"): ((47.2, 67.4, 77.0), "paper, best on test"),
    ("bptt", "cifar10"): ((None, 69.4, None), "paper, best on test"),  # RaT-BPTT
}


def find(places: Sequence[str]) -> list[Path]:
    """The `result.json` files at or below each place, without repeats.

    Raises:
      UserError: there are none.
    """
    paths: dict[Path, Path] = {}
    for place in map(Path, places):
        here = [place] if place.is_file() else sorted(place.rglob("result.json"))
        if not here:
            raise UserError(f"{place} holds no result.json: name a finished run")
        for path in here:
            paths.setdefault(path.resolve(), path)
    return list(paths.values())


def page(results: Sequence[RunResult]) -> str:
    """The page, as Markdown."""
    parts = [_HEAD]
    sections: dict[tuple[bool, str], list[Group]] = {}
    for group in grouped(results):
        first = group[0]
        sections.setdefault((first.choose != "validation", first.dataset), []).append(group)
    for (as_published, dataset), groups in sorted(sections.items()):
        title = f"## {dataset}{', as published' if as_published else ''}"
        cells = [_cells(number, group) for number, group in enumerate(groups, 1)]
        details = [f"{number}. {_details(group)}" for number, group in enumerate(groups, 1)]
        parts.append("\n".join([title, "", table(_COLUMNS, cells), "", *details, ""]))
    return "\n".join(parts)


Group = list[RunResult]  # runs that differ in their seed alone

# The settings of the storage, which results did not have when pixels were all that was stored.
_PIXELS = {"decoder": "pixels", "factor": 1, "formation": "uniform", "coefficients": 0}
_OF_TESTS = {"--seed", "--eval-plain", "--no-eval-plain", "--eval-random", "--no-eval-random"}
_OF_TESTS |= {"--full-data-epochs", "--eval-networks"}


def grouped(results: Sequence[RunResult]) -> list[Group]:
    """Runs that differ in their seed alone together, in the order of the page's rows.

    Copies of a run count once. Other runs of one seed, as of another machine, are of two groups.
    """
    alike: dict[tuple[Any, ...], list[Group]] = {}
    for run in sorted(results, key=lambda run: (run.ipc, run.method, run.init, run.iterations)):
        recipe = json.dumps(run.recipe.to_json(), sort_keys=True)
        storage = tuple(run.storage.get(name, default) for name, default in _PIXELS.items())
        settings = (storage, run.preset, run.network, recipe, run.choose, run.note, run.version)
        key = (run.dataset, run.ipc, run.method, run.init, run.iterations, *settings)
        run = dataclasses.replace(run, out="")
        groups = alike.setdefault((*key, _but_for_tests(run.command)), [])
        if any(run in group for group in groups):
            continue
        free = [group for group in groups if run.seed not in [other.seed for other in group]]
        if not free:
            groups.append([])
        (free or groups[-1:])[0].append(run)
    groups = [group for several in alike.values() for group in several]
    return [sorted(group, key=lambda run: run.seed) for group in groups]


def _but_for_tests(command: str) -> tuple[str, ...]:
    """A command's flags in order, without the seed and those that say what else is tested."""
    flags: list[str] = []
    for word in shlex.split(command)[2:]:
        if word.startswith("--") or not flags:
            flags.append(word.replace("=", " ", 1))
        else:
            flags[-1] += f" {word}"
    return tuple(sorted(flag for flag in flags if flag.split(" ")[0] not in _OF_TESTS))


def _cells(number: int, group: Group) -> list[str]:
    first = group[0]
    start = {"real": "", "noise": ", from noise"}.get(first.init, ", from a stored set")
    preset = f", {first.preset}" if first.preset not in ("", "quick") else ""
    best = "/".join(str(run.best.iteration) for run in group)
    best = f", best at {best}" if any(run.best.iteration != run.iterations for run in group) else ""
    if first.choose != "validation":
        best += {"last": ", the last", "test": " on TEST images"}[first.choose]
    means = [run.best.accuracy.mean for run in group]
    minutes = [run.minutes for run in group]
    return [
        str(number),
        first.label + preset + start,
        str(first.ipc),
        _accuracy([run.best.accuracy for run in group]),
        f"± {100 * np.std(means):.1f}" if len(group) > 1 else "–",
        _accuracy([run.plain for run in group]),
        _accuracy([run.random for run in group]),
        _paper(first),
        _stored(first),
        f"{first.iterations}{best}",
        f"{max(minutes):.1f}",
    ]


def _details(group: Group) -> str:
    """Such as "`python …`: ConvNet (width 128, depth 3), 1000 epochs, DSA; 98 s, 2 CPU cores"."""
    first = group[0]
    command = f"`{first.command}`" if first.command else "command not known"
    seeds = ", ".join(str(run.seed) for run in group)
    words = [f"seeds {seeds}"] * (len(group) > 1)
    words += [" + ".join(f"{run.seconds:.0f}" for run in group) + " s", first.machine]
    return f"{command}: {_recipe(first.recipe)}; {', '.join(filter(None, words))}"


def _accuracy(accuracies: Sequence[Accuracy | None]) -> str:
    """Over all networks on all sets, as "86.8 ± 1.2 (5)" or "86.5 ± 1.3 (3 × 5)"."""
    measured = [accuracy for accuracy in accuracies if accuracy is not None]
    if not measured:
        return "–"
    values = [value for accuracy in measured for value in accuracy.values]
    count, each = str(len(values)), {len(accuracy.values) for accuracy in measured}
    if len(measured) > 1:
        alike = len(each) == 1
        count = f"{len(measured)} × {each.pop()}" if alike else f"{count} on {len(measured)}"
    return f"{percent(float(np.mean(values)), float(np.std(values)))} ({count})"


def _paper(result: RunResult) -> str:
    figures, kind = _PAPERS.get((result.method, result.dataset), ((), ""))
    reported = dict(zip(_COUNTS, figures, strict=False)).get(result.ipc)
    return "–" if reported is None else f"{reported} ({kind})"


def stored(result: RunResult) -> int | None:
    """How many numbers a run stores; None where that is not known.

    Older results do not say it. Theirs are pixels, unless their command says otherwise.
    """
    if result.storage or result.method not in _HARD_LABELS or result.dataset not in SHAPES:
        return result.stored()
    if result.init not in ("real", "noise") or not result.command:
        return None
    if any(flag in result.command for flag in _OTHER_STORAGE):
        return None
    shape = SHAPES[result.dataset]
    return result.images * shape.side**2 * shape.channels + (result.method == "mtt")


def _stored(result: RunResult) -> str:
    numbers, labels = stored(result), result.stored("labels")
    if numbers is None:
        return "–"
    return f"{numbers:,}" + (f" ({labels:,})" if labels else "")


def _recipe(recipe: Recipe) -> str:
    """Such as "ConvNet (width 128, depth 3), 1000 epochs, DSA", and what else is not published."""
    names = [name for name in ("width", "depth") if name in recipe.options]
    options = ", ".join(f"{name} {recipe.options[name]}" for name in names)
    network = recipe.network + (f" ({options})" if options else "")
    name = recipe.augmentation
    augmentation = name if name.startswith(("each_", STACKED)) else "DSA"
    words = [
        network,
        f"{recipe.epochs} epochs",
        "no augmentation" if name == "none" else augmentation,
    ]
    if recipe.cutmix:
        beta = "" if recipe.cutmix_beta == 1 else f" (beta {recipe.cutmix_beta:g})"
        words.append(f"CutMix {recipe.cutmix:g}{beta}")
    if recipe.optimizer != "sgd":
        words.append(f"AdamW {recipe.learning_rate:g}")
    if recipe.rate_schedule != "step":
        words.append(recipe.rate_schedule)
    return ", ".join(words)
