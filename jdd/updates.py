"""The compiled programs that a run's updates are: those of one run, and of several side by side."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax

from jdd.data import DeviceData
from jdd.experts import Segment
from jdd.methods.base import Method, guarded
from jdd.sharding import over_models, stack
from jdd.synthetic import SyntheticSet

Updated = tuple[SyntheticSet, Any, dict[str, jax.Array]]
"""set, state, and the metrics of each update on a leading axis"""


@partial(jax.jit, static_argnums=(0, 5), donate_argnums=(1, 2))
def of_run(
    method: Method,
    synthetic: SyntheticSet,
    state: Any,
    data: DeviceData | None,
    segments: Segment | None,
    size: int,
) -> Updated:
    """Makes `size` updates of a run; the memory of set and state is given away.

    Args:
      method: whose updates; an unsound one is dropped.
      synthetic, state: from its `init`, or from earlier updates.
      data: real images; None where the method needs none.
      segments: one for each update, on a leading axis; None for methods without.
      size: how many.
    """
    return _updated(method, synthetic, state, data, segments, size)


@partial(jax.jit, static_argnums=(0, 5), donate_argnums=(1, 2))
def of_runs(
    method: Method,
    sets: tuple[SyntheticSet, ...],
    states: tuple[Any, ...],
    data: DeviceData | None,
    segments: tuple[Segment | None, ...],
    size: int,
) -> list[Updated]:
    """The same for several runs, which differ in their sets, states and segments alone.

    They are mapped over as models are: divided over devices, one after another on a CPU, side by
    side elsewhere.
    """

    def of_one(data: DeviceData | None, *run: Any) -> Updated:
        synthetic, state, segments = run
        return _updated(method, synthetic, state, data, segments, size)

    stacked = (stack(list(each)) for each in (sets, states, segments))
    moved = over_models(of_one, data, *stacked)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], moved) for i in range(len(sets))]


def program(
    method: Method,
    runs: Sequence[tuple[SyntheticSet, Any]],
    data: DeviceData | None,
    segments: Sequence[Segment | None],
    size: int,
) -> tuple[Any, tuple[Any, ...]]:
    """The jitted function that makes `size` updates of one run or of several, and its arguments.

    Args:
      method, data, size: as for `of_run`.
      runs: set and state of each.
      segments: of each run.
    """
    if len(runs) == 1:
        return of_run, (method, *runs[0], data, segments[0], size)
    sets, states = zip(*runs, strict=True)
    return of_runs, (method, sets, states, data, tuple(segments), size)


def _updated(
    method: Method,
    synthetic: SyntheticSet,
    state: Any,
    data: DeviceData | None,
    segments: Segment | None,
    size: int,
) -> Updated:
    update = guarded(method).update

    def step(carry: tuple[SyntheticSet, Any], segment: Segment | None) -> Any:
        synthetic, state, metrics = update(*carry, data, segment)
        return (synthetic, state), metrics

    (synthetic, state), metrics = jax.lax.scan(step, (synthetic, state), segments, length=size)
    return synthetic, state, metrics
