"""Compiling afresh, and timing calls by turns."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

from jdd import randomness

LEAST_ROUNDS = 3
_PAUSE = 0.02  # seconds; threads that wait for work of one library spin no longer than that
_SIDE_ON_CPU, _SIDE_ELSEWHERE = 2048, 8192


def compile_afresh(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """The compiled function, and the seconds that tracing and compiling it took.

    Programs that earlier commands have compiled and kept are not looked for.
    """
    with _no_kept_programs():
        began = time.monotonic()
        compiled = jax.jit(function).lower(*arguments).compile()
        return compiled, time.monotonic() - began


@contextlib.contextmanager
def _no_kept_programs() -> Iterator[None]:
    name = "jax_enable_compilation_cache"
    before = getattr(jax.config, name)
    jax.config.update(name, False)
    compilation_cache.reset_cache()  # JAX asks once whether to keep programs
    try:
        yield
    finally:
        jax.config.update(name, before)
        compilation_cache.reset_cache()


def in_turns(
    calls: Mapping[str, Callable[[], Any]],
    rounds: int,
    most: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, list[float]]:
    """Seconds of each call, one after the other, round after round.

    What else the machine does then slows all of them alike. One round beforehand warms up.

    Args:
      calls: by name; each returns once its work is done.
      rounds: how many; 0: as many as fit into `most` seconds, at least three.
      most: seconds for all.
      progress: told rounds done and rounds in all, as far as that is known; it may raise.
    """
    for call in calls.values():
        call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    began = time.monotonic()
    done = 0
    while True:
        spent = time.monotonic() - began
        goal = rounds or max(LEAST_ROUNDS, done + int((most - spent) / spent * done) if done else 1)
        progress(done, goal)
        if done >= goal:
            return seconds
        for name, call in calls.items():
            time.sleep(_PAUSE)
            start = time.monotonic()
            call()
            seconds[name].append(time.monotonic() - start)
        done += 1


def matrix_product(dtype: Any = jnp.float32) -> tuple[Callable[[], Any], int]:
    """A product of two square matrices, compiled, and its floating-point operations.

    Large enough for the machine's full rate: 2,048 rows on a CPU, 8,192 elsewhere. Of float32
    numbers at the precision that JAX is set to here.
    """
    side = _SIDE_ON_CPU if jax.default_backend() == "cpu" else _SIDE_ELSEWHERE
    keys = jax.random.split(randomness.key(0, "matrices"))
    a, b = (jax.random.normal(key, (side, side), dtype) for key in keys)
    product = jax.jit(jnp.matmul).lower(a, b).compile()
    return lambda: jax.block_until_ready(product(a, b)), 2 * side**3


def median(seconds: list[float]) -> float:
    """Their median."""
    return statistics.median(seconds)
