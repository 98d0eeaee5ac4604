"""The loop around any method: compiled chunks of updates, evaluations, checkpoints, resume.

It writes no files: a listener hears of all that happens, and gives a run's state back.
"""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from jdd import ahead, updates
from jdd.data import Dataset, DeviceData
from jdd.distributed import any_process
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
from jdd.methods.base import Method
from jdd.one_run import Run
from jdd.one_run import Start as Start
from jdd.synthetic import SyntheticSet

SAVE_SECONDS = 60.0


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
    if isinstance(data, Dataset):
        raise UserError(
            "`data` is a Dataset: jdd.data.to_device(dataset.train, dataset.preprocess, "
            "dataset.num_classes) makes what a method is given"
        )
    for start in starts:
        start.synthetic.check()
        _check_counts(method, start.synthetic)
    runs = [Run(method, loop, start) for start in starts]
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


def _make_all(runs: list[Run], data: DeviceData | None) -> None:
    """Brings runs to their last iteration, those that are behind the others first."""
    loop = runs[0].loop
    looking = [run for run in runs if run.is_to_look]
    with ahead.compiling(*([partial(_lowered, runs, loop, data)] if looking else [])):
        for run in looking:
            run.look()
    for group, first, last in _spans(runs, loop):
        try:
            _advance(group, first, last, data)
        except (Interrupted, UserError) as stop:
            errors = [error for run in group if (error := run.rescued()) is not None]
            if errors and isinstance(stop, Interrupted):  # which says that the state is stored
                raise errors[0] from None
            raise


def _spans(runs: list[Run], loop: Loop) -> Iterator[tuple[list[Run], int, int]]:
    """The runs that are furthest behind, where they are, and up to where, until all are done."""
    while unfinished := [run for run in runs if run.at < loop.iterations]:
        first = min(run.at for run in unfinished)
        group = [run for run in unfinished if run.at == first]
        _, end = next(loop.stops(first))
        yield group, first, min([end, *(run.at for run in unfinished if run.at > first)])


def _lowered(runs: list[Run], loop: Loop, data: DeviceData | None) -> Any:
    """The program that comes first, traced."""
    group, first, last = next(_spans(runs, loop))
    program, arguments = _program(group, data, [next(run.chunks(first, last)) for run in group])
    return program.lower(*arguments)


def _program(
    group: list[Run], data: DeviceData | None, pieces: Sequence[tuple[int, Segment | None]]
) -> tuple[Any, tuple[Any, ...]]:
    runs = [(run.synthetic, run.state) for run in group]
    segments = [segment for _, segment in pieces]
    return updates.program(group[0].method, runs, data, segments, pieces[0][0])


def _advance(group: list[Run], first: int, last: int, data: DeviceData | None) -> None:
    """Brings runs from one iteration to another, and evaluates them where that is due."""
    loop, clock, at = group[0].loop, time.monotonic(), first
    for pieces in zip(*(run.chunks(first, last) for run in group), strict=True):
        program, arguments = _program(group, data, pieces)
        made, size = program(*arguments), pieces[0][0]
        moved = made if len(group) > 1 else [made]
        at, now = at + size, time.monotonic()
        for run, (synthetic, state, metrics) in zip(group, moved, strict=True):
            run.take(synthetic, state, metrics, size, (now - clock) / len(group))
        for run in group:  # whose arrays are whole, whatever a listener raises
            run.tell()
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
