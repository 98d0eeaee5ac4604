"""The page and the picture of class-incremental learning; see `jdd.tasks.continual`."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from jdd.report import plots
from jdd.report.outcome import percent, table

_PROTOCOLS = {"gdumb": "GDumb's protocol", "finetune": "one network finetuned part after part"}


def page(result: Mapping[str, Any]) -> str:
    """The result for a reader, as Markdown."""
    means, stds, classes = result["methods"], result["std"], result["classes"]
    several, runs = len(result["orders"]) > 1, len(result["orders"]) * result["repeats"]
    rows = []
    for step, seen in enumerate(classes):
        new = seen[len(classes[step - 1]) if step else 0 :]
        came = f"{len(new)}" if several else ", ".join(map(str, new))
        figures = [
            percent(means[name][step], stds[name][step] if runs > 1 else None) for name in means
        ]
        rows.append([str(step + 1), came, str(len(seen)), *figures])
    head = ["step", "new classes", "classes seen", *means]
    return f"# {_title(result)}\n\n{table(head, rows)}\n\n{_notes(result)}"


def picture(result: Mapping[str, Any]) -> Figure:
    """Accuracy over the classes seen."""
    means, stds = result["methods"], result["std"]
    seen = [len(classes) for classes in result["classes"]]
    series = {
        name: (seen, [100 * v for v in means[name]], [100 * v for v in stds[name]])
        for name in means
    }
    return plots.lines(
        series,
        "classes seen",
        "test accuracy on the classes seen (%)",
        _title(result),
        whole_steps=True,
    )


def _title(result: Mapping[str, Any]) -> str:
    return (
        f"Continual learning of {result['dataset']}, {result['ipc']} per class in memory, "
        f"{_PROTOCOLS[result['protocol']]}"
    )


def _notes(result: Mapping[str, Any]) -> str:
    recipe, settings = result["recipe"], result["settings"]
    orders, runs = len(result["orders"]), len(result["orders"]) * result["repeats"]
    orders_each = f"{orders} order{'s' * (orders > 1)} of the classes, {result['repeats']} each"
    of_runs = f"mean ± std of {runs} ({orders_each})" if runs > 1 else "one run"
    on_memory = f"{recipe['epochs']} epochs on the memory"
    if result["protocol"] == "gdumb":
        training = (
            f"At every step a fresh {recipe['network']}, {on_memory} ('none' has nothing to be "
            "trained on, and is left out)"
        )
    else:
        training = (
            f"One {recipe['network']}, {settings['epochs']} epochs on the real images of each "
            f"part, then {on_memory} but for 'none'"
        )
    return (
        f"Accuracy in % on the test images of all classes seen, chosen among these: {of_runs}. "
        f"{training}. Distilled: by {result['method']}."
    )
