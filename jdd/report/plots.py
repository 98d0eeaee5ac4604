"""Plots of what tasks measured, drawn by Matplotlib without a display."""

import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

from jdd.files import atomic_replace

_SIZE = (7.0, 4.2)  # inches
_DOTS = 120  # an inch
_TALL, _LEAST_PANEL = 1.1, 2.0  # a picture's height at most, in `_SIZE`'s width; its least inches
_COLORS = 10  # of Matplotlib's cycle
_MARKERS = "os^Dv*P<X>ph8d"
_LETTERS, _MARKER = 80, 8  # a legend's row below a plot; what a name takes besides its own
_TITLE = 84  # letters in a line of a title
_BELOW: Mapping[str, Any] = {"loc": "outside lower center", "frameon": False}


def bars(
    groups: Mapping[str, Mapping[str, tuple[float, float]]], ylabel: str, title: str
) -> Figure:
    """Bars with error bars, side by side for each name.

    Args:
      groups: for each series its name → (height, half the error bar); names may be missing from a
        series.
      ylabel: what the heights are, with their unit.
      title: of the plot.
    """
    names = list(dict.fromkeys(name for series in groups.values() for name in series))
    figure, axes = _new(ylabel, title, wide=len(names) * len(groups) > 8)
    width = 0.8 / len(groups)
    for k, (label, series) in enumerate(groups.items()):
        places = [
            i + (k - (len(groups) - 1) / 2) * width for i, n in enumerate(names) if n in series
        ]
        heights, errors = zip(*(series[n] for n in names if n in series), strict=True)
        deviations = errors if any(errors) else None
        axes.bar(places, heights, 0.9 * width, yerr=deviations, capsize=3, label=label)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
    _legend(figure, groups)
    return figure


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float] | None]],
    xlabel: str,
    ylabel: str,
    title: str,
    whole_steps: bool = False,
) -> Figure:
    """Lines with points: name → (x, y, half the width of the band around y, or None).

    Args:
      series: what is drawn, by its name in the legend.
      xlabel, ylabel: what is measured, with its unit.
      title: of the plot.
      whole_steps: whether x counts something, so that only whole numbers are marked.
    """
    figure, axes = _new(ylabel, title)
    for label, (x, y, band) in series.items():
        (line,) = axes.plot(x, y, marker="o", markersize=4, label=label)
        if band is not None:
            low, high = np.subtract(y, band), np.add(y, band)
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    axes.set_xlabel(xlabel)
    if whole_steps:
        axes.set_xticks(sorted({place for x, _, _ in series.values() for place in x}))
    _legend(figure, series)
    return figure


def races(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    slower: Mapping[str, float],
    ylabel: str,
    title: str,
) -> Figure:
    """Lines over seconds on a logarithmic axis.

    Args:
      series: name → (seconds, y).
      slower: name → by what factor its seconds grow in a second, light line.
      ylabel: what y is, with its unit.
      title: of the plot.
    """
    figure, axes = _new(ylabel, title)
    for k, (label, (x, y)) in enumerate(series.items()):
        (line,) = axes.plot(x, y, marker="o", markersize=3, label=label, **_style(k))
        if label in slower:
            later = [slower[label] * value for value in x]
            axes.plot(later, y, color=line.get_color(), alpha=0.3, linewidth=1)
    axes.set_xlabel("seconds")
    _logarithmic_x(axes)
    _legend(figure, series)
    return figure


class Growth(NamedTuple):
    """A panel of `growths`: what was measured, and the line that stands for it."""

    x: Sequence[float]
    y: Sequence[float]
    line: Sequence[float] | None  # at the same x; None: no line
    words: str  # what the line says


def growths(rows: Mapping[str, Mapping[str, Growth]], title: str) -> Figure:
    """Points with a line through them on logarithmic axes, where a power law is straight.

    Args:
      rows: for each row of panels what its y is, with the unit; for each of its panels what x is.
        All rows have the same panels.
      title: of the whole.
    """
    columns = max(len(panels) for panels in rows.values())
    width, height = _SIZE[0] * 0.5, _SIZE[1] * 0.7
    figure = Figure(figsize=(width * columns, height * len(rows)), layout="constrained")
    figure.suptitle(title, fontsize=11)
    places = figure.subplots(len(rows), columns, squeeze=False, sharey="row")
    for (ylabel, panels), row in zip(rows.items(), places, strict=True):
        row[0].set_ylabel(ylabel)
        for (xlabel, panel), axes in zip(panels.items(), row, strict=False):
            _bare(axes)
            axes.set_xlabel(xlabel)
            axes.set_xscale("log")
            axes.plot(panel.x, panel.y, marker="o", markersize=4, linestyle="none")
            if panel.line is not None:
                axes.plot(panel.x, panel.line, linewidth=1, color="C0", alpha=0.6)
            axes.set_title(panel.words, fontsize=9)
            axes.set_xticks(panel.x, [f"{value:g}" for value in panel.x])
            logarithmic(axes)
    return figure


Point = tuple[float, float]


