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
    strides: tuple[int, ...] = (),
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
      strides: lengths of nested stretches of steps, each below the one before. Of a stretch only
        the first parameters are kept; those inside are computed again, stretch by stretch, when
        the way back comes to it. `(s,)` holds `steps/s + s` sets of parameters for one more pass
        of the steps, `(s, r)` `steps/s + s/r + r` for two more. Empty keeps all.

    Returns:
      Pytree like `params`: θ_steps.
    """
    return _forward(loss, params, data, learning_rate, plan, strides)[0]


MEMORY = ("auto", "all", "constant", "tesla")


def strides_for(steps: int, memory: str = "auto") -> tuple[int, ...]:
    """Strides for `sgd`.

    Args:
      steps: of the student.
      memory: "all" keeps the parameters of every step. "constant" keeps the fewest: three times the
        cube root of `steps`, 7 sets for 10 steps and 17 for 160, for up to two more passes. "auto"
        keeps all where they are few or cheap; on a CPU, where a batch is worked on in parts and
        little else is kept, they would soon be most of the memory, and beyond 25 steps it keeps
        twice the square root of `steps`, for one more pass.
    """
    if memory == "constant":
        return _fewest(steps)
    if memory == "all" or steps <= _KEPT or jax.default_backend() != "cpu":
        return ()
    root = math.isqrt(steps)
    divisors = [d for d in range(-(-root // 2), 2 * root + 1) if steps % d == 0]
    return (min(divisors, key=lambda d: abs(d - root), default=root),)


def _fewest(steps: int) -> tuple[int, ...]:
    """The strides, at most two, with the fewest sets of parameters; of equals the fewest passes."""
    one = [(s,) for s in range(2, steps)]
    two = [(s, r) for s in range(3, steps) for r in range(2, s)]
    return min([(), *one, *two], key=lambda strides: (_sets_kept(steps, strides), len(strides)))


def _sets_kept(steps: int, strides: tuple[int, ...]) -> int:
    if not strides:
        return steps
    rest = 1 if steps % strides[0] else 0
    return steps // strides[0] + rest + _sets_kept(strides[0], strides[1:])


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
    strides: tuple[int, ...],
) -> tuple[PyTree, tuple[PyTree, ...]]:
    learning_rate = jnp.asarray(learning_rate)

    def step(current: PyTree, entry: PyTree) -> PyTree:
        return _step(loss, current, data, learning_rate, entry)

    last, kept, middle = _descend(step, params, plan, strides[0] if strides else 1)
    return last, (kept, middle, data, learning_rate, plan)


def _backward(
    loss: StepLoss, strides: tuple[int, ...], saved: tuple[PyTree, ...], cotangent: PyTree
) -> tuple[PyTree, PyTree, jax.Array, None]:
    kept, middle, data, learning_rate, plan = saved

    def step(current: PyTree, entry: PyTree) -> PyTree:
        return _step(loss, current, data, learning_rate, entry)

    def back(carry: tuple[PyTree, PyTree, jax.Array], at: tuple[PyTree, PyTree]) -> Any:
        adjoint, data_bar, rate_bar = carry
        _, slope, of_params, of_data = _product(loss, *at, data, adjoint)
        return (
            _add_scaled(adjoint, -learning_rate, of_params),
            _add_scaled(data_bar, -learning_rate, of_data),
            rate_bar - slope.astype(rate_bar.dtype),
        ), None

    carry = (cotangent, jax.tree.map(jnp.zeros_like, data), jnp.zeros_like(learning_rate))
    return (*_climb(step, back, kept, middle, plan, strides, carry), None)


def _product(loss: StepLoss, params: PyTree, entry: PyTree, data: PyTree, along: PyTree) -> Any:
    """∇_θ loss, ⟨∇_θ loss, along⟩, and the derivative along `along` of ∇_θ loss and ∇_data loss."""
    value_and_gradients = jax.value_and_grad(loss, argnums=(0, 1))
    (_, (gradient, _)), (slope, (of_params, of_data)) = jax.jvp(
        lambda p: value_and_gradients(p, data, entry), (params,), (along,)
    )
    return gradient, slope, of_params, of_data


def _descend(
    step: Callable[[PyTree, PyTree], PyTree], start: PyTree, plan: PyTree, stride: int
) -> tuple[PyTree, PyTree, PyTree]:
    """The last parameters, the first of every whole stretch, and the first of the rest."""

    def one(current: PyTree, entry: PyTree) -> tuple[PyTree, PyTree]:
        return step(current, entry), current

    def stretch(current: PyTree, entries: PyTree) -> tuple[PyTree, PyTree]:
        last, _ = jax.lax.scan(lambda p, entry: (step(p, entry), None), current, entries)
        return last, current

    whole, rest = _stretches(plan, stride)
    middle, kept = jax.lax.scan(one if stride == 1 else stretch, start, whole)
    last = middle if rest is None else stretch(middle, rest)[0]
    return last, kept, middle


def _climb(
    step: Callable[[PyTree, PyTree], PyTree],
    back: Callable[[Any, Any], Any],
    kept: PyTree,
    middle: PyTree,
    plan: PyTree,
    strides: tuple[int, ...],
    carry: Any,
) -> Any:
    """Takes `carry` back over all steps of the plan; `kept` and `middle` are `_descend`'s."""
    if not strides:
        return jax.lax.scan(back, carry, (kept, plan), reverse=True)[0]

    def stretch_back(carry: Any, at: tuple[PyTree, PyTree]) -> tuple[Any, None]:
        start, entries = at
        inner = strides[1:]
        _, below, end = _descend(step, start, entries, inner[0] if inner else 1)
        return _climb(step, back, below, end, entries, inner, carry), None

    whole, rest = _stretches(plan, strides[0])
    if rest is not None:
        carry, _ = stretch_back(carry, (middle, rest))
    return jax.lax.scan(stretch_back, carry, (kept, whole), reverse=True)[0]


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


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def tesla(
    loss: StepLoss, params: PyTree, data: PyTree, learning_rate: jax.Array, plan: PyTree
) -> PyTree:
    """The same parameters as `sgd`, with TESLA's gradient, which is *not* the exact one.

    TESLA takes θ_N = θ_0 − α Σ_t ∇_θ loss(θ_t, data, plan_t) and holds every θ_t inside the sum
    constant: the adjoint λ of the last parameters serves all steps, unchanged. So nothing has to be
    kept, and no Hessian is multiplied; with many or large steps the direction is another one.

    Args:
      loss, params, data, learning_rate, plan: as for `sgd`.

    References:
      Cui et al., "Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory" (2023),
      section 3.
    """
    return _tesla_forward(loss, params, data, learning_rate, plan)[0]


