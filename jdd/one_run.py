"""One run of the loop: its set, its state, how far it is, and what it tells."""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdd.data import DeviceData
from jdd.distributed import any_process, broadcast
from jdd.errors import Interrupted, UserError
from jdd.events import Hooks, Look, Loop, Outcome, Progress, Saved
from jdd.experts import Segment
from jdd.methods.base import Method, Rejection
from jdd.synthetic import SetInfo, SyntheticSet

MOST_DROPPED_IN_A_ROW = 20


class Start(NamedTuple):
    """What a run begins with."""

    synthetic: SyntheticSet
    """it stays the caller's"""
    key: jax.Array
    """random key of the method"""
    hooks: Hooks


class Run:
    """One run of `jdd.distillation.distill_many`."""

    def __init__(self, method: Method, loop: Loop, start: Start) -> None:
        self.method, self.loop, self._hooks = method, loop, start.hooks
        self._info: SetInfo = start.synthetic.info
        self._progress = Progress()
        self._untold: list[dict[str, float]] = []
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
        self._untold = rows

    def tell(self) -> None:
        """Tells the listener of what was taken. Raises `UserError` where too many updates in a row
        were dropped."""
        rows, self._untold = self._untold, []
        if not rows:
            return
        self._hooks.listener.updated(self.at, self.loop.iterations, rows)
        progress = self._progress
        if any_process(progress.in_a_row >= MOST_DROPPED_IN_A_ROW):
            words = Rejection(int(rows[-1]["dropped"])).words(self.method.rates)
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
            best = progress.best_accuracy  # below 0 before the first
            is_best = accuracy >= best or best < 0 or math.isnan(best)
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

    def rescued(self) -> UserError | None:
        """Stores what is unsaved where the runs end early; what keeps it from that."""
        with contextlib.suppress(UserError):  # that of the run that ends them all is said
            self.tell()
        try:
            if self.is_unsaved:
                self.save()
        except UserError as error:
            return error
        return None

    def _described(self, synthetic: SyntheticSet) -> SyntheticSet:
        """The set with this run's description: a compiled program gives back its first caller's."""
        return synthetic.replace(info=self._info)
