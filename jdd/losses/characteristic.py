"""Characteristic function discrepancy (NCFM)."""

import jax
import jax.numpy as jnp

_SMALLEST_PHASE = 1e-12  # of the released code: the root's slope stays finite
_TINY = 1e-30


def characteristic_function_discrepancy(
    synthetic_features: jax.Array,
    real_features: jax.Array,
    frequencies: jax.Array,
    amplitude: float = 0.5,
    phase: float = 0.5,
) -> jax.Array:
    """Mean distance between the characteristic functions of synthetic and of real features:

        mean_t √( a (|Φᵣ(t)| − |Φₛ(t)|)² + p · 2 (|Φᵣ(t)| |Φₛ(t)| − Re Φᵣ(t) Φₛ(t)*) )

    where Φ(t) is the mean of exp(i ⟨t, f⟩) over features f. With a = p = ½ the root is
    |Φᵣ − Φₛ| / √2. The second term, which is 0 where the phases agree, counts as 1e-12 at least.

    Match one class at a time. The scale of the features matters: NCFM brings them to length 1, for
    which standard normal frequencies are meant.

    Args:
      synthetic_features: `(n, d)`, differentiable.
      real_features: `(m, d)`.
      frequencies: `(k, d)`, the points t at which the functions are compared; differentiable.
      amplitude: weight of the difference of amplitudes, a.
      phase: weight of the difference of phases, p.

    Returns:
      The loss, a float32 scalar.

    Raises:
      ValueError: features and frequencies differ in length.

    References:
      Wang et al., "Dataset Distillation with Neural Characteristic Function: A Minmax Perspective"
      (2025), section 3.2.
    """
    shapes = [a.shape for a in (synthetic_features, real_features, frequencies)]
    if len({shape[1:] for shape in shapes}) > 1 or len(shapes[0]) != 2:
        raise ValueError(
            f"characteristic_function_discrepancy takes (n, d), (m, d) and (k, d), not {shapes}"
        )
    synthetic = _characteristic(synthetic_features, frequencies)
    real = _characteristic(real_features, frequencies)
    apart = jnp.sum(jnp.square(real - synthetic), axis=0)
    of_amplitude = jnp.square(_length(real) - _length(synthetic))
    # |Φᵣ − Φₛ|² is the sum of both terms: as a difference of it the second loses fewer digits.
    of_phase = jnp.maximum(apart - of_amplitude, _SMALLEST_PHASE)
    weighted = jnp.float32(amplitude) * of_amplitude + jnp.float32(phase) * of_phase
    return jnp.mean(jnp.sqrt(jnp.maximum(weighted, _TINY)))


def _characteristic(features: jax.Array, frequencies: jax.Array) -> jax.Array:
    """`(n, d)` and `(k, d)` → `(2, k)`: real and imaginary parts."""
    angles = features.astype(jnp.float32) @ frequencies.astype(jnp.float32).T
    return jnp.stack([jnp.mean(jnp.cos(angles), axis=0), jnp.mean(jnp.sin(angles), axis=0)])


def _length(values: jax.Array) -> jax.Array:
    square = jnp.sum(jnp.square(values), axis=0)
    return jnp.sqrt(jnp.maximum(square, _TINY))  # a slope of 0 at 0