def panels(
    rows: Mapping[str, Mapping[str, Mapping[str, Sequence[Point]]]], ylabel: str, title: str
) -> Figure:
    """Named points, joined by lines, in panels with a logarithmic x axis.

    Args:
      rows: for each row of panels its name; for each panel what x is; the points (x, y) by name.
        All rows have the same panels. Names that are the same before a comma, as "mtt" and
        "mtt, factor 2", share a colour and a marker; what comes after it says how that is filled.
      ylabel: what y is, with its unit.
      title: of the whole.
    """
    columns = max(map(len, rows.values()))
    names = sorted({name for row in rows.values() for panel in row.values() for name in panel})
    heads = sorted({name.partition(", ")[0] for name in names})
    tails = ["", *sorted({name.partition(", ")[2] for name in names} - {""})]
    size = (_SIZE[0] * 0.65 * columns, _SIZE[1] * len(rows) + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=11)
    places = figure.subplots(len(rows), columns, squeeze=False, sharey="row")
    for (row_name, row), row_axes in zip(rows.items(), places, strict=True):
        row_axes[0].set_ylabel(f"{row_name}: {ylabel}")
        for (xlabel, panel), axes in zip(row.items(), row_axes, strict=True):
            _bare(axes)
            axes.set_xlabel(xlabel)
            _logarithmic_x(axes)
            for name, points in panel.items():
                head, _, tail = name.partition(", ")
                style = _marker(heads.index(head), tails.index(tail))
                x, y = zip(*sorted(points), strict=True)
                axes.plot(x, y, alpha=0.8, linewidth=1, **style)
            low, high = axes.get_xlim()
            if high < 3 * low:  # as many numbers for every point
                axes.set_xlim(low / 2, high * 2)
    handles = [Line2D([], [], label=head, **_marker(k, 0)) for k, head in enumerate(heads)]
    for k, tail in enumerate(tails[1:], start=1):
        style = {**_marker(0, k), "color": "black", "linestyle": "none"}
        handles.append(Line2D([], [], label=tail, **style))
    figure.legend(handles=handles, ncols=_legend_columns([*heads, *tails], size[0]), **_BELOW)
    return figure


def _marker(k: int, variant: int) -> dict[str, Any]:
    """The k-th of some dozen lines with points, which are filled as the variant says."""
    fill = ("full", "none", "left", "right")[variant % 4]
    marker = _MARKERS[k % len(_MARKERS)]
    return {"color": f"C{k % _COLORS}", "marker": marker, "fillstyle": fill, "markersize": 6}


def _style(k: int) -> dict[str, Any]:
    """The k-th of many lines: ten colors, then the same ones dashed, with hollow points."""
    dashed = {"linestyle": "--", "markerfacecolor": "white"} if k >= _COLORS else {}
    return {"color": f"C{k % _COLORS}", **dashed}


def _logarithmic_x(axes: Axes) -> None:
    """A logarithmic x axis, marked with plain numbers."""
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def logarithmic(axes: Any) -> None:
    """A logarithmic y axis, marked with plain numbers."""
    axes.set_yscale("log")
    # Within a decade there might be no power of ten to mark.
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()


def scatter(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str,
    ylabel: str,
    title: str,
) -> Figure:
    """Points: name → (x, y)."""
    figure, axes = _new(ylabel, title)
    for label, (x, y) in series.items():
        axes.scatter(x, y, s=18, alpha=0.8, label=label)
    axes.set_xlabel(xlabel)
    _legend(figure, series)
    return figure


def _legend(figure: Figure, names: Collection[str]) -> None:
    """Below the plot, where it hides nothing; none for one name."""
    if len(names) > 1:
        figure.legend(ncols=min(4, _legend_columns(names, _SIZE[0])), **_BELOW)


def _legend_columns(names: Collection[str], width: float) -> int:
    """As many as fit into a figure of so many inches."""
    letters = _LETTERS * width / _SIZE[0]
    return max(1, min(len(names), int(letters / (max(map(len, names)) + _MARKER))))


def gallery(panels: Mapping[str, Image.Image], columns: int) -> Figure:
    """Pictures with their names above, row by row; a few times as many columns of tall ones."""
    tall = [picture.height / picture.width for picture in panels.values()]
    width = max(_LEAST_PANEL, _SIZE[0] * min(1.0, _TALL / max(tall)))
    columns = min(len(panels), columns * int(_SIZE[0] / width))
    heights = [
        width * max(tall[first : first + columns]) + 0.4 for first in range(0, len(tall), columns)
    ]
    figure = Figure(figsize=(width * columns, sum(heights)), layout="constrained")
    places = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    for axes, (name, picture) in zip(places.flat, panels.items(), strict=False):
        axes.imshow(np.asarray(picture), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(name, fontsize=11)
    for axes in figure.axes:
        axes.set_axis_off()
        axes.set_anchor("N")
    return figure


def save(path: Path, figure: Figure) -> None:
    """Writes the plot as a PNG, whole or not at all."""
    with atomic_replace(path) as part:
        figure.savefig(part, format="png", dpi=_DOTS)


def _new(ylabel: str, title: str, wide: bool = False) -> tuple[Figure, Axes]:
    scale = 1.6 if wide else 1.0
    figure = Figure(figsize=(_SIZE[0] * scale, _SIZE[1]), layout="constrained")
    axes = figure.add_subplot()
    axes.set_ylabel(ylabel)
    lines = [textwrap.fill(line, round(_TITLE * scale)) for line in title.splitlines()]
    axes.set_title("\n".join(lines), fontsize=11)
    _bare(axes)
    return figure, axes


def _bare(axes: Axes) -> None:
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
