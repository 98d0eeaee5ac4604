"""Presets: a method's settings for each dataset and number of images per class.

`paper` has the published settings, `released` those of released code where it differs from its
paper, `quick` those found by trying on two CPU cores (docs/dev/presets.md). Each method's file
holds its own; what goes for all methods is here.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jdd.data.class_names import imagenet_subset
from jdd.data.shapes import IMAGENET, Traits
from jdd.errors import SettingError
from jdd.errors import nearest as nearest_name
from jdd.methods import borrowed

NAMES = ("quick", "paper", "released")
NETWORK = "ConvNet"  # the one that the presets' options are for

Row = Mapping[str, Any]
"""Values by the name of the setting."""
Rows = Mapping[str, Mapping[int, Row]]
"""By dataset, and by the images per class that a row goes for: from there up to the next row."""

_PAPER: Mapping[str, Row] = {"digits": {"depth": 2}, "mhist": {"depth": 7}}
_PAPER_ALL: Row = {"equal_batches": False, "eval_equal_batches": False}
_QUICK_ALL: Row = {"width": 32, "eval_epochs": 300, "eval_dsa": False, "full_data_epochs": 1}
_QUICK: Mapping[str, Row] = {
    "digits": {"width": 64, "depth": 2, "eval_dsa": True, "full_data_epochs": 30},
    "mnist": {"eval_augment_per_image": True, "eval_epochs": 1000},
    "cifar10": {"eval_dsa": True, "eval_epochs": 1000},
    "mhist": {"width": 16, "depth": 5},
}


@dataclass(frozen=True)
class Preset:
    """A method's settings under one preset."""

    rows: Rows
    fallback: str
    """the dataset whose rows the others borrow"""
    all: Row = field(default_factory=dict)
    """for every run; a row overrides it"""
    datasets: Mapping[str, Row] = field(default_factory=dict)
    """for all runs on a dataset, also where its rows are borrowed; overrides the row"""
    any_from: float = math.inf
    """images per class from which on a dataset's last row goes for any number"""

    def extended(
        self,
        *,
        all: Row | None = None,
        datasets: Mapping[str, Row] | None = None,
        rows: Rows | None = None,
    ) -> "Preset":
        """The preset with further values for all runs, and further or other rows."""
        changed = {name: dict(cells) for name, cells in self.rows.items()}
        for name, cells in (rows or {}).items():
            changed.setdefault(name, {}).update(cells)
        return Preset(
            changed,
            self.fallback,
            {**self.all, **(all or {})},
            {**self.datasets, **(datasets or {})},
            self.any_from,
        )


class Cell(NamedTuple):
    """What a preset says of one run."""

    values: Row
    note: str  # from where the settings are borrowed; empty where they are the run's own
    shared: frozenset[str] = frozenset()  # names in `values` that no method's own preset sets
    source: str = ""  # the dataset that they are borrowed from


def cell(name: str, preset: Preset, dataset: str, ipc: int, traits: Traits | None = None) -> Cell:
    """The settings of a run, and where they are borrowed from.

    Args:
      name: of the preset, one of `NAMES`.
      preset: the method's.
      dataset: the run's.
      ipc: images per class.
      traits: of data that nobody has published settings for, by which they are chosen.
    """
    kind = IMAGENET if imagenet_subset(dataset) else dataset
    nearest = None
    if traits is not None and kind not in preset.rows:
        nearest = borrowed.nearest(preset.rows, traits, preset.fallback)
    source = kind if kind in preset.rows else nearest or preset.fallback
    rows = preset.rows[source]
    start = max((count for count in rows if count <= ipc), default=min(rows))
    quick = name == "quick"
    every, some = (_QUICK_ALL, _QUICK) if quick else (_PAPER_ALL, _PAPER)
    like = kind if nearest is None else source  # whose networks are evaluated alike
    shared = {**every, **some.get(like, {})}
    row = dict(rows[start])
    if source != kind:
        row.pop("preprocessing", None)  # which belongs to the images
    specific = {**preset.all, **row, **preset.datasets.get(like, {})}
    if nearest is not None:
        specific.pop("preprocessing", None)
    values, for_all = {**shared, **specific}, frozenset(shared) - frozenset(specific)
    if source == kind and (start == ipc or ipc >= preset.any_from):
        return Cell(values, "", for_all)
    note = (
        f"no {'quick' if quick else 'published'} settings for {dataset} at {ipc} per class: those "
        f"for {source} at {start} per class are used"
    )
    return Cell(values, note, for_all, source)


def check_name(name: str) -> None:
    """Raises `SettingError` naming the nearest for an unknown preset."""
    if name not in NAMES:
        raise SettingError("preset", f"'{name}'", nearest_name(name, NAMES))
