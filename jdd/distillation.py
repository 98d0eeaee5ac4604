"""The loop around any method: compiled chunks of updates, evaluations, checkpoints, resume.

It writes no files: a listener hears of all that happens, and gives a run's state back.
"""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdd import ahead, updates
from jdd.data import DeviceData
from jdd.distributed import any_process, broadcast
from jdd.errors import Interrupted, UserError
from jdd.events import Hooks as Hooks
from jdd.events import Listener as Listener
from jdd.events import Listeners as Listeners
from jdd.events import Look as Look
from jdd.events import Loop as Loop
from jdd.events import Outcome as Outcome
from jdd.events import Progress as Progress
from jdd.events import Saved as Saved
from jdd.experts import Segment
from jdd.methods.base import Method, Rejection
from jdd.synthetic import SetInfo, SyntheticSet

SAVE_SECONDS = 60.0
MOST_DROPPED_IN_A_ROW = 20


class Start(NamedTuple):
    """What a run begins with."""

    synthetic: SyntheticSet
    """it stays the caller's"""
    key: jax.Array
    """random key of the method"""
    hooks: Hooks


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
      UserError: nothing can be trained on the set, too many updates in a row were dropped, or the
        listener's state is too far on.
    """
    return distill_many(method, [Start(synthetic, key, hooks or Hooks())], data, loop)[0]


def distill_many(
    method: Method, starts: Sequence[Start], data: DeviceData | None, loop: Loop
) -> list[Outcome]:
    """Several runs of one method side by side, their updates one compiled program.

    Each comes to what `distill` gives it by itself, up to rounding; the seconds that they share
    are divided among them. Those whose states are behind the others' are brought up first.

    Args:
      method: whose updates.
      starts: of each run; their sets have the same shapes and dataset.
      data, loop: as for `distill`, the same for all.

    Raises:
      Interrupted, UserError: as `distill`, for any of the runs; the states of all are saved.
    """
    for start in starts:
        start.synthetic.check()
        _check_counts(method, start.synthetic)
    runs = [_Run(method, loop, start) for start in starts]
    try:
        for run, start in zip(runs, starts, strict=True):
            run.begin(start.synthetic, data, start.key)
        _make_all(runs, data)
    except BaseException:
        for start in starts:
            start.hooks.listener.ended(None)
        raise
    outcomes = [run.outcome() for run in runs]
    for start, outcome in zip(starts, outcomes, strict=True):
        start.hooks.listener.ended(outcome)
    return outcomes


def _check_counts(method: Method, synthetic: SyntheticSet) -> None:
    """Raises `UserError` where a method takes an image's class from its place, and hard labels name
    more images of one class than of another."""
    if synthetic.labels.ndim == 2 or not (method.needs.real_images or method.needs.label_logits):
        return
    counts = np.bincount(np.asarray(synthetic.labels), minlength=synthetic.num_classes)
    if counts.min() != counts.max():
        raise UserError(
            f"the set has {counts.min()} to {counts.max()} images per class: the method needs as "
            "many of each"
        )


def _make_all(runs: "list[_Run]", data: DeviceData | None) -> None:
    """Brings runs to their last iteration, those that are behind the others first."""
    loop = runs[0].loop
    looking = [run for run in runs if run.is_to_look]
    with ahead.compiling(*([partial(_lowered, runs, loop, data)] if looking else [])):
        for run in looking:
            run.look()
    for group, first, last in _spans(runs, loop):
        try:
            _advance(group, first, last, data)
        except (Interrupted, UserError):
            for run in group:
                if run.is_unsaved:
                    run.save()
            raise


def _spans(runs: "list[_Run]", loop: Loop) -> "Iterator[tuple[list[_Run], int, int]]":
    """The runs that are furthest behind, where they are, and up to where, until all are done."""
    while unfinished := [run for run in runs if run.at < loop.iterations]:
        first = min(run.at for run in unfinished)
        group = [run for run in unfinished if run.at == first]
        _, end = next(loop.stops(first))
        yield group, first, min([end, *(run.at for run in unfinished if run.at > first)])


def _lowered(runs: "list[_Run]", loop: Loop, data: DeviceData | None) -> Any:
    """The program that comes first, traced."""
    group, first, last = next(_spans(runs, loop))
    program, arguments = _program(group, data, [next(run.chunks(first, last)) for run in group])
    return program.lower(*arguments)


def _program(
    group: "list[_Run]", data: DeviceData | None, pieces: Sequence[tuple[int, Segment | None]]
) -> tuple[Any, tuple[Any, ...]]:
    runs = [(run.synthetic, run.state) for run in group]
    segments = [segment for _, segment in pieces]
    return updates.program(group[0].method, runs, data, segments, pieces[0][0])


def _advance(group: "list[_Run]", first: int, last: int, data: DeviceData | None) -> None:
    """Brings runs from one iteration to another, and evaluates them where that is due."""
    loop, clock, at = group[0].loop, time.monotonic(), first
    for pieces in zip(*(run.chunks(first, last) for run in group), strict=True):
        program, arguments = _program(group, data, pieces)
        made, size = program(*arguments), pieces[0][0]
        moved = made if len(group) > 1 else [made]
        at, now = at + size, time.monotonic()
        for run, (synthetic, state, metrics) in zip(group, moved, strict=True):
            run.take(synthetic, state, metrics, size, (now - clock) / len(group))
        clock = now
        # Before an evaluation, which is followed by saving, only where the run stops.
        stop = group[0].should_stop()
        if stop or (at < last and any_process(clock - group[0].saved_at > SAVE_SECONDS)):
            for run in group:
                run.save()
        if stop:
            raise Interrupted
    if loop.is_due(last):
        for run in group:
            run.evaluate()
            run.save()
    if group[0].should_stop():
        raise Interrupted


class _Run:
    """One run of `distill_many`."""

    def __init__(self, method: Method, loop: Loop, start: Start) -> None:
        self.method, self.loop, self._hooks = method, loop, start.hooks
        self._info: SetInfo = start.synthetic.info
        self._progress = Progress()
        self.at, self.is_unsaved, self.saved_at = 0, False, time.monotonic()
        self.should_stop = start.hooks.should_stop

    def begin(self, synthetic: SyntheticSet, data: DeviceData | None, key: jax.Array) -> None:
        """Starts the run, or takes up the state that the listener gives back."""
        loop = self.loop
        # Copies, as the loop gives its arrays' memory away, and the caller may want his own again.
        first, state = self.method.begin(key, synthetic, data, self._preparing)
        self.synthetic, self.state = jax.tree.map(jnp.copy, (self._described(first), state))
        self._best = jax.tree.map(jnp.copy, self.synthetic)
        saved = self._hooks.listener.restore((self.synthetic, self.state, self._best))
        if saved is not None:
            self.synthetic, self.state, self._best = jax.tree.map(jnp.array, saved.arrays)
            self.at, self._progress = saved.iteration, saved.progress
            if self.at > loop.iterations:
                raise UserError(
                    f"the state is of iteration {self.at}, beyond `iterations` {loop.iterations}"
                )
        self._resumed_from = self.at
        self._hooks.listener.began(self.at, loop.iterations)

    def _preparing(self, done: int, total: int) -> None:
        self._hooks.preparing(done, total)
        if self.should_stop():
            raise Interrupted("nothing new is stored, the first update was not begun")

    @property
    def is_to_look(self) -> bool:
        """Whether an evaluation is due where the run begins."""
        return self.loop.is_due(self.at) and self._progress.evaluated != self.at

    def look(self) -> None:
        """Evaluates where the run begins."""
        self.evaluate()
        if self.at == self.loop.iterations:
            self.save()
        self.saved_at = time.monotonic()

    def chunks(self, first: int, last: int) -> Iterator[tuple[int, Segment | None]]:
        """The updates between two iterations in compiled calls: how many, on which segments."""
        sampler, size = self._hooks.segments, self.loop.chunk
        sizes = [min(size, last - at) for at in range(first, last, size)]
        pieces = [None] * len(sizes) if sampler is None else sampler.chunks(first, last, size)
        return zip(sizes, pieces, strict=True)

    def outcome(self) -> Outcome:
        """What the run has come to."""
        progress = self._progress
        return Outcome(
            final=self._described(self.synthetic),
            best=self._described(self._best),
            best_iteration=progress.best_iteration,
            best_accuracy=progress.best_accuracy,
            resumed_from=self._resumed_from,
            dropped=progress.dropped,
            seconds=progress.seconds,
            curve=tuple(Look(*look) for look in progress.curve),
        )

    def take(
        self,
        synthetic: SyntheticSet,
        state: Any,
        metrics: dict[str, jax.Array],
        size: int,
        seconds: float,
    ) -> None:
        """Takes what a chunk of updates made."""
        self.synthetic, self.state, self.is_unsaved = synthetic, state, True
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
        self.at += size
        self._progress = progress._replace(seconds=progress.seconds + seconds)
        self._hooks.listener.updated(self.at, self.loop.iterations, rows)
        if any_process(progress.in_a_row >= MOST_DROPPED_IN_A_ROW):
            words = Rejection(reason).words(self.method.rates)
            raise UserError(
                f"{progress.in_a_row} updates in a row were dropped up to iteration {self.at}: "
                f"{words}; a run with another `out` can start from the best set so far, by `init`"
            )

    def evaluate(self) -> None:
        """Evaluates the set, and keeps it where it is the best so far."""
        accuracy, is_best = float("nan"), True
        began, progress = time.monotonic(), self._progress
        curve = progress.curve
        if self._hooks.evaluate is not None:
            try:
                accuracy = broadcast(self._hooks.evaluate(self._described(self.synthetic)))
            except Interrupted:
                self.save()  # a run that resumes from here evaluates first
                raise
            # Of equal accuracies the later set's, which saw more.
            is_best = not accuracy < progress.best_accuracy  # which is NaN without `evaluate`
            seconds = round(progress.seconds + progress.evaluating, 2)
            curve = [*curve, Look(self.at, accuracy, seconds)]
        self._progress = progress._replace(
            evaluated=self.at,
            evaluating=progress.evaluating + time.monotonic() - began,
            curve=curve,
        )
        self.is_unsaved = True
        if is_best:
            self._best = jax.tree.map(jnp.copy, self.synthetic)
            self._progress = self._progress._replace(best_iteration=self.at, best_accuracy=accuracy)
        synthetic = self._described(self.synthetic)
        self._hooks.listener.evaluated(self.at, synthetic, accuracy, is_best)

    def save(self) -> None:
        """Has the listener store the state."""
        arrays = (self.synthetic, self.state, self._described(self._best))
        self._hooks.listener.save(Saved(self.at, arrays, self._progress))
        self.saved_at, self.is_unsaved = time.monotonic(), False

    def _described(self, synthetic: SyntheticSet) -> SyntheticSet:
        """The set with this run's description: a compiled program gives back its first caller's."""
        return synthetic.replace(info=self._info)
