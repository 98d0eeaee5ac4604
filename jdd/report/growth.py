"""The page and the picture of how an update's time and memory grow."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from jdd.report import plots
from jdd.report.outcome import table

_HEAD = ("size", "at", "s an update", "peak, MiB", "exponent of time", "of memory")
_MEBIBYTE = 2**20


def title(result: Mapping[str, Any]) -> str:
    """What the page and the picture are called."""
    return f"An update of {result['method']} on {result['dataset']}: time and memory"


def page(result: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """The page, as Markdown.

    Args:
      result: as `growth.json` holds it.
      words: what each size is, by its name.
    """
    rows = []
    for name, size in result["sizes"].items():
        laws = [_exponent(size[f"{kind}_exponent"]) for kind in ("seconds", "peak_bytes")]
        for i, value in enumerate(size["values"]):
            figures = f"{size['seconds'][i]:.3g}", f"{size['peak_bytes'][i] / _MEBIBYTE:.3g}"
            first = i == 0
            rows.append([words[name] * first, value, *figures, *(law * first for law in laws)])
    base = ", ".join(f"{value} {words[name]}" for name, value in result["base"].items())
    return (
        f"# {title(result)}\n\nConvNet on random images, {result['machine']}. Base point: {base}. "
        f"Exponents are fitted by least squares to the logarithms.\n\n{table(_HEAD, rows)}"
    )


def picture(result: Mapping[str, Any], words: Mapping[str, str]) -> Figure:
    """A row of panels for time and one for memory, with a panel for each size."""
    rows: dict[str, dict[str, plots.Growth]] = {}
    for kind, label, unit in (
        ("seconds", "seconds an update", 1),
        ("peak_bytes", "peak memory, MiB", _MEBIBYTE),
    ):
        rows[label] = {}
        for name, size in result["sizes"].items():
            line = size[f"{kind}_fit"] and [y / unit for y in size[f"{kind}_fit"]]
            rows[label][words[name]] = plots.Growth(
                size["values"],
                [y / unit for y in size[kind]],
                line,
                f"exponent {_exponent(size[f'{kind}_exponent'])}",
            )
    return plots.growths(rows, title(result))


def _exponent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
