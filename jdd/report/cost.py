"""The page and the picture of what training on a set saves; see `jdd.tasks.cost`."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from jdd.report import plots
from jdd.report.outcome import percent, table
from jdd.tasks.cost import SIDES

_DIFFERING = {
    "epochs": "the epochs",
    "batch_size": "the images per step (at most as many as there are)",
    "learning_rate": "the learning rate (the set has learned its own)",
}
_BARS = {
    "accuracy": "accuracy",
    "seconds": "seconds",
    "FLOPs": "flops_total",
    "memory": "peak_bytes",
}


def page(result: Mapping[str, Any]) -> str:
    """The result for a reader, as Markdown."""
    recipe = result["recipe"]
    differing = [words for field, words in _DIFFERING.items() if field in result["differs"]]
    head = [f"{result['network']}, {result['dataset']}"]
    head += [_images(result, side) for side in SIDES] + ["real ÷ set"]
    return "\n".join(
        [
            f"# Training on all of {result['dataset']} and on {result['method']}'s set",
            "",
            table(head, _rows(result)),
            "",
            f"One network of {result['parameters']:,} parameters each, from the same weights, on "
            f"{result['machine']}: {_optimizer(recipe)}, weight decay "
            f"{recipe['weight_decay']:g}, augmentation {recipe['augmentation']}. What differs "
            f"apart from the images: {', '.join(differing) or 'nothing'}. Seconds are without "
            "compilation and an epoch to warm up.",
        ]
    )


def _optimizer(recipe: Mapping[str, Any]) -> str:
    words = [
        "AdamW" if recipe["optimizer"] == "adamw" else f"SGD with momentum {recipe['momentum']:g}"
    ]
    if recipe["rate_schedule"] != "step":
        words.append(f"its rate down a {recipe['rate_schedule']}")
    words += [f"{name} {recipe[name]:g}" for name in ("cutmix", "ema") if recipe[name]]
    return ", ".join(words)


def picture(result: Mapping[str, Any]) -> Figure:
    """What the set's training took and reached, in percent of the real images', as bars."""
    percentages = {
        name: 100 * result["synthetic"][field] / max(result["real"][field], 1e-9)
        for name, field in _BARS.items()
    }
    real, of_set = (_images(result, side) for side in SIDES)
    figure = plots.bars(
        {of_set: {name: (value, 0.0) for name, value in percentages.items()}},
        "% of the real images' (logarithmic)",
        f"{result['network']} on {result['dataset']}: {of_set}, compared with {real}",
    )
    (axes,) = figure.axes
    plots.logarithmic(axes)
    axes.axhline(100, color="black", linewidth=1)
    for place, value in enumerate(percentages.values()):
        label, at = f"{value:.3g} %", (place, max(value, 100))
        axes.annotate(label, at, (0, 4), textcoords="offset points", ha="center")
    low, high = min(100.0, *percentages.values()), max(100.0, *percentages.values())
    axes.set_ylim(low / 2, high * 2)
    return figure


def _rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    ratio = result["ratio"]

    def row(title: str, key: str, style: str, of: float | None = None) -> tuple[str, ...]:
        values = [format(result[side][key], style) for side in SIDES]
        return title, *values, "" if of is None else f"{of:,.3g}"

    def accuracy(title: str, key: str) -> tuple[str, ...]:
        return f"{title}, %", *(percent(result[side][key]) for side in SIDES), ""

    further = [("balanced accuracy", "balanced_accuracy"), ("AUC", "auc")]  # of two classes
    mebibytes = (f"{result[side]['peak_bytes'] / 2**20:,.1f}" for side in SIDES)
    return [
        accuracy("accuracy", "accuracy"),
        *(accuracy(title, key) for title, key in further if key in result["real"]),
        row("epochs", "epochs", ","),
        row("steps", "steps", ","),
        row("images per step", "batch_size", ""),
        row("learning rate", "learning_rate", ".4g"),
        row("seconds", "seconds", ",.3g", ratio["seconds"]),
        row("seconds to compile", "compile_seconds", ",.3g"),
        row("FLOPs an image", "flops_per_image", ",.3g"),
        row("FLOPs in all", "flops_total", ",.3g", ratio["flops"]),
        row("FLOPs a second", "flops_per_second", ",.3g"),
        ("memory, MiB", *mebibytes, ""),
    ]


def _images(result: Mapping[str, Any], side: str) -> str:
    kind = "real" if side == "real" else result["method"]
    return f"{result[side]['images']:,} images, {kind}"
