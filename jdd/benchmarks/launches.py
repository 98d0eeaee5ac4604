"""How many kernels a call runs on an accelerator, and how often the host has to start some."""

import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax

_STREAM, _OPERATIONS = "Stream #", "XLA Ops"  # a GPU's and a TPU's lines of what they ran
_LAUNCH = re.compile(r"cu(da)?(Graph)?Launch")


class Launches(NamedTuple):
    """Of one call."""

    kernels: int
    """kernels and copies that the device ran"""
    launches: int
    """calls by which the host started them, without CUDA graphs, which XLA makes none of in a
    profile; 0 where the profile has none"""


def profiled(call: Callable[[], Any]) -> Launches | None:
    """Counts those of `call`, which returns once its work is done; None on a CPU."""
    if jax.default_backend() == "cpu":
        return None
    with tempfile.TemporaryDirectory() as place:
        with jax.profiler.trace(place):
            call()
        (path,) = Path(place).rglob("*.xplane.pb")
        return counted(jax.profiler.ProfileData.from_file(str(path)).planes)


def counted(planes: Iterable[Any]) -> Launches | None:
    """The same from a profile's planes; None where no device has one."""
    kernels, launches, ran = 0, 0, False
    for plane in planes:
        lines = list(plane.lines)
        if plane.name.startswith("/device:"):
            # A GPU has the second too, made of the first: the kernels of each operation as one.
            streams = [line for line in lines if line.name.startswith(_STREAM)]
            streams = streams or [line for line in lines if line.name == _OPERATIONS]
            ran |= bool(streams)
            kernels += sum(1 for line in streams for _ in line.events)
        elif plane.name.startswith("/host:"):
            events = (event.name for line in lines for event in line.events)
            launches += sum(bool(_LAUNCH.match(name)) for name in events)
    return Launches(kernels, launches) if ran else None
