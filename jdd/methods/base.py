"""What a method is: an Optax-like pair of pure functions over a synthetic set."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from jdd.data import RealData
from jdd.experts import Segment
from jdd.synthetic import SyntheticSet

Metrics = dict[str, jax.Array]


class Update(Protocol):
    """`(synthetic, state, data, segment) → (synthetic, state, metrics)`: pure, jittable, no I/O."""

    def __call__(
        self,
        synthetic: SyntheticSet,
        state: Any,
        data: RealData,
        segment: Segment | None = None,
    ) -> tuple[SyntheticSet, Any, Metrics]:
        """One iteration.

        Metrics are scalars: `loss`, and `dropped`, 0 or the number of the reason in
        `Method.reasons`, counted from 1, why the update was not made.
        """


class Method(NamedTuple):
    """A distillation method, made by a factory from frozen settings: `mtt(settings, network)`."""

    init: Callable[[jax.Array, SyntheticSet, RealData], tuple[SyntheticSet, Any]]
    """`(key, synthetic, data) → (synthetic, state)`; soft labels and coresets are made here"""
    update: Update
    reasons: tuple[str, ...] = ()
    """why updates are dropped, and what to lower when too many are"""
    skips: tuple[int, ...] = ()
    """those reasons, counted from 1, that are part of the method and never end a run"""


def with_precision(method: Method, precision: str) -> Method:
    """The method with its updates' products as `jax.default_matmul_precision` names them."""

    @functools.wraps(method.update)
    def update(*arguments: Any, **named: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return method.update(*arguments, **named)

    return method._replace(update=update)
