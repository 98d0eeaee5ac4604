"""The loop around any method: compiled chunks of updates, evaluations, checkpoints, resume."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jdd import storage
from jdd.data import RealData
from jdd.errors import Interrupted, UserError
from jdd.experts import Segment, SegmentSource
from jdd.methods.base import Method
from jdd.sharding import agreed, any_process
from jdd.synthetic import SyntheticSet

SAVE_SECONDS = 60.0
MOST_DROPPED_IN_A_ROW = 20


class Listener(Protocol):
    """Hears of a run's events."""

    def updated(self, iteration: int, iterations: int, metrics: dict[str, float]) -> None:
        """A chunk of updates was made: metrics of its last, `dropped` counted from the start."""

    def evaluated(self, iteration: int, synthetic: SyntheticSet, accuracy: float) -> None:
        """The set of `iteration` reached this accuracy on the validation split."""


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


class Outcome(NamedTuple):
    """What a run ends in."""

    final: SyntheticSet
    best: SyntheticSet
    best_iteration: int
    best_accuracy: float  # on the validation split
    resumed_from: int
    dropped: int
    seconds: float  # distilling, over all the commands that the run took


class _Progress(NamedTuple):
    """The part of a run's state that is not arrays of the method."""

    best_iteration: int = 0
    best_accuracy: float = -1.0
    dropped: int = 0
    in_a_row: int = 0
    seconds: float = 0.0
    looked: int = -1  # the iteration of the last look at the validation split


def distill(
    method: Method,
    synthetic: SyntheticSet,
    data: RealData,
    key: jax.Array,
    loop: Loop,
    *,
    evaluate: Callable[[SyntheticSet], float],
    listener: Listener,
    directory: Path,
    segments: SegmentSource | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Runs a method to its last iteration, from the newest state in `directory` if one is there.

    Leaves `directory/state/` (to go on from), `directory/synthetic/` (the set that is best on the
    validation split so far) and `directory/metrics.jsonl`. The same arguments give the same bits,
    interrupted or not.

    Raises:
      Interrupted: `should_stop()` said so; the state is stored.
      UserError: too many updates in a row were dropped; the last good set is stored.
    """
    # Copies, as the loop gives its arrays' memory away, and the caller may want his own again.
    synthetic, state = jax.tree.map(jnp.copy, jax.jit(method.init)(key, synthetic, data))
    best = jax.tree.map(jnp.copy, synthetic)
    keeper = storage.StateKeeper(directory / "state")
    lines = directory / "metrics.jsonl"
    saved = keeper.newest((synthetic, state, best))
    at, progress = 0, _Progress()
    if saved is not None:
        synthetic, state, best = jax.tree.map(jnp.asarray, saved[0])
        at, progress = saved[1]["iteration"], _Progress(**saved[1]["progress"])
        if at > loop.iterations:
            raise UserError(
                f"{directory} has come to iteration {at} already: "
                f"choose another --out for {loop.iterations}"
            )
        best.save(directory / "synthetic")  # what is there may be newer than the state, or damaged
    known = -1 if saved is None else at
    storage.keep_lines(lines, lambda line: line["iteration"] <= known)
    resumed_from = at

    def save() -> None:
        keeper.save(at, (synthetic, state, best), {"progress": progress._asdict()})

    def look() -> None:
        nonlocal best, progress
        try:
            accuracy = agreed(evaluate(synthetic))
        except Interrupted:
            save()  # a run that goes on from here looks first
            raise
        progress = progress._replace(looked=at)
        if accuracy >= progress.best_accuracy:  # of equals the later one, which saw more experts
            best = jax.tree.map(jnp.copy, synthetic)
            best.save(directory / "synthetic")
            progress = progress._replace(best_iteration=at, best_accuracy=accuracy)
        storage.append_line(lines, {"iteration": at, "validation_accuracy": accuracy})
        listener.evaluated(at, synthetic, accuracy)

    due = at % loop.evaluate_every == 0 or at == loop.iterations
    if due and progress.looked != at:
        look()
        if not loop.iterations:
            save()
    clock = saved_at = time.monotonic()
    for first, last in loop.stops(at):
        for size, segment in _chunks(segments, first, last, loop.chunk):
            synthetic, state, metrics = _run(method, synthetic, state, data, segment, size)
            columns = {name: np.asarray(values).tolist() for name, values in metrics.items()}
            for i in range(size):
                row = {name: values[i] for name, values in columns.items()}
                storage.append_line(lines, {"iteration": at + i + 1, **row})
                missed = row["dropped"] > 0
                unsound = missed and row["dropped"] not in method.skips
                progress = progress._replace(
                    dropped=progress.dropped + missed,
                    in_a_row=progress.in_a_row + 1 if unsound else 0,
                )
            at += size
            now = time.monotonic()
            progress = progress._replace(seconds=progress.seconds + now - clock)
            clock = now
            listener.updated(at, loop.iterations, {**row, "dropped": progress.dropped})
            if any_process(progress.in_a_row >= MOST_DROPPED_IN_A_ROW):
                save()
                raise UserError(
                    f"{progress.in_a_row} updates in a row were dropped up to iteration {at}: "
                    f"{method.reasons[int(row['dropped']) - 1]}; --init {directory} with another "
                    "--out goes on from the best set so far"
                )
            if at < last:
                stop = should_stop()
                if stop or any_process(now - saved_at > SAVE_SECONDS):
                    save()
                    saved_at = now
                if stop:
                    raise Interrupted
        look()
        save()
        saved_at = clock = time.monotonic()
        if should_stop():
            raise Interrupted
    return Outcome(
        final=synthetic,
        best=best,
        best_iteration=progress.best_iteration,
        best_accuracy=progress.best_accuracy,
        resumed_from=resumed_from,
        dropped=progress.dropped,
        seconds=progress.seconds,
    )


def _chunks(
    source: SegmentSource | None, first: int, last: int, size: int
) -> Iterator[tuple[int, Segment | None]]:
    sizes = [min(size, last - at) for at in range(first, last, size)]
    if source is None:
        return iter([(s, None) for s in sizes])
    return zip(sizes, source.chunks(first, last, size), strict=True)


def compile_chunk(
    method: Method,
    synthetic: SyntheticSet,
    state: Any,
    data: RealData,
    segments: Segment | None,
    size: int,
) -> Any:
    """The program that `size` updates of a run are, compiled; it gives set and state's memory away.

    Args:
      method: whose updates.
      synthetic, state: from its `init`.
      data: real images.
      segments: one for each update, on a leading axis; None for methods without.
      size: how many updates.
    """
    return _run.lower(method, synthetic, state, data, segments, size).compile()


@partial(jax.jit, static_argnums=(0, 5), donate_argnums=(1, 2))
def _run(
    method: Method,
    synthetic: SyntheticSet,
    state: Any,
    data: RealData,
    segments: Segment | None,
    size: int,
) -> tuple[SyntheticSet, Any, dict[str, jax.Array]]:
    def step(carry: tuple[SyntheticSet, Any], segment: Segment | None) -> Any:
        synthetic, state, metrics = method.update(*carry, data, segment)
        return (synthetic, state), metrics

    (synthetic, state), metrics = jax.lax.scan(step, (synthetic, state), segments, length=size)
    return synthetic, state, metrics
