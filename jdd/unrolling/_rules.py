"""How a student steps along its gradient: plain SGD, momentum, Adam; each with its derivative."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from jdd.unrolling._step import PyTree, add_scaled


class Pulled(NamedTuple):
    """What the cotangent of a step's result says of what went into it.

    The way through the gradient is left open: it needs one product of the loss's second derivatives
    with `along`, and `scale` times this belongs to parameters and data.
    """

    along: PyTree  # like the parameters
    scale: jax.Array  # () float
    state: PyTree  # the cotangent of the state, but for the way through the gradient
    learning_rate: jax.Array | None  # the step size's; None: −⟨gradient, along⟩


class Rule(Protocol):
    """A rule of descent: from state, gradient and step size to the next state.

    Hashable and static under `jit`: a frozen dataclass of Python numbers.
    """

    @property
    def pulls_gradient(self) -> bool:
        """Whether `pull` reads the gradient."""

    def start(self, params: PyTree) -> PyTree:
        """The state before the first step."""

    def params(self, state: PyTree) -> PyTree:
        """The parameters in a state."""

    def replace(self, state: PyTree, params: PyTree) -> PyTree:
        """The state with other parameters."""

    def advance(self, state: PyTree, gradient: PyTree, learning_rate: jax.Array) -> PyTree:
        """The state after a step."""

    def pull(
        self, state: PyTree, gradient: PyTree, learning_rate: jax.Array, cotangent: PyTree
    ) -> Pulled:
        """`advance` differentiated in reverse; `cotangent` is that of the state after the step."""


@dataclass(frozen=True)
class Sgd:
    """θ ← θ − α g; the state is the parameters."""

    pulls_gradient = False

    def start(self, params: PyTree) -> PyTree:
        """The parameters."""
        return params

    def params(self, state: PyTree) -> PyTree:
        """The state itself."""
        return state

    def replace(self, state: PyTree, params: PyTree) -> PyTree:
        """The parameters."""
        del state
        return params

    def advance(self, state: PyTree, gradient: PyTree, learning_rate: jax.Array) -> PyTree:
        """θ − α g."""
        return add_scaled(state, -learning_rate, gradient)

    def pull(
        self, state: PyTree, gradient: PyTree, learning_rate: jax.Array, cotangent: PyTree
    ) -> Pulled:
        """One product along the cotangent serves parameters, data and step size."""
        del state, gradient
        return Pulled(cotangent, -learning_rate, cotangent, None)


class _WithMoments:
    """Rules whose derivative is left to reverse mode: all of it is entry by entry, and cheap."""

    pulls_gradient = True

    def params(self, state: Any) -> PyTree:
        """The parameters in a state."""
        return state.params

    def replace(self, state: Any, params: PyTree) -> Any:
        """The state with other parameters."""
        return state._replace(params=params)

    def advance(self, state: Any, gradient: PyTree, learning_rate: jax.Array) -> Any:
        """The state after a step."""
        raise NotImplementedError

    def pull(
        self, state: Any, gradient: PyTree, learning_rate: jax.Array, cotangent: Any
    ) -> Pulled:
        """`advance` differentiated in reverse."""
        _, back = jax.vjp(self.advance, state, gradient, learning_rate)
        of_state, along, of_rate = back(cotangent)
        return Pulled(along, jnp.ones(()), of_state, of_rate)


class MomentumState(NamedTuple):
    """State of `Momentum`."""

    params: PyTree
    velocity: PyTree  # like the parameters


@dataclass(frozen=True)
class Momentum(_WithMoments):
    """SGD with momentum as PyTorch has it: u ← μ u + g + w θ, θ ← θ − α u."""

    decay: float = 0.9
    """μ"""
    weight_decay: float = 0.0
    """w"""

    def start(self, params: PyTree) -> MomentumState:
        """At rest."""
        return MomentumState(params, jax.tree.map(jnp.zeros_like, params))

    def advance(
        self, state: MomentumState, gradient: PyTree, learning_rate: jax.Array
    ) -> MomentumState:
        """The state after a step."""
        velocity = jax.tree.map(
            lambda u, g, p: self.decay * u + g + self.weight_decay * p,
            *(state.velocity, gradient, state.params),
        )
        return MomentumState(add_scaled(state.params, -learning_rate, velocity), velocity)


class AdamState(NamedTuple):
    """State of `Adam`."""

    params: PyTree
    mean: PyTree  # m, like the parameters
    square: PyTree  # v, like the parameters
    steps: jax.Array  # () float, made so far; no derivative is taken to it


@dataclass(frozen=True)
class Adam(_WithMoments):
    """Kingma and Ba, "Adam", ICLR 2015, algorithm 1, with its constants.

        m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²
        θ ← θ − α (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)

    The root has no derivative at v = 0, which is where a gradient has been zero from the start, as
    that of a unit that never fires. Its derivative is set to zero there: g² has none at g = 0.
    """

    mean_decay: float = 0.9
    """β₁"""
    square_decay: float = 0.999
    """β₂"""
    epsilon: float = 1e-8
    """ε"""

    def start(self, params: PyTree) -> AdamState:
        """Moments of zero."""
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(params, zeros, zeros, jnp.zeros(()))

    def advance(self, state: AdamState, gradient: PyTree, learning_rate: jax.Array) -> AdamState:
        """The state after a step."""
        a, b = self.mean_decay, self.square_decay
        mean = jax.tree.map(lambda m, g: a * m + (1 - a) * g, state.mean, gradient)
        square = jax.tree.map(lambda v, g: b * v + (1 - b) * g * g, state.square, gradient)
        steps = state.steps + 1
        # 1 − β^t; the difference itself would have lost four digits of seven at β₂ and t = 1.
        weights = [-jnp.expm1(jax.lax.stop_gradient(steps) * math.log(beta)) for beta in (a, b)]

        def direction(m: jax.Array, v: jax.Array) -> jax.Array:
            of_m, of_v = (weight.astype(m.dtype) for weight in weights)
            positive = v > 0
            root = jnp.where(positive, jnp.sqrt(jnp.where(positive, v / of_v, 1)), 0)
            return m / of_m / (root + self.epsilon)

        params = add_scaled(state.params, -learning_rate, jax.tree.map(direction, mean, square))
        return AdamState(params, mean, square, steps)
