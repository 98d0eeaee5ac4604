"""SGD whose outcome can be differentiated with respect to the data and the step size."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

PyTree = Any
StepLoss = Callable[[PyTree, PyTree, PyTree], jax.Array]

_KEPT = 25  # steps whose parameters are all kept on a CPU


def _add_scaled(tree: PyTree, scale: jax.Array, other: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: a + scale.astype(a.dtype) * b, tree, other)


@partial(jax.custom_vjp, nondiff_argnums=(0, 5))
def sgd(
    loss: StepLoss,
    params: PyTree,
    data: PyTree,
    learning_rate: jax.Array,
    plan: PyTree,
    stride: int = 1,
) -> PyTree:
    """Parameters after plain gradient descent, one step for each entry of `plan`.

    θ_{t+1} = θ_t − α ∇_θ loss(θ_t, data, plan_t)

    Differentiable once in reverse mode with respect to `params`, `data` and `learning_rate`; the
    gradient is exact. It is written as the adjoint recursion instead of left to reverse mode
    through the scan: with λ the cotangent of θ_{t+1}, one forward-over-reverse product
    J = ∂_ε ∇_{θ,data} loss(θ_t + ελ) gives all of

        λ ← λ − α J_θ,      data̅ ← data̅ − α J_data,      α̅ ← α̅ − ∂_ε loss

    so that between the two passes only parameters are kept, never activations, and whatever stands
    between `data` and the network (augmentation, gathering a batch) is differentiated once, not
    twice.

    Args:
      loss: `(params, data, plan_t) → scalar`; a hashable function, static under `jit`.
      params: pytree of float arrays, θ_0.
      data: pytree of float arrays that the loss is differentiated with respect to.
      learning_rate: float scalar α.
      plan: pytree with a leading axis of length `steps`: batch indices, random keys; its
        cotangent is zero.
      stride: keep the parameters of every `stride`-th step and compute those between them again:
        `steps/stride + stride` sets of parameters in memory, for one more pass of the steps.
        1 keeps all.

    Returns:
      Pytree like `params`: θ_steps.
    """
    return _forward(loss, params, data, learning_rate, plan, stride)[0]


def stride_for(steps: int) -> int:
    """A stride for `sgd` on this platform: all parameters are kept where they are few or cheap.

    On a CPU, where a batch is worked on in parts and little else is kept, they would soon be most
    of the memory.
    """
    if steps <= _KEPT or jax.default_backend() != "cpu":
        return 1
    root = math.isqrt(steps)
    divisors = [d for d in range(-(-root // 2), 2 * root + 1) if steps % d == 0]
    return min(divisors, key=lambda d: abs(d - root), default=root)


def _step(
    loss: StepLoss, params: PyTree, data: PyTree, learning_rate: jax.Array, entry: PyTree
) -> PyTree:
    return _add_scaled(params, -learning_rate, jax.grad(loss)(params, data, entry))


def _forward(
    loss: StepLoss,
    params: PyTree,
    data: PyTree,
    learning_rate: jax.Array,
    plan: PyTree,
    stride: int,
) -> tuple[PyTree, tuple[PyTree, ...]]:
    learning_rate = jnp.asarray(learning_rate)
    step = partial(_step, loss)

    def stretch(current: PyTree, entries: PyTree) -> tuple[PyTree, PyTree]:
        last, _ = jax.lax.scan(
            lambda p, entry: (step(p, data, learning_rate, entry), None), current, entries
        )
        return last, current

    whole, rest = _stretches(plan, stride)
    if stride == 1:
        last, kept = jax.lax.scan(
            lambda p, entry: (step(p, data, learning_rate, entry), p), params, plan
        )
    else:
        last, kept = jax.lax.scan(stretch, params, whole)
    middle = last
    if rest is not None:
        last, _ = stretch(last, rest)
    return last, (kept, middle, data, learning_rate, plan)


def _backward(
    loss: StepLoss, stride: int, saved: tuple[PyTree, ...], cotangent: PyTree
) -> tuple[PyTree, PyTree, jax.Array, None]:
    kept, middle, data, learning_rate, plan = saved

    def step_back(carry: tuple[PyTree, PyTree, jax.Array], at: tuple[PyTree, PyTree]) -> Any:
        adjoint, data_bar, rate_bar = carry
        params, entry = at
        value_and_gradients = jax.value_and_grad(loss, argnums=(0, 1))
        _, (slope, (hessian_product, data_product)) = jax.jvp(
            lambda p: value_and_gradients(p, data, entry), (params,), (adjoint,)
        )
        return (
            _add_scaled(adjoint, -learning_rate, hessian_product),
            _add_scaled(data_bar, -learning_rate, data_product),
            rate_bar - slope.astype(rate_bar.dtype),
        ), None

    def stretch_back(carry: tuple[PyTree, PyTree, jax.Array], at: tuple[PyTree, PyTree]) -> Any:
        start, entries = at
        _, trajectory = jax.lax.scan(
            lambda p, entry: (_step(loss, p, data, learning_rate, entry), p), start, entries
        )
        return jax.lax.scan(step_back, carry, (trajectory, entries), reverse=True)

    carry = (cotangent, jax.tree.map(jnp.zeros_like, data), jnp.zeros_like(learning_rate))
    whole, rest = _stretches(plan, stride)
    if rest is not None:
        carry, _ = stretch_back(carry, (middle, rest))
    if stride == 1:
        carry, _ = jax.lax.scan(step_back, carry, (kept, plan), reverse=True)
    else:
        carry, _ = jax.lax.scan(stretch_back, carry, (kept, whole), reverse=True)
    return (*carry, None)


def _stretches(plan: PyTree, stride: int) -> tuple[PyTree, PyTree | None]:
    """The plan as `(steps // stride, stride, …)`, and the rest; a stride of 1 changes nothing."""
    steps = jax.tree.leaves(plan)[0].shape[0]
    whole = steps - steps % stride
    if stride == 1:
        return plan, None
    divided = jax.tree.map(lambda v: v[:whole].reshape(-1, stride, *v.shape[1:]), plan)
    rest = jax.tree.map(lambda v: v[whole:], plan) if whole < steps else None
    return divided, rest


sgd.defvjp(_forward, _backward)


def batch_plan(key: jax.Array, size: int, batch: int, steps: int) -> jax.Array:
    """Which examples each step sees: drawn without replacement within a pass over the set.

    Args:
      key: random key.
      size: examples in the set.
      batch: examples a step; all of them where it is 0 or above `size`. What is left of a pass
        after the last whole batch sits that pass out, where the published code takes a smaller
        batch: better a divisor of `size`.
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