def _tesla_forward(
    loss: StepLoss, params: PyTree, data: PyTree, learning_rate: jax.Array, plan: PyTree
) -> tuple[PyTree, tuple[PyTree, ...]]:
    learning_rate = jnp.asarray(learning_rate)
    last, _ = jax.lax.scan(
        lambda p, entry: (_step(loss, p, data, learning_rate, entry), None), params, plan
    )
    return last, (params, data, learning_rate, plan)


def _tesla_backward(loss: StepLoss, saved: tuple[PyTree, ...], cotangent: PyTree) -> Any:
    params, data, learning_rate, plan = saved

    def again(carry: tuple[PyTree, PyTree, jax.Array], entry: PyTree) -> Any:
        current, data_bar, rate_bar = carry
        gradient, slope, _, of_data = _product(loss, current, entry, data, cotangent)
        return (
            _add_scaled(current, -learning_rate, gradient),
            _add_scaled(data_bar, -learning_rate, of_data),
            rate_bar - slope.astype(rate_bar.dtype),
        ), None

    start = (params, jax.tree.map(jnp.zeros_like, data), jnp.zeros_like(learning_rate))
    (_, data_bar, rate_bar), _ = jax.lax.scan(again, start, plan)
    return cotangent, data_bar, rate_bar, None


tesla.defvjp(_tesla_forward, _tesla_backward)


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
