"""How many kernels a call runs on an accelerator, and how often the host has to start some."""

import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax

_STREAM = re.compile(r"Stream #|XLA Ops$")  # a GPU's and a TPU's lines of what they ran
_LAUNCH = re.compile(r"cu(da)?(Graph)?Launch")


class Launches(NamedTuple):
    """Of one call."""

    kernels: int
    """kernels and copies that the device ran"""
    launches: int
    """calls by which the host started them, a CUDA graph as one; 0 where the profile has none"""


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
    kernels, launches, devices = 0, 0, 0
    for plane in planes:
        on_device = plane.name.startswith("/device:")
        for line in plane.lines:
            if on_device and _STREAM.match(line.name):
                devices += 1
                kernels += sum(1 for _ in line.events)
            elif plane.name.startswith("/host:"):
                launches += sum(1 for event in line.events if _LAUNCH.match(event.name))
    return Launches(kernels, launches) if devices else None
