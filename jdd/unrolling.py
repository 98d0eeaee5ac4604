"""SGD whose outcome can be differentiated with respect to the data and the step size."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jdd.ops import keep_products

PyTree = Any
StepLoss = Callable[[PyTree, PyTree, PyTree], jax.Array]

# Bytes that parameters and products of all steps may take. On a CPU 93 MB save a seventh of the
# time, 660 a twentieth; elsewhere none of it has been measured.
_ROOM = {"cpu": 256 * 2**20}
_ROOM_ELSEWHERE = 2 * 2**30
_FEW = 25  # steps whose parameters are all kept on a CPU
_CONSTANT = 10  # steps whose parameters are kept where memory must not grow


def _add_scaled(tree: PyTree, scale: jax.Array, other: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: a + scale.astype(a.dtype) * b, tree, other)


@partial(jax.custom_vjp, nondiff_argnums=(0, 5, 6))
def sgd(
    loss: StepLoss,
    params: PyTree,
    data: PyTree,
    learning_rate: jax.Array,
    plan: PyTree,
    kept: int = 0,
    room: int = 0,
) -> PyTree:
    """Parameters after plain gradient descent, one step for each entry of `plan`.

    θ_{t+1} = θ_t − α ∇_θ loss(θ_t, data, plan_t)

    Differentiable once in reverse mode with respect to `params`, `data` and `learning_rate`; the
    gradient is exact. It is written as the adjoint recursion instead of left to reverse mode
    through the scan: with λ the cotangent of θ_{t+1}, one forward-over-reverse product
    J = ∂_ε ∇_{θ,data} loss(θ_t + ελ) gives all of

        λ ← λ − α J_θ,      data̅ ← data̅ − α J_data,      α̅ ← α̅ − ∂_ε loss

    so that between the two passes only parameters have to be kept, never activations, and whatever
    stands between `data` and the network (augmentation, gathering a batch) is differentiated once,
    not twice. Where there is room, what the step's convolutions gave is kept as well: J then takes
    six products a layer instead of eight.

    Args:
      loss: `(params, data, plan_t) → scalar`; a hashable function, static under `jit`.
      params: pytree of float arrays, θ_0.
      data: pytree of float arrays that the loss is differentiated with respect to.
      learning_rate: float scalar α.
      plan: pytree with a leading axis of length `steps`: batch indices, random keys; its
        cotangent is zero.
      kept: how many steps' parameters are kept at most, 0: all. With fewer than there are steps,
        the others are computed again on the way back, in the order that takes the fewest steps:
        with 10 kept, once for up to 65 steps and twice for up to 285, about.
      room: bytes. Where parameters and products of all steps fit in, both are kept, whatever `kept`
        says.

    Returns:
      Pytree like `params`: θ_steps.
    """
    return _forward(loss, params, data, learning_rate, plan, kept, room)[0]


MEMORY = ("auto", "all", "constant", "tesla")


def kept_for(steps: int, memory: str = "auto") -> int:
    """How many steps' parameters `sgd` should keep, of so many steps; 0: all.

    Args:
      steps: of the student.
      memory: "all"; "constant", ten; or "auto": all where they are few or cheap. On a CPU, where a
        batch is worked on in parts and little else is kept, they would soon be most of the memory,
        and beyond 25 steps it keeps twice the square root of `steps`, for one more pass of them.
    """
    if memory == "constant":
        return _CONSTANT
    if memory == "all" or steps <= _FEW or jax.default_backend() != "cpu":
        return 0
    return 2 * math.isqrt(steps)


def room_for(memory: str = "auto") -> int:
    """How many bytes of parameters and products `sgd` should keep; `memory` as for `kept_for`."""
    if memory not in ("auto", "all"):
        return 0
    return _ROOM.get(jax.default_backend(), _ROOM_ELSEWHERE)


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
    kept: int,
    room: int,
) -> tuple[PyTree, tuple[PyTree, ...]]:
    learning_rate = jnp.asarray(learning_rate)
    steps = jax.tree.leaves(plan)[0].shape[0]

    def step_with_products(current: PyTree, entry: PyTree) -> tuple[PyTree, tuple[PyTree, PyTree]]:
        gradient, products = _gradient_and_products(loss, current, entry, data)
        return _add_scaled(current, -learning_rate, gradient), (current, products)

    # Without `jit` a scan is a loop in Python, and each step's products a structure of their own.
    if room and steps and not jax.config.jax_disable_jit:  # type: ignore[attr-defined]
        first = jax.tree.map(lambda v: v[0], plan)
        _, of_a_step = jax.eval_shape(step_with_products, params, first)
        if steps * _bytes(of_a_step) <= room:
            last, all_of_them = jax.lax.scan(step_with_products, params, plan)
            return last, (all_of_them, data, learning_rate, plan)

    def step(current: PyTree, entry: PyTree) -> PyTree:
        return _step(loss, current, data, learning_rate, entry)

    if not 0 < kept < steps:
        last, all_of_them = jax.lax.scan(lambda p, e: (step(p, e), (p, None)), params, plan)
        return last, (all_of_them, data, learning_rate, plan)

    def step_and_keep(
        carry: tuple[PyTree, PyTree], at: tuple[jax.Array, PyTree]
    ) -> tuple[tuple[PyTree, PyTree], None]:
        current, places = carry
        place, entry = at
        return (step(current, entry), _put(places, place, current)), None

    places = jnp.asarray(_way_there(steps, kept), jnp.int32)
    empty = jax.tree.map(lambda p: jnp.zeros((kept + 1, *p.shape), p.dtype), params)
    (last, filled), _ = jax.lax.scan(step_and_keep, (params, empty), (places, plan))
    return last, ((filled, None), data, learning_rate, plan)


def _backward(
    loss: StepLoss, kept: int, room: int, saved: tuple[PyTree, ...], cotangent: PyTree
) -> tuple[PyTree, PyTree, jax.Array, None]:
    del room  # what it led to is seen by what was kept
    (places, products), data, learning_rate, plan = saved
    steps = jax.tree.leaves(plan)[0].shape[0]

    def back(carry: tuple[PyTree, PyTree, jax.Array], at: tuple[PyTree, PyTree, PyTree]) -> Any:
        adjoint, data_bar, rate_bar = carry
        params, products, entry = at
        if products is None:
            _, slope, of_params, of_data = _product(loss, params, entry, data, adjoint)
        else:
            slope, (of_params, of_data) = products(params, entry, data, adjoint)
        return (
            _add_scaled(adjoint, -learning_rate, of_params),
            _add_scaled(data_bar, -learning_rate, of_data),
            rate_bar - slope.astype(rate_bar.dtype),
        ), None

    carry = (cotangent, jax.tree.map(jnp.zeros_like, data), jnp.zeros_like(learning_rate))
    if products is not None or not 0 < kept < steps:
        return (*jax.lax.scan(back, carry, (places, products, plan), reverse=True)[0], None)

    def move(state: tuple[Any, ...], at: Any) -> tuple[tuple[Any, ...], None]:
        current, places, carry = state
        stored = jax.tree.map(lambda v: v[at.load], places)
        current = jax.tree.map(lambda a, b: jnp.where(at.loads, a, b), stored, current)
        places = _put(places, at.store, current)
        entry = jax.tree.map(lambda v: v[at.step], plan)
        current, carry = jax.lax.cond(
            at.returns,
            lambda: (current, back(carry, (current, None, entry))[0]),
            lambda: (_step(loss, current, data, learning_rate, entry), carry),
        )
        return (current, places, carry), None

    moves: Any = jax.tree.map(jnp.asarray, _way_back(steps, kept))
    current = jax.tree.map(lambda v: v[0], places)
    (_, _, carry), _ = jax.lax.scan(move, (current, places, carry), moves)
    return (*carry, None)


def _product(loss: StepLoss, params: PyTree, entry: PyTree, data: PyTree, along: PyTree) -> Any:
    """∇_θ loss, ⟨∇_θ loss, along⟩, and the derivative along `along` of ∇_θ loss and ∇_data loss."""
    value_and_gradients = jax.value_and_grad(loss, argnums=(0, 1))
    (_, (gradient, _)), (slope, (of_params, of_data)) = jax.jvp(
        lambda p: value_and_gradients(p, data, entry), (params,), (along,)
    )
    return gradient, slope, of_params, of_data


def _gradient_and_products(
    loss: StepLoss, params: PyTree, entry: PyTree, data: PyTree
) -> tuple[PyTree, Partial]:
    """∇_θ loss, and what `_product` would compute of it again: a function that finishes it.

    That is `(params, entry, data, along)` → ⟨∇_θ loss, along⟩ and the derivatives of both gradients
    along `along`, for these same arguments; what the convolutions gave are its leaves.
    """
    value_and_gradients = jax.checkpoint(
        lambda p: jax.value_and_grad(loss, argnums=(0, 1))(p, data, entry),
        policy=keep_products,
        prevent_cse=False,  # the two passes are two loops
    )
    (_, (gradient, _)), along = jax.linearize(value_and_gradients, params)
    # Its leaves are those of the arguments too, which are at hand on the way back.
    leaves, tree = jax.tree.flatten(along)
    positions = {id(v): i for i, v in enumerate(jax.tree.leaves((params, entry, data)))}
    known = tuple(positions.get(id(v)) for v in leaves)
    products = [v for v, position in zip(leaves, known, strict=True) if position is None]
    return gradient, Partial(partial(_finish, tree, known), products)


def _finish(
    tree: Any,
    known: tuple[int | None, ...],
    products: list[jax.Array],
    params: PyTree,
    entry: PyTree,
    data: PyTree,
    along: PyTree,
) -> Any:
    arguments, rest = jax.tree.leaves((params, entry, data)), iter(products)
    leaves = [next(rest) if position is None else arguments[position] for position in known]
    return jax.tree.unflatten(tree, leaves)(along)


def _bytes(tree: PyTree) -> int:
    return sum(v.size * v.dtype.itemsize for v in jax.tree.leaves(tree))


def _put(places: PyTree, at: jax.Array, value: PyTree) -> PyTree:
    return jax.tree.map(lambda v, new: v.at[at].set(new), places, value)


class _Move(NamedTuple):
    """Moves of the way back, one an entry; the place after the last one takes what is not kept."""

    loads: np.ndarray  # (moves,) bool: whether parameters are taken from a place first
    load: np.ndarray  # (moves,) int32, which
    store: np.ndarray  # (moves,) int32, the place that the parameters are put into then
    step: np.ndarray  # (moves,) int32, t: the parameters are θ_t
    returns: np.ndarray  # (moves,) bool: back over step t; else on to θ_{t+1}


@cache
def _split(steps: int, free: int) -> tuple[int, int]:
    """(steps taken again, where the next parameters are kept) for the least of the former.

    To return over `steps` steps from parameters that are kept, with `free` further places: on to
    some m, keep θ_m, return over the rest from there, then over the first m. Griewank and Walther,
    "Algorithm 799: revolve", ACM TOMS 2000.
    """
    if steps == 1:
        return 0, 0
    if free == 0:
        return steps * (steps - 1) // 2, 0
    return min(
        (m + _split(steps - m, free - 1)[0] + _split(m, free)[0], m) for m in range(1, steps)
    )


def _way_there(steps: int, kept: int) -> np.ndarray:
    """The place that each step's parameters are put into on the way there, int32 `(steps,)`."""
    places = np.full(steps, kept, np.int32)
    at, left, place = 0, steps, 0
    while True:
        places[at] = place
        free = kept - 1 - place
        if left == 1 or free == 0:
            return places
        _, ahead = _split(left, free)
        at, left, place = at + ahead, left - ahead, place + 1


