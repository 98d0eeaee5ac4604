"""How time and memory of an update grow: along one size at a time, around a base point."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from jdd import cost, data, networks, randomness, unrolling
from jdd.benchmarks.cases import CLASSES, SHAPES, noise, random_dataset, random_segments
from jdd.errors import UserError, unknown
from jdd.methods import registry

_OF_TRAJECTORIES = ("steps", "segments")  # sizes that only trajectory methods have


class Point(NamedTuple):
    """The sizes of an update."""

    ipc: int = 1  # images per class
    steps: int = 1  # of the student
    width: int = 1  # channels of the ConvNet
    segments: int = 1  # expert segments, their gradients averaged


@dataclass(frozen=True)
class Subject:
    """Whose updates they are."""

    method: str = "mtt"
    dataset: str = "mnist"
    memory: str = "auto"  # of the student's steps, see `jdd.unrolling.kept_for`
    batch_real: int = 64  # real images a class and update, of methods without experts
    seed: int = 0

    def axes(self) -> tuple[str, ...]:
        """Along which sizes its updates grow."""
        has_experts = registry.entry(self.method).trajectories
        return tuple(n for n in Point._fields if has_experts or n not in _OF_TRAJECTORIES)

    def check(self) -> None:
        """Raises `UserError` for a name that is not known, or a value out of range."""
        if registry.entry(self.method).chooses:
            raise UserError(f"--method {self.method}: it chooses real images, without any updates")
        if self.dataset not in SHAPES:
            raise unknown("data set", self.dataset, SHAPES)
        if self.memory not in unrolling.MEMORY:
            raise unknown("--memory", self.memory, unrolling.MEMORY)
        if self.batch_real < 1:
            raise UserError(f"--batch-real {self.batch_real}: at least 1 is needed")


def update(subject: Subject, point: Point) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """An update on random images, and its arguments.

    Raises:
      UserError: the method or the network does not take these sizes.
    """
    entry = registry.entry(subject.method)
    dataset = random_dataset(subject.dataset, CLASSES * subject.batch_real, subject.seed)
    depth = 2 if subject.dataset == "digits" else 3  # as everywhere here
    network = networks.create("ConvNet", CLASSES, width=point.width, depth=depth)
    settings = entry.settings()
    segment = None
    if entry.trajectories:
        settings = replace(
            settings, syn_steps=point.steps, segments=point.segments, memory=subject.memory
        )
        segment = random_segments(network, dataset.image_shape, point.segments, subject.seed)
    else:
        settings = replace(settings, batch_real=subject.batch_real)
    method = entry.factory(settings, network)
    real = data.to_device(dataset.train, dataset.preprocess, CLASSES)
    start = noise(dataset, point.ipc, subject.seed)
    set_and_state = method.init(randomness.key(subject.seed, "growth"), start, real)
    return method.update, (*set_and_state, real, segment)


def measure(subject: Subject, point: Point, most: float) -> dict[str, Any]:
    """`seconds` of an update (median) and `peak_bytes` as XLA counts them, beside the sizes.

    Args:
      subject: whose update.
      point: its sizes.
      most: seconds to spend on timing; it is run three times at least.
    """
    function, arguments = update(subject, point)
    compiled = jax.jit(function).lower(*arguments).compile()
    return {
        **point._asdict(),
        "seconds": cost.seconds(lambda: compiled(*arguments), most),
        "peak_bytes": cost.peak_bytes(compiled),
    }


def points(base: Point, axes: Mapping[str, Sequence[int]]) -> dict[str, list[Point]]:
    """For each axis the base point with that size in turn."""
    return {
        name: [base._replace(**{name: value}) for value in values] for name, values in axes.items()
    }


class PowerLaw(NamedTuple):
    """y = factor · x^exponent."""

    exponent: float
    factor: float

    def at(self, x: float) -> float:
        """y at x."""
        return float(self.factor * x**self.exponent)


def power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw | None:
    """The power law nearest to the points: least squares of log y on log x.

    None where there are fewer than two different x.
    """
    if len(set(x)) < 2:
        return None
    exponent, intercept = np.polyfit(np.log(x), np.log(y), 1)
    return PowerLaw(float(exponent), float(np.exp(intercept)))
