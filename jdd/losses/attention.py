"""Spatial attention and its matching (DataDAM)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax


def spatial_attention(feature_map: jax.Array, power: float) -> jax.Array:
    """Where a layer looks: channels pooled as Σ_c |f_c|^power, then normalised for each image.

    Args:
      feature_map: `(n, h, w, c)`.
      power: the exponent, at least 1; the larger, the more the strongest channels count. The paper
        takes 4, the released code 1.

    Returns:
      `(n, h·w)` float32 of L2 norm 1; zeros (with a gradient of zero) for a map of zeros.

    References:
      Sajedi et al., "DataDAM: Efficient Dataset Distillation with Attention Matching" (2023).
    """
    feature_map = feature_map.astype(jnp.float32)
    size = feature_map * lax.sign(feature_map)  # jnp.abs has slope 1 at zero, where ReLU maps lie
    # The result does not depend on the map's scale, so the largest entry may be divided out, as a
    # constant: a fourth power of small features would vanish in float32.
    largest = lax.stop_gradient(jnp.max(size, axis=(1, 2, 3), keepdims=True))
    size = size / jnp.where(largest > 0, largest, 1.0)
    attention = jnp.sum(size**power, axis=3).reshape(feature_map.shape[0], -1)
    square = jnp.sum(jnp.square(attention), axis=1, keepdims=True)
    return attention * lax.rsqrt(jnp.where(square > 0, square, 1.0))


def attention_matching(
    synthetic_maps: Sequence[jax.Array], real_maps: Sequence[jax.Array], power: float
) -> jax.Array:
    """Squared distance between the mean spatial attentions, summed over layers:

        Σ_layers ‖mean_m attention(real) − mean_n attention(synthetic)‖²

    Each image is normalised before the mean. DataDAM leaves the last layer out here and matches its
    features by `distribution_matching`: pass `feature_maps(...)[:-1]`. Match one class at a time.

    Args:
      synthetic_maps: one map `(n, h, w, c)` for each layer, differentiable.
      real_maps: one map `(m, h, w, c')` for each layer, of the same sizes in the same order.
      power: the exponent of `spatial_attention`.

    Returns:
      The loss, a float32 scalar.

    Raises:
      ValueError: the two have different numbers of layers, or maps of different sizes.

    References:
      Sajedi et al., "DataDAM: Efficient Dataset Distillation with Attention Matching" (2023).
    """
    total = jnp.zeros((), jnp.float32)
    for synthetic, real in zip(synthetic_maps, real_maps, strict=True):
        if synthetic.shape[1:3] != real.shape[1:3]:
            shapes = f"{synthetic.shape} and {real.shape}"
            raise ValueError(f"attention_matching takes maps of the same size, not {shapes}")
        synthetic_mean = jnp.mean(spatial_attention(synthetic, power), axis=0)
        real_mean = jnp.mean(spatial_attention(real, power), axis=0)
        total += jnp.sum(jnp.square(real_mean - synthetic_mean))
    return total
