"""A student's descent whose result can be differentiated: the exact adjoint, with checkpoints."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jdd.ops import keep_products
from jdd.unrolling._packed import Packed, PackedLoss, Rows, packing_of, stored_as_rows
from jdd.unrolling._revolve import backward_plan, forward_plan
from jdd.unrolling._rules import Rule, Sgd
from jdd.unrolling._step import PyTree, StepLoss, add_scaled, product


def sgd(
    loss: StepLoss,
    params: PyTree,
    data: PyTree,
    learning_rate: jax.Array,
    plan: PyTree,
    checkpoints: int = 0,
    memory_budget: int = 0,
) -> PyTree:
    """Parameters after plain gradient descent: `descend` by `Sgd`, whose state they are."""
    rest = (data, learning_rate, plan, checkpoints, memory_budget)
    packing = packing_of(params)
    if packing is None:
        return descend(loss, Sgd(), params, *rest)
    return packing.unpack(descend(PackedLoss(loss, packing), Sgd(), packing.pack(params), *rest))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 6, 7))
def descend(
    loss: StepLoss,
    rule: Rule,
    state: PyTree,
    data: PyTree,
    learning_rate: jax.Array,
    plan: PyTree,
    checkpoints: int = 0,
    memory_budget: int = 0,
) -> PyTree:
    """A student's state after one step of descent for each entry of `plan`.

    s_{t+1} = U(s_t, ∇_θ loss(θ_t, data, plan_t), α)

    with U the rule and θ_t the parameters in s_t; for `Sgd` θ_{t+1} = θ_t − α ∇_θ loss.

    Differentiable once in reverse mode with respect to `state`, `data` and `learning_rate`; the
    gradient is exact. It is written as the adjoint recursion instead of left to reverse mode
    through the scan. With λ the cotangent of s_{t+1}, the rule's own derivative, entry by entry,
    gives the direct part of that of s_t and the cotangent γ of the gradient; one
    forward-over-reverse product J = ∂_ε ∇_{θ,data} loss(θ_t + εγ) gives the rest:

        λ ← λ U_s + J_θ,      data̅ ← data̅ + J_data,      α̅ ← α̅ + λ U_α

    For `Sgd` γ = −αλ, and λ U_α is the slope −∂_ε loss that comes with J. So between the two passes
    only states are stored, never activations, and whatever stands between `data` and the network
    (augmentation, gathering a batch) is differentiated once, not twice. Within the memory budget
    the outputs of the step's convolutions are stored too: J then takes six products a layer instead
    of eight (nine where γ depends on the gradient, as for Adam).

    Args:
      loss: `(params, data, plan_t) → scalar`; a hashable function, static under `jit`.
      rule: `Sgd`, `Momentum` or `Adam`.
      state: pytree of float arrays, s_0: `rule.start(params)`, or what earlier steps led to.
      data: pytree of float arrays that the loss is differentiated with respect to.
      learning_rate: float scalar α.
      plan: pytree with a leading axis of length `steps`: batch indices, random keys; its
        cotangent is zero.
      checkpoints: how many steps' states are stored at most, 0: all. The others are recomputed
        on the backward pass, in the order that takes the fewest steps: with 10 checkpoints about
        once for up to 65 steps and twice for up to 285.
      memory_budget: bytes. Where states and products of all steps fit, both are stored,
        whatever `checkpoints` is.

    Returns:
      Pytree like `state`: s_steps.
    """
    arguments = (loss, rule, state, data, learning_rate, plan, checkpoints, memory_budget)
    return _forward(*arguments)[0]


def _forward(
    loss: StepLoss,
    rule: Rule,
    state: PyTree,
    data: PyTree,
    learning_rate: jax.Array,
    plan: PyTree,
    checkpoints: int,
    memory_budget: int,
) -> tuple[PyTree, tuple[PyTree, ...]]:
    learning_rate = jnp.asarray(learning_rate)
    steps = jax.tree.leaves(plan)[0].shape[0]

    def step_with_products(current: PyTree, entry: PyTree) -> tuple[PyTree, tuple[PyTree, PyTree]]:
        gradient, products = _gradient_and_products(loss, rule.params(current), entry, data)
        kept = gradient if rule.pulls_gradient else None
        return rule.advance(current, gradient, learning_rate), (current, (kept, products))

    # Without `jit` a scan is a loop in Python, and each step's products a structure of their own.
    in_python = jax.config.jax_disable_jit  # type: ignore[attr-defined, unused-ignore]
    if memory_budget and steps and not in_python:
        first = jax.tree.map(lambda v: v[0], plan)
        _, of_a_step = jax.eval_shape(step_with_products, state, first)
        if steps * _bytes(of_a_step) <= memory_budget:
            if not stored_as_rows(of_a_step):
                last, all_of_them = jax.lax.scan(step_with_products, state, plan)
                return last, (all_of_them, data, learning_rate, plan)

            def step_with_row(current: PyTree, entry: PyTree) -> tuple[PyTree, Rows]:
                current, stored = step_with_products(current, entry)
                return current, Rows.of(stored)

            last, rows = jax.lax.scan(step_with_row, state, plan)
            return last, ((rows, None), data, learning_rate, plan)

    def advance(current: PyTree, entry: PyTree) -> PyTree:
        return _step(loss, rule, current, data, learning_rate, entry)

    if not 0 < checkpoints < steps:
        last, all_of_them = jax.lax.scan(lambda p, e: (advance(p, e), (p, None)), state, plan)
        return last, (all_of_them, data, learning_rate, plan)

    def step_and_keep(
        carry: tuple[PyTree, PyTree], at: tuple[jax.Array, PyTree]
    ) -> tuple[tuple[PyTree, PyTree], None]:
        current, places = carry
        place, entry = at
        return (advance(current, entry), _put(places, place, current)), None

    places = jnp.asarray(forward_plan(steps, checkpoints), jnp.int32)
    empty = jax.tree.map(lambda p: jnp.zeros((checkpoints + 1, *p.shape), p.dtype), state)
    (last, filled), _ = jax.lax.scan(step_and_keep, (state, empty), (places, plan))
    return last, ((filled, None), data, learning_rate, plan)


def _backward(
    loss: StepLoss,
    rule: Rule,
    checkpoints: int,
    memory_budget: int,
    saved: tuple[PyTree, ...],
    cotangent: PyTree,
) -> tuple[PyTree, PyTree, jax.Array, None]:
    del memory_budget  # whether it sufficed shows in `kept`
    (places, kept), data, learning_rate, plan = saved
    steps = jax.tree.leaves(plan)[0].shape[0]

    def back(carry: tuple[PyTree, PyTree, jax.Array], at: tuple[PyTree, PyTree, PyTree]) -> Any:
        adjoint, data_bar, rate_bar = carry
        state, kept, entry = at
        if isinstance(state, Rows):
            state, kept = state.tree()
        params = rule.params(state)
        if kept is None and rule.pulls_gradient:
            kept = _gradient_and_products(loss, params, entry, data)
        gradient, products = (None, None) if kept is None else kept
        pulled = rule.pull(state, gradient, learning_rate, adjoint)
        if products is None:
            _, slope, of_params, of_data = product(loss, params, entry, data, pulled.along)
        else:
            slope, (of_params, of_data) = products(params, entry, data, pulled.along)
        of_params = add_scaled(rule.params(pulled.state), pulled.scale, of_params)
        of_rate = -slope if pulled.learning_rate is None else pulled.learning_rate
        return (
            rule.replace(pulled.state, of_params),
            add_scaled(data_bar, pulled.scale, of_data),
            rate_bar + of_rate.astype(rate_bar.dtype),
        ), None

    carry = (cotangent, jax.tree.map(jnp.zeros_like, data), jnp.zeros_like(learning_rate))
    if kept is not None or isinstance(places, Rows) or not 0 < checkpoints < steps:

        def back_joined(carry: Any, at: Any) -> Any:
            return _joined(*back(_parted(*carry), at)[0]), None

        joined = _joined(*carry)
        last = jax.lax.scan(back_joined, joined, (places, kept, plan), reverse=True)[0]
        return (*_parted(*last), None)

    def move(state: tuple[Any, ...], at: Any) -> tuple[tuple[Any, ...], None]:
        current, places, carry = state
        stored = jax.tree.map(lambda v: v[at.load], places)
        current = jax.tree.map(lambda a, b: jnp.where(at.loads, a, b), stored, current)
        places = _put(places, at.store, current)
        entry = jax.tree.map(lambda v: v[at.step], plan)
        current, carry = jax.lax.cond(
            at.returns,
            lambda: (current, back(carry, (current, None, entry))[0]),
            lambda: (_step(loss, rule, current, data, learning_rate, entry), carry),
        )
        return (current, places, carry), None

    moves: Any = jax.tree.map(jnp.asarray, backward_plan(steps, checkpoints))
    current = jax.tree.map(lambda v: v[0], places)
    (_, _, carry), _ = jax.lax.scan(move, (current, places, carry), moves)
    return (*carry, None)


def _step(
    loss: StepLoss,
    rule: Rule,
    state: PyTree,
    data: PyTree,
    learning_rate: jax.Array,
    entry: PyTree,
) -> PyTree:
    gradient = jax.grad(loss)(rule.params(state), data, entry)
    return rule.advance(state, gradient, learning_rate)


def _gradient_and_products(
    loss: StepLoss, params: PyTree, entry: PyTree, data: PyTree
) -> tuple[PyTree, Partial]:
    """∇_θ loss, and what `product` would recompute of it: a function that finishes it.

    The function is `(params, entry, data, along)` → ⟨∇_θ loss, along⟩ and the derivatives of both
    gradients along `along`, for these same arguments; its leaves are the convolutions' outputs.
    """
    value_and_gradients = jax.checkpoint(
        lambda p: jax.value_and_grad(loss, argnums=(0, 1))(p, data, entry),
        policy=keep_products,
        prevent_cse=False,  # the two passes are two loops
    )
    (_, (gradient, _)), along = jax.linearize(value_and_gradients, params)
    # Its leaves include the arguments, which the backward pass has at hand.
    leaves, tree = jax.tree.flatten(along)
    positions = {id(v): i for i, v in enumerate(jax.tree.leaves((params, entry, data)))}
    sources = tuple(positions.get(id(v)) for v in leaves)
    products = [v for v, position in zip(leaves, sources, strict=True) if position is None]
    return gradient, Partial(partial(_finish, tree, sources), products)


def _finish(
    tree: Any,
    sources: tuple[int | None, ...],
    products: list[jax.Array],
    params: PyTree,
    entry: PyTree,
    data: PyTree,
    along: PyTree,
) -> Any:
    arguments, rest = jax.tree.leaves((params, entry, data)), iter(products)
    leaves = [next(rest) if position is None else arguments[position] for position in sources]
    return jax.tree.unflatten(tree, leaves)(along)


def _bytes(tree: PyTree) -> int:
    return sum(v.size * v.dtype.itemsize for v in jax.tree.leaves(tree))


def _joined(adjoint: PyTree, data_bar: PyTree, rate_bar: jax.Array) -> tuple[PyTree, ...]:
    """What the way back carries, the step size's cotangent behind those of packed parameters."""
    if not isinstance(adjoint, Packed) or adjoint.small.dtype != rate_bar.dtype:
        return adjoint, data_bar, rate_bar
    return adjoint._replace(small=jnp.append(adjoint.small, rate_bar)), data_bar


def _parted(adjoint: PyTree, data_bar: PyTree, *rate_bar: jax.Array) -> Any:
    """The reverse of `_joined`."""
    if rate_bar:
        return adjoint, data_bar, *rate_bar
    return adjoint._replace(small=adjoint.small[:-1]), data_bar, adjoint.small[-1]


def _put(places: PyTree, at: jax.Array, value: PyTree) -> PyTree:
    return jax.tree.map(lambda v, new: v.at[at].set(new), places, value)


descend.defvjp(_forward, _backward)
