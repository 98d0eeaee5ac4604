"""The loop around any method: compiled chunks of updates, evaluations, checkpoints, resume.

It writes no files: a listener hears of all that happens, and gives a run's state back.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdd.data import DeviceData
from jdd.distributed import any_process, broadcast
from jdd.errors import Interrupted, UserError
from jdd.experts import Segment, SegmentSampler
from jdd.methods.base import Method, Rejection, guarded
from jdd.synthetic import SetInfo, SyntheticSet

SAVE_SECONDS = 60.0
MOST_DROPPED_IN_A_ROW = 20


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

    It is given the loop's own arrays, whose memory goes with the next update: to keep, copy them.
    """

    def restore(self, like: Any) -> Saved | None:
        """The newest state, its arrays in the structure of `like`; None: start afresh."""
        return None

    def updated(self, iteration: int, iterations: int, rows: list[dict[str, float]]) -> None:
        """A chunk of updates was made up to `iteration`: the metrics of each, in order."""

    def evaluated(
        self, iteration: int, synthetic: SyntheticSet, accuracy: float, is_best: bool
    ) -> None:
        """The set of `iteration` reached this accuracy on the validation split."""

    def save(self, state: Saved) -> None:
        """A state to resume from."""


@dataclass(frozen=True)
class Loop:
    """When to do what."""

    iterations: int
    evaluate_every: int
    chunk: int = 1
    """updates in one compiled call"""

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


def distill(
    method: Method,
    synthetic: SyntheticSet,
    data: DeviceData | None,
    key: jax.Array,
    loop: Loop,
    hooks: Hooks | None = None,
) -> Outcome:
    """Runs a method to its last iteration, from the state that the listener gives back.

    The same arguments give the same bits, interrupted or not. Unsound updates are dropped, see
    `jdd.methods.guarded`.

    Args:
      method: whose updates.
      synthetic: the set to start from; it stays the caller's.
      data: real images with a class index (`jdd.data.to_device`); None where the method needs none.
      key: random key of the method.
      loop: when to do what.
      hooks: validation, experts, files, a request to stop.

    Raises:
      Interrupted: `hooks.should_stop()` said so; the state is saved.
      UserError: too many updates in a row were dropped, or the listener's state is too far on.
    """
    return _Run(method, loop, hooks or Hooks(), synthetic.info).go(synthetic, data, key)


