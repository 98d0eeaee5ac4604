"""Which examples each step sees, and how many of the steps are checkpointed."""

import math

import jax
import jax.numpy as jnp

from jdd.ops.target import platform

# Bytes that parameters and products of all steps may take. On a CPU 93 MB save a seventh of the
# time, 660 a twentieth; elsewhere none of it has been measured.
_BUDGET = {"cpu": 256 * 2**20}
_BUDGET_ELSEWHERE = 2 * 2**30
_FEW = 25  # steps whose parameters are all checkpointed on a CPU
_CONSTANT = 10  # checkpoints where memory must not grow with the steps

MEMORY = ("auto", "all", "constant", "tesla")


def checkpoints_for(steps: int, memory: str = "auto") -> int:
    """How many steps' parameters `sgd` should checkpoint; 0: all.

    Args:
      steps: of the student.
      memory: "all"; "constant", ten; or "auto": all where they are few or cheap. On a CPU, which
        computes a batch in parts, they would soon be most of the memory: beyond 25 steps it
        checkpoints twice the square root of `steps`, at the cost of one more pass over them.
    """
    if memory == "constant":
        return _CONSTANT
    if memory == "all" or steps <= _FEW or platform() != "cpu":
        return 0
    return 2 * math.isqrt(steps)


def memory_budget_for(memory: str = "auto") -> int:
    """Bytes of parameters and products that `sgd` may store; `memory` as for `checkpoints_for`."""
    if memory not in ("auto", "all"):
        return 0
    return _BUDGET.get(platform(), _BUDGET_ELSEWHERE)


def batch_plan(key: jax.Array, size: int, batch: int, steps: int) -> jax.Array:
    """Which examples each step sees: drawn without replacement within a pass over the set.

    Args:
      key: random key.
      size: examples in the set.
      batch: examples a step; all of them where it is 0 or above `size`. The rest of a pass,
        after its last full batch, is left out, where the published code takes a smaller batch:
        choose a divisor of `size`.
      steps: number of steps.

    Returns:
      int32 `(steps, min(batch, size))`.
    """
    batch = size if batch == 0 else min(batch, size)
    per_pass = size // batch
    passes = -(-steps // per_pass)
    orders = jax.vmap(lambda k: jax.random.permutation(k, size))(jax.random.split(key, passes))
    batches = orders[:, : per_pass * batch].reshape(passes * per_pass, batch)
    return batches[:steps].astype(jnp.int32)
