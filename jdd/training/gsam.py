"""GSAM: sharpness-aware gradients with the surrogate gap."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import optax

_TINY = 1e-12  # as the released code adds to lengths


class Gsam(NamedTuple):
    """Sharpness-aware gradients with the surrogate gap: Zhuang et al., "Surrogate Gap Minimization
    Improves Sharpness-Aware Training", ICLR 2022, algorithm 1.

    With g the gradient at θ and gₚ the one at the perturbed weights θ + ε, the step is taken along
    gₚ − α g⊥, where g⊥ is the part of g that stands at a right angle to gₚ.
    """

    rho: float
    """radius of the perturbation: ε = ρ g / ‖g‖"""
    alpha: float
    """weight of the surrogate gap"""
    adaptive: bool = True
    """whether the radius scales with the weights: ε = ρ θ² g / ‖|θ| g‖, as the released code has it
    (Kwon et al., "ASAM", ICML 2021)"""


def surrogate_gap(gsam: Gsam, gradient_at: Callable[[Any], Any], params: Any, gradient: Any) -> Any:
    """What is stepped along in place of `gradient`; `gradient_at` gives it at other weights."""
    if gsam.adaptive:
        reach = jax.tree.map(lambda p, g: p * p * g, params, gradient)
        length = optax.tree.norm(jax.tree.map(lambda p, g: p * g, params, gradient))
    else:
        reach, length = gradient, optax.tree.norm(gradient)
    scale = gsam.rho / (length + _TINY)
    perturbed = gradient_at(jax.tree.map(lambda p, r: p + scale * r, params, reach))
    # The part of the gradient along the perturbed one is ⟨g, gₚ⟩ / ‖gₚ‖² of it.
    fraction = optax.tree.vdot(gradient, perturbed) / (optax.tree.norm(perturbed) ** 2 + _TINY)
    return jax.tree.map(lambda g, p: p - gsam.alpha * (g - fraction * p), gradient, perturbed)
