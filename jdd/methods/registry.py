"""Methods by name. A further method is one file beside this one, and one line here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jdd.errors import unknown
from jdd.methods import coresets
from jdd.methods.base import Method
from jdd.methods.datadam import DatadamSettings, datadam
from jdd.methods.datm import DatmSettings, datm
from jdd.methods.dc import DcSettings, dc, dsa
from jdd.methods.dm import DmSettings, dm
from jdd.methods.mtt import MttSettings, mtt
from jdd.methods.pad import PadSettings, pad


@dataclass(frozen=True)
class Entry:
    """What the loop and the command line need to know of a method."""

    factory: Callable[..., Method]
    settings: type
    trajectories: bool = False
    """whether its updates are given segments of expert trajectories"""
    chooses: bool = False
    """whether it chooses real images: whatever the start, and without any updates"""
    soft: bool = False
    """whether it learns label logits, which start from the experts'"""


METHODS: dict[str, Entry] = {
    "random": Entry(coresets.random, coresets.RandomSettings, chooses=True),
    "herding": Entry(coresets.herding, coresets.CoresetSettings, chooses=True),
    "k_center": Entry(coresets.k_center, coresets.CoresetSettings, chooses=True),
    "dc": Entry(dc, DcSettings),
    "dsa": Entry(dsa, DcSettings),
    "dm": Entry(dm, DmSettings),
    "datadam": Entry(datadam, DatadamSettings),
    "mtt": Entry(mtt, MttSettings, trajectories=True),
    "datm": Entry(datm, DatmSettings, trajectories=True, soft=True),
    "pad": Entry(pad, PadSettings, trajectories=True, soft=True),
}


def names() -> tuple[str, ...]:
    """The names of all methods, sorted."""
    return tuple(sorted(METHODS))


def entry(name: str) -> Entry:
    """A method's entry; raises `UserError` naming the nearest for an unknown name."""
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]


def create(name: str, settings: Any, network: Any) -> Method:
    """The method `name` with its settings and network."""
    return entry(name).factory(settings, network)
