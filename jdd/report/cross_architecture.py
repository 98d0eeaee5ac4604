"""The page and the picture of other networks on sets; see `jdd.tasks.cross_architecture`."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from jdd.report import plots
from jdd.report.outcome import table
from jdd.tasks.cross_architecture import Row

Rows = Mapping[str, Mapping[str, Row]]
"""by set, then by network"""


def page(result: Mapping[str, Any], rows: Rows, skipped: Mapping[str, str]) -> str:
    """The result for a reader, as Markdown.

    Args:
      result: as JSON.
      rows: what was measured.
      skipped: why networks are left out, by name.
    """
    lines = []
    for name in dict.fromkeys(name for of_set in rows.values() for name in of_set):
        cells = [of_set.get(name) for of_set in rows.values()]
        accuracies = ["–" if cell is None else str(cell.accuracy) for cell in cells]
        seconds = sum(cell.seconds for cell in cells if cell is not None)
        lines.append([name, *accuracies, f"{seconds:.0f}"])
    repeats = result["repeats"]
    count = "one fresh network" if repeats == 1 else f"{repeats} fresh networks"
    deviation = ", mean ± standard deviation" if repeats > 1 else ""
    words = (
        f"Test accuracy of {count} of each kind{deviation}. Seconds are those of all sets, "
        "compilation included; sets of one size share it."
    )
    head = ["network", *_labels(result).values(), "seconds"]
    notes = [f"skipped: {name}, which {why}" for name, why in skipped.items()]
    return "\n".join([f"# {_title(result)}", "", words, "", table(head, lines), "", *notes])


def picture(result: Mapping[str, Any], rows: Rows) -> Figure:
    """The accuracies as bars."""
    labels = _labels(result)
    bars = {
        labels[place]: {
            name: (100 * row.accuracy.mean, 100 * row.accuracy.std) for name, row in of_set.items()
        }
        for place, of_set in rows.items()
    }
    return plots.bars(bars, "test accuracy, %", _title(result))


def _title(result: Mapping[str, Any]) -> str:
    counts = sorted({each["ipc"] for each in result["sets"]})
    return f"{result['dataset']}, {', '.join(map(str, counts))} per class: other networks"


def _labels(result: Mapping[str, Any]) -> dict[str, str]:
    """What each set is called: method and start, and what else it takes to tell them apart."""
    sets = {each["set"]: each for each in result["sets"]}
    labels = {
        place: f"{each['method']} from "
        + (each["init"] if each["init"] in ("real", "noise") else "a stored set")
        for place, each in sets.items()
    }
    if len({each["ipc"] for each in sets.values()}) > 1:
        labels = {p: f"{words}, {sets[p]['ipc']} per class" for p, words in labels.items()}
    if len(set(labels.values())) == len(labels):
        return labels
    return {place: f"{place} ({words})" for place, words in labels.items()}