class _Run:
    """One call of `distill`."""

    def __init__(self, method: Method, loop: Loop, hooks: Hooks, info: SetInfo) -> None:
        self._method, self._loop, self._hooks, self._info = method, loop, hooks, info
        self._progress = Progress()
        self._at = 0

    def go(self, synthetic: SyntheticSet, data: DeviceData | None, key: jax.Array) -> Outcome:
        loop, hooks = self._loop, self._hooks
        # Copies, as the loop gives its arrays' memory away, and the caller may want his own again.
        first, state = jax.jit(self._method.init)(key, synthetic, data)
        self._set, self._state = jax.tree.map(jnp.copy, (self._described(first), state))
        self._best = jax.tree.map(jnp.copy, self._set)
        saved = hooks.listener.restore((self._set, self._state, self._best))
        if saved is not None:
            self._set, self._state, self._best = jax.tree.map(jnp.array, saved.arrays)
            self._at, self._progress = saved.iteration, saved.progress
            if self._at > loop.iterations:
                raise UserError(
                    f"the state is of iteration {self._at}, beyond `iterations` {loop.iterations}"
                )
        resumed_from = self._at
        due = self._at % loop.evaluate_every == 0 or self._at == loop.iterations
        if due and self._progress.evaluated != self._at:
            self._evaluate()
            if not loop.iterations:
                self._save()
        self._clock = self._saved_at = time.monotonic()
        for first, last in loop.stops(self._at):
            for size, segment in _chunks(hooks.segments, first, last, loop.chunk):
                self._update(data, segment, size)
                if self._at < last:
                    self._pause()
            self._evaluate()
            self._save()
            self._clock = time.monotonic()
            if hooks.should_stop():
                raise Interrupted
        progress = self._progress
        return Outcome(
            final=self._described(self._set),
            best=self._described(self._best),
            best_iteration=progress.best_iteration,
            best_accuracy=progress.best_accuracy,
            resumed_from=resumed_from,
            dropped=progress.dropped,
            seconds=progress.seconds,
            curve=tuple(Look(*look) for look in progress.curve),
        )

    def _update(self, data: DeviceData | None, segment: Segment | None, size: int) -> None:
        """Makes a chunk of updates."""
        self._set, self._state, metrics = _run(
            self._method, self._set, self._state, data, segment, size
        )
        columns = {name: np.asarray(values).tolist() for name, values in metrics.items()}
        rows = [{name: values[i] for name, values in columns.items()} for i in range(size)]
        progress = self._progress
        for row in rows:
            reason = int(row["dropped"])
            unsound = reason > 0 and not Rejection(reason).is_expected
            progress = progress._replace(
                dropped=progress.dropped + (reason > 0),
                in_a_row=progress.in_a_row + 1 if unsound else 0,
            )
        self._at += size
        now = time.monotonic()
        self._progress = progress._replace(seconds=progress.seconds + now - self._clock)
        self._clock = now
        self._hooks.listener.updated(self._at, self._loop.iterations, rows)
        if any_process(progress.in_a_row >= MOST_DROPPED_IN_A_ROW):
            self._save()
            raise UserError(
                f"{progress.in_a_row} updates in a row were dropped up to iteration {self._at}: "
                f"{Rejection(reason).words}; a run with another `out` can start from the best set "
                "so far, by `init`"
            )

    def _pause(self) -> None:
        """Between two chunks: saves where it is time to, and stops where it should."""
        stop = self._hooks.should_stop()
        if stop or any_process(self._clock - self._saved_at > SAVE_SECONDS):
            self._save()
        if stop:
            raise Interrupted

    def _evaluate(self) -> None:
        accuracy, is_best = float("nan"), True
        began, progress = time.monotonic(), self._progress
        curve = progress.curve
        if self._hooks.evaluate is not None:
            try:
                accuracy = broadcast(self._hooks.evaluate(self._described(self._set)))
            except Interrupted:
                self._save()  # a run that resumes from here evaluates first
                raise
            # Of equal accuracies the later set's, which saw more.
            is_best = not accuracy < progress.best_accuracy  # which is NaN without `evaluate`
            seconds = round(progress.seconds + progress.evaluating, 2)
            curve = [*curve, Look(self._at, accuracy, seconds)]
        self._progress = progress._replace(
            evaluated=self._at,
            evaluating=progress.evaluating + time.monotonic() - began,
            curve=curve,
        )
        if is_best:
            self._best = jax.tree.map(jnp.copy, self._set)
            self._progress = self._progress._replace(
                best_iteration=self._at, best_accuracy=accuracy
            )
        synthetic = self._described(self._set)
        self._hooks.listener.evaluated(self._at, synthetic, accuracy, is_best)

    def _save(self) -> None:
        arrays = (self._set, self._state, self._described(self._best))
        self._hooks.listener.save(Saved(self._at, arrays, self._progress))
        self._saved_at = time.monotonic()

    def _described(self, synthetic: SyntheticSet) -> SyntheticSet:
        """The set with this run's description: a compiled program gives back its first caller's."""
        return synthetic.replace(info=self._info)


def _chunks(
    sampler: SegmentSampler | None, first: int, last: int, size: int
) -> Iterator[tuple[int, Segment | None]]:
    sizes = [min(size, last - at) for at in range(first, last, size)]
    if sampler is None:
        return iter([(s, None) for s in sizes])
    return zip(sizes, sampler.chunks(first, last, size), strict=True)


def lower_chunk(
    method: Method,
    synthetic: SyntheticSet,
    state: Any,
    data: DeviceData | None,
    segments: Segment | None,
    size: int,
) -> Any:
    """The program that `size` updates of a run are, traced; it gives set and state's memory away.

    Args:
      method: whose updates.
      synthetic, state: from its `init`, as arrays or as their shapes.
      data: real images; None where the method needs none.
      segments: one for each update, on a leading axis; None for methods without.
      size: how many updates.
    """
    return _run.lower(method, synthetic, state, data, segments, size)


@partial(jax.jit, static_argnums=(0, 5), donate_argnums=(1, 2))
def _run(
    method: Method,
    synthetic: SyntheticSet,
    state: Any,
    data: DeviceData | None,
    segments: Segment | None,
    size: int,
) -> tuple[SyntheticSet, Any, dict[str, jax.Array]]:
    update = guarded(method).update

    def step(carry: tuple[SyntheticSet, Any], segment: Segment | None) -> Any:
        synthetic, state, metrics = update(*carry, data, segment)
        return (synthetic, state), metrics

    (synthetic, state), metrics = jax.lax.scan(step, (synthetic, state), segments, length=size)
    return synthetic, state, metrics
