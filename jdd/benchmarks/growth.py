"""How time and memory of an update grow: along one size at a time, around a base point."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from jdd import cost, networks, randomness, unrolling
from jdd.benchmarks.cases import CLASSES, SHAPES, begin, noise, random_dataset, random_segments
from jdd.errors import Interrupted, SettingError, UserError
from jdd.methods import guarded, registry
from jdd.settings import Settings, seed, setting

_OF_TRAJECTORIES = ("steps", "segments")  # sizes that only trajectory methods have


class Point(NamedTuple):
    """The sizes of an update."""

    ipc: int = 1
    steps: int = 20
    width: int = 32
    segments: int = 1


class Axis(NamedTuple):
    """A size that an update may grow along."""

    words: str
    values: tuple[int, ...]  # by default


AXES = {
    "ipc": Axis("images per class", (1, 10, 50)),
    "steps": Axis("student steps", (10, 20, 40, 80, 160)),
    "width": Axis("channels", (32, 64, 128, 256)),
    "segments": Axis("expert segments an update", (1, 2, 4, 8, 16, 32)),
}
"""By the field of `Point`."""


@dataclass(frozen=True)
class Subject(Settings):
    """Whose updates they are, and how they are measured."""

    method: str = setting("mtt", "whose updates")
    dataset: str = setting(
        "mnist",
        f"whose image size: {', '.join(SHAPES)}; no files are read",
        choices=SHAPES,
    )
    memory: str = setting(
        "auto",
        "what is kept of the student's steps: auto, all, constant or tesla",
        choices=unrolling.MEMORY,
    )
    batch_real: int = setting(64, "real images a class, of methods without experts", min=1)
    most: float = setting(3.0, "seconds of timing a point, about", above=0)
    seed: int = seed(0, "seed of images, experts and weights")

    def __post_init__(self) -> None:
        super().__post_init__()
        if registry.entry(self.method).is_coreset:
            problem = "it chooses real images, without any updates"
            raise SettingError("method", self.method, problem)

    def axes(self) -> tuple[str, ...]:
        """Along which sizes its updates grow."""
        of_trajectories = hasattr(registry.entry(self.method).settings(), "segments")
        return tuple(n for n in Point._fields if of_trajectories or n not in _OF_TRAJECTORIES)


def update(subject: Subject, point: Point) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """An update on random images as a run makes it, and its arguments.

    Raises:
      UserError: the method or the network does not take these sizes.
    """
    entry = registry.entry(subject.method)
    dataset = random_dataset(subject.dataset, CLASSES * subject.batch_real, subject.seed)
    depth = 2 if subject.dataset == "digits" else 3  # as everywhere here
    network = networks.create("ConvNet", CLASSES, width=point.width, depth=depth)
    sizes: dict[str, Any] = {"batch_real": subject.batch_real}
    if "segments" in subject.axes():
        sizes = {
            "syn_steps": point.steps,
            "segments": point.segments,
            "memory": subject.memory,
        }
    method = entry.factory(entry.settings(**sizes), network)
    segment = None
    if method.needs.segments is not None:
        segment = random_segments(network, dataset.image_shape, point.segments, subject.seed)
    start = noise(dataset, point.ipc, subject.seed)
    begun = begin(method, start, dataset, randomness.key(subject.seed, "growth"))
    return guarded(method).update, (*begun, segment)


def measure(subject: Subject, point: Point) -> dict[str, Any]:
    """`seconds` of an update (median) and `peak_bytes` as XLA counts them, with the sizes."""
    function, arguments = update(subject, point)
    compiled = jax.jit(function).lower(*arguments).compile()
    # Of the second update: in the first one IDC does not train its network.
    moved, state, _ = compiled(*arguments)
    arguments = (moved, state, *arguments[2:])
    return {
        **point._asdict(),
        "seconds": cost.seconds(lambda: compiled(*arguments), subject.most),
        "peak_bytes": cost.peak_bytes(compiled),
    }


def plan(
    subject: Subject,
    values: Mapping[str, tuple[int, ...] | None],
    at: Mapping[str, int | None],
) -> tuple[Point, dict[str, tuple[int, ...]]]:
    """The base point, and for each size to go along from it its values.

    Args:
      subject: whose updates.
      values: to go along; none: this size stays; None: the size's own (`AXES`).
      at: of the base point; None: `Point`'s own.

    Raises:
      UserError: a size that such updates do not have, or nothing to measure.
    """
    base, axes = Point(), {}
    for name, axis in AXES.items():
        along, fixed = values[name], at[name]
        if name not in subject.axes():
            if along is not None or fixed is not None:
                raise UserError(f"`{name}`: updates of {subject.method} have no {axis.words}")
            continue
        base = base if fixed is None else base._replace(**{name: fixed})
        if along := axis.values if along is None else along:
            axes[name] = along
    if not axes:
        raise UserError("every size is none: there is nothing to measure")
    return base, axes


def points(base: Point, axes: Mapping[str, Sequence[int]]) -> dict[str, list[Point]]:
    """For each axis the base point with that size in turn."""
    return {
        name: [base._replace(**{name: value}) for value in values] for name, values in axes.items()
    }


def measure_all(
    subject: Subject,
    base: Point,
    axes: Mapping[str, Sequence[int]],
    progress: Callable[[int, int, str], None],
    should_stop: Callable[[], bool],
) -> dict[str, dict[str, Any]]:
    """Measures along every axis; the base point is measured once.

    Args:
      subject: whose updates.
      base: the sizes that stay while another grows.
      axes: by the field of `Point`, its values.
      progress: told points done, points in all, and the sizes of the next.
      should_stop: asked before each point.

    Returns:
      For each axis `values`, `seconds`, `peak_bytes`, and the exponent of each one's power law.

    Raises:
      Interrupted: `should_stop()` said so.
    """
    along = points(base, axes)
    every = list(dict.fromkeys(point for group in along.values() for point in group))
    measured: dict[Point, dict[str, Any]] = {}
    for done, point in enumerate(every):
        progress(done, len(every), ", ".join(f"{v} {n}" for n, v in point._asdict().items()))
        if should_stop():
            raise Interrupted
        measured[point] = measure(subject, point)
    sizes: dict[str, dict[str, Any]] = {}
    for name, group in along.items():
        sizes[name] = {"values": list(axes[name])}
        for kind in ("seconds", "peak_bytes"):
            values = [measured[point][kind] for point in group]
            law = power_law(axes[name], values)
            sizes[name] |= {kind: values, f"{kind}_exponent": law and law.exponent}
            sizes[name][f"{kind}_fit"] = law and [law.at(x) for x in axes[name]]
    return sizes


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
