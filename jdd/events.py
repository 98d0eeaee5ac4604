"""What a run's loop is told, tells and ends in; see `jdd.distillation`."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from jdd.errors import SettingError
from jdd.experts import SegmentSampler
from jdd.synthetic import SyntheticSet


class Look(NamedTuple):
    """One evaluation of a run on the validation split."""

    iteration: int
    accuracy: float
    seconds: float  # of the run so far, compiling and earlier evaluations included


class Progress(NamedTuple):
    """The part of a run's state that is not arrays of the method."""

    best_iteration: int = 0
    best_accuracy: float = -1.0
    dropped: int = 0
    in_a_row: int = 0
    seconds: float = 0.0
    evaluated: int = -1  # the iteration of the last evaluation
    evaluating: float = 0.0  # seconds
    curve: Sequence[Look] = ()


class Saved(NamedTuple):
    """A state that a run resumes from."""

    iteration: int
    arrays: Any  # the set, the method's state and the best set
    progress: Progress


class Listener:
    """Hears of a run's events and keeps its states; this one does nothing.

    Derive from it and write the methods that are wanted. It is given the loop's own arrays, whose
    memory goes with the next update: to keep, copy them.
    """

    def restore(self, like: Any) -> Saved | None:
        """The newest state, its arrays in the structure of `like`; None: start afresh."""
        return None

    def began(self, iteration: int, iterations: int) -> None:
        """The run starts, or resumes, behind `iteration`: what comes after it is told next, even
        where an earlier command, stopped before it could store its state, told of it too."""

    def updated(self, iteration: int, iterations: int, rows: list[dict[str, float]]) -> None:
        """A chunk of updates was made up to `iteration`: the metrics of each, in order."""

    def evaluated(
        self, iteration: int, synthetic: SyntheticSet, accuracy: float, is_best: bool
    ) -> None:
        """The set of `iteration` reached this accuracy on the validation split."""

    def save(self, state: Saved) -> None:
        """A state to resume from."""

    def ended(self, outcome: "Outcome | None") -> None:
        """Nothing more is told: the last iteration is made and evaluated; None: the run stops
        before it, by `should_stop` or an error."""


class Listeners(Listener):
    """Several listeners as one: each hears of everything, in order."""

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def restore(self, like: Any) -> Saved | None:
        """The state of the first that keeps any."""
        states = (listener.restore(like) for listener in self._listeners)
        return next((state for state in states if state is not None), None)

    def began(self, iteration: int, iterations: int) -> None:
        """Tells each."""
        for listener in self._listeners:
            listener.began(iteration, iterations)

    def updated(self, iteration: int, iterations: int, rows: list[dict[str, float]]) -> None:
        """Tells each."""
        for listener in self._listeners:
            listener.updated(iteration, iterations, rows)

    def evaluated(
        self, iteration: int, synthetic: SyntheticSet, accuracy: float, is_best: bool
    ) -> None:
        """Tells each."""
        for listener in self._listeners:
            listener.evaluated(iteration, synthetic, accuracy, is_best)

    def save(self, state: Saved) -> None:
        """Gives it to each."""
        for listener in self._listeners:
            listener.save(state)

    def ended(self, outcome: "Outcome | None") -> None:
        """Tells each."""
        for listener in self._listeners:
            listener.ended(outcome)


@dataclass(frozen=True)
class Loop:
    """When to do what."""

    iterations: int
    evaluate_every: int
    chunk: int = 1
    """updates in one compiled call"""

    def __post_init__(self) -> None:
        """Raises `SettingError` for a number that is too small."""
        for name, least in (("iterations", 0), ("evaluate_every", 1), ("chunk", 1)):
            if getattr(self, name) < least:
                raise SettingError(name, getattr(self, name), f"at least {least} is needed")

    def is_due(self, iteration: int) -> bool:
        """Whether the set of an iteration is evaluated."""
        return iteration % self.evaluate_every == 0 or iteration == self.iterations

    def stops(self, start: int) -> Iterator[tuple[int, int]]:
        """Spans of iterations (first, last) that end where an evaluation is due."""
        at = start
        while at < self.iterations:
            end = min((at // self.evaluate_every + 1) * self.evaluate_every, self.iterations)
            yield at, end
            at = end


@dataclass(frozen=True)
class Hooks:
    """What a run is connected to; nothing, where it is left out."""

    evaluate: Callable[[SyntheticSet], float] | None = None
    """accuracy on the validation split, by which the best set is chosen; None: the last is"""
    segments: SegmentSampler | None = None
    """of expert trajectories, for methods that need them"""
    preparing: Callable[[int, int], None] = lambda done, total: None
    """told how far a method is that prepares something before its first update"""
    listener: Listener = dataclasses.field(default_factory=Listener)
    should_stop: Callable[[], bool] = lambda: False
    """asked often; once it is true the state is saved and `Interrupted` raised"""


class Outcome(NamedTuple):
    """What a run ends in."""

    final: SyntheticSet
    best: SyntheticSet
    best_iteration: int
    best_accuracy: float  # on the validation split
    resumed_from: int
    dropped: int
    seconds: float  # distilling, over all the commands that the run took
    curve: tuple[Look, ...] = ()  # the evaluations, in order
