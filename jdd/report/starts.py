"""The page and the pictures of both starts of methods; see `jdd.tasks.starts`."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from jdd.report import pictures, plots
from jdd.report.outcome import percent, table
from jdd.runs.problem import load_set
from jdd.tasks.starts import STARTS


def page(result: Mapping[str, Any], repeats: int, sets: str) -> str:
    """The result for a reader, as Markdown.

    Args:
      result: as JSON.
      repeats: fresh networks behind every accuracy.
      sets: name of the file with the picture of the sets.
    """
    rows = []
    for method, of_start in result["methods"].items():
        real, noise = (of_start[init] for init in STARTS)
        rows.append(
            [
                method,
                *(percent(of["mean"], of["std"] if repeats > 1 else None) for of in (real, noise)),
                f"{100 * (real['mean'] - noise['mean']):+.1f}",
                *(f"{start['seconds']:.0f}" for start in (real, noise)),
            ]
        )
    head = ["method", "real start, %", "noise start, %", "difference", "s, real", "s, noise"]
    networks = "one fresh network" if repeats == 1 else f"{repeats} fresh networks"
    words = (
        f"Test accuracy of {networks} trained on the set that was best on a "
        f"validation split{', mean ± standard deviation' * (repeats > 1)}; preset "
        f"{result['preset']}. Seconds are those of the run's last command, experts included where "
        f"it trained them. The sets alongside each other: {sets}."
    )
    return f"# {_title(result)}\n\n{words}\n\n{table(head, rows)}"


def picture(result: Mapping[str, Any]) -> Figure:
    """The accuracies as bars."""
    bars = {
        f"from {init}": {
            method: (100 * of_start[init]["mean"], 100 * of_start[init]["std"])
            for method, of_start in result["methods"].items()
        }
        for init in STARTS
    }
    return plots.bars(bars, "test accuracy, %", _title(result))


def gallery(result: Mapping[str, Any], data_dir: str | None = None) -> Figure:
    """The sets' images; methods of one comparison may differ in preprocessing."""
    panels = {}
    for method, of_start in result["methods"].items():
        for init in STARTS:
            stored, dataset = load_set(of_start[init]["set"], data_dir)
            panels[f"{method} from {init}"] = pictures.grid(stored, dataset.preprocess)
    return plots.gallery(panels, columns=len(STARTS))


def _title(result: Mapping[str, Any]) -> str:
    return f"{result['dataset']}, {result['ipc']} per class: from real images and from noise"