@cache
def _way_back(steps: int, kept: int) -> _Move:
    """The moves back over all steps, from what `_way_there` has kept."""
    moves: list[tuple[bool, int, int, int, bool]] = []
    there = _way_there(steps, kept)

    def on(place: int, first: int, last: int) -> None:
        """From θ_first, which is in `place`, on to θ_last."""
        moves.extend((t == first, place, kept, t, False) for t in range(first, last))

    def back(first: int, last: int, place: int) -> None:
        """Over the steps from `first` up to `last`; θ_first is in `place`, those above are free."""
        size, free = last - first, kept - 1 - place
        if size == 1 or free == 0:
            for t in range(last - 1, first - 1, -1):
                on(place, first, t)
                moves.append((first == t, place, kept, t, True))
            return
        middle = first + _split(size, free)[1]
        if there[middle] != place + 1:
            on(place, first, middle)
            begin = len(moves)
            back(middle, last, place + 1)
            loads, load, _, t, returns = moves[begin]
            # What the first move after it would load is what the parameters are.
            moves[begin] = (False, load, place + 1, t, returns)
            assert loads and load == place + 1
        else:
            back(middle, last, place + 1)
        there[middle] = -1  # its place is taken by others from here on
        back(first, middle, place)

    back(0, steps, 0)
    loads, load, store, step, returns = (np.array(column) for column in zip(*moves, strict=True))
    return _Move(
        loads, load.astype(np.int32), store.astype(np.int32), step.astype(np.int32), returns
    )


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
