"""`results.py RUN …`: a table of finished runs, from their `result.json`, beside the papers'."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jdd.cli.arguments import Parser
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import UserError

DESCRIPTION = (
    "Writes a table of finished runs from their result.json: accuracy, how it was reached, and "
    "what the papers report."
)
HEAD = """# Results

Written by `python bin/results.py` from the runs' `result.json`; not by hand. Each row is what its
command printed: test accuracy in %, mean ± standard deviation over as many fresh networks as the
brackets say, trained on the set that was best on a validation split. *Random* are as many random
real images, trained on alike. *Paper* is what the method's paper or repository reports with its own
settings (ConvNet-3 of width 128, many more iterations and real images); – where it reports nothing.
*Best at* is the iteration of the set that is reported. Seconds are those of the whole command, on
machines of different speed and sometimes with other work beside. A start from noise takes longer to
the same accuracy; how much longer is in [docs/presets.md](docs/presets.md).
"""
COLUMNS = (
    *("method", "images per class", "start", "accuracy", "random", "paper", "iterations"),
    "best at",
    *("trained on by", "seconds", "machine", "command"),
)

# Accuracy by images per class, %. Gradient matching and DSA from their repository's tables, MTT on
# MNIST as re-run by others, the others from their papers.
_COUNTS = (1, 10, 50)
_PAPERS: dict[tuple[str, str], tuple[float, float, float]] = {
    ("dc", "mnist"): (91.7, 97.4, 98.8),
    ("dsa", "mnist"): (88.7, 97.8, 99.2),
    ("dm", "mnist"): (89.7, 97.5, 98.6),
    ("mtt", "mnist"): (91.4, 97.3, 98.5),
    ("dc", "cifar10"): (28.3, 44.9, 53.9),
    ("dsa", "cifar10"): (28.8, 52.1, 60.6),
    ("dm", "cifar10"): (26.0, 48.9, 63.0),
    ("mtt", "cifar10"): (46.3, 65.3, 71.6),
    ("datadam", "cifar10"): (32.0, 54.2, 67.0),
    ("datm", "cifar10"): (46.9, 66.8, 76.1),
    ("pad", "cifar10"): (47.2, 67.4, 77.0),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    return run_script(lambda stopper: _work(arguments, stopper))


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    del stopper
    parser = Parser(prog="results.py", description=DESCRIPTION)
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="a run's directory, a result.json, or a directory to look for them in",
    )
    parser.add_argument(
        "--out", default="RESULTS.md", metavar="FILE", help="default: RESULTS.md; replaced"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the rows as one JSON object, the last line"
    )
    given = parser.parse_args(arguments)
    from jdd import storage

    out = Path(given.out)
    files = find(given.runs)
    found = [(path, storage.read_json(path)) for path in files]
    for path, result in found:
        if not isinstance(result, Mapping) or not {"method", "best", "recipe"} <= result.keys():
            raise UserError(f"{path} is not the result of a run")
    results = [result for _, result in found]
    out.write_text(page(results), encoding="utf-8")
    print(f"{len(results)} runs: {out}")
    if given.json:
        print_json({"out": str(out), "runs": [str(path) for path in files]})


def find(places: Sequence[str]) -> list[Path]:
    """The `result.json` files at or below each place, without repeats.

    Raises:
      UserError: there are none.
    """
    files: dict[Path, None] = {}
    for place in map(Path, places):
        here = [place] if place.is_file() else sorted(place.rglob("result.json"))
        if not here:
            raise UserError(f"{place} holds no result.json: name a finished run")
        files.update(dict.fromkeys(here))
    return list(files)


def page(results: Sequence[Mapping[str, Any]]) -> str:
    """The whole page: one table for each data set."""
    parts = [HEAD]
    for dataset in sorted({result["dataset"] for result in results}):
        rows = sorted(
            (row for row in results if row["dataset"] == dataset),
            key=lambda row: (row["ipc"], row["method"], row["init"], row["iterations"]),
        )
        lines = ["| " + " | ".join(cells) + " |" for cells in (COLUMNS, *map(_cells, rows))]
        lines.insert(1, "|" + " --- |" * len(COLUMNS))
        parts.append("\n".join([f"## {dataset}", "", *lines, ""]))
    return "\n".join(parts)


def _cells(result: Mapping[str, Any]) -> tuple[str, ...]:
    init = result["init"] if result["init"] in ("real", "noise") else "a stored set"
    cells = (
        result["method"],
        str(result["ipc"]),
        init,
        _percent(result["best"]),
        _percent(result["baselines"]["random"]) if "random" in result["baselines"] else "–",
        _paper(result["method"], result["dataset"], result["ipc"]),
        str(result["iterations"]),
        str(result["best"].get("iteration", "–")),
        _recipe(result["recipe"]),
        f"{result['seconds']:.0f}",
        result.get("machine", "–"),
        f"`{result['command']}`" if "command" in result else "–",
    )
    return tuple(cell.replace("|", "\\|") for cell in cells)


def _percent(figures: Mapping[str, Any]) -> str:
    mean, std = 100 * figures["accuracy_mean"], 100 * figures["accuracy_std"]
    return f"{mean:.1f} ± {std:.1f} ({len(figures['accuracies'])})"


def _paper(method: str, dataset: str, ipc: int) -> str:
    known = dict(zip(_COUNTS, _PAPERS.get((method, dataset), ()), strict=False))
    return f"{known[ipc]}" if ipc in known else "–"


def _recipe(recipe: Mapping[str, Any]) -> str:
    """Such as "ConvNet (width 128, depth 3), 1000 epochs, DSA"."""
    options = recipe["options"]
    shown = ", ".join(f"{name} {options[name]}" for name in ("width", "depth") if name in options)
    name = recipe["augmentation"]
    kinds = name if name == "none" or name.startswith("each_") else "DSA"
    augmentation = {"none": "no augmentation"}.get(kinds, kinds)
    return f"{recipe['network']}{f' ({shown})' * bool(shown)}, {recipe['epochs']} epochs, " + (
        augmentation
    )
