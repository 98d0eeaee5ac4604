"""What a compiled step costs: memory by XLA's own account, time by running it."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import jax


def parameters(tree: Any) -> int:
    """How many numbers a pytree of arrays (or of their shapes) holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def peak_bytes(compiled: Any) -> int:
    """Memory that a compiled function needs at most: arguments, results and what lies between.

    Donated arguments, whose memory the results take over, count once.
    """
    analysis = compiled.memory_analysis()
    return int(
        analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        + analysis.temp_size_in_bytes
        - analysis.alias_size_in_bytes
    )


def seconds(call: Callable[[], Any], most: float = 5.0, least_runs: int = 2) -> float:
    """Median seconds of a call: after one to warm up, as many as fit into `most` seconds."""
    began = time.monotonic()
    jax.block_until_ready(call())
    found: list[float] = []
    while len(found) < least_runs or time.monotonic() - began < most:
        start = time.monotonic()
        jax.block_until_ready(call())
        found.append(time.monotonic() - start)
        if len(found) >= 20:
            break
    return statistics.median(found)
