"""Augmentation with a transform for each image: how DC evaluates on MNIST."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from jdd.augment._affine import Affine, matrix_of, sample_affine
from jdd.augment._sampling import kinds_of, rotated_grid, sample, zoomed
from jdd.ops.target import platform


@dataclasses.dataclass(frozen=True)
class EachSettings:
    """Ranges of the evaluation-time transforms; the published ones, for MNIST."""

    crop: int = 4  # pixels, either way
    scale: float = 0.2  # zoom by up to this fraction, in or out, each axis for itself
    rotate: float = 45.0  # degrees, either way


def augment_each(
    key: jax.Array,
    images: jax.Array,
    strategy: str = "crop_scale_rotate",
    settings: EachSettings = EachSettings(),
) -> jax.Array:
    """One transform for each image, its kind drawn for it alone: how DC evaluates on MNIST.

    The released code resizes by nearest neighbour, rotates by cubic splines, and fills with zeros
    when it scales but with the batch's mean otherwise; here all three sample bilinearly and fill
    with the mean of the batch's channel, which is about zero on preprocessed images.

    Args:
      key: a key for this call alone.
      images: `(n, h, w, c)` float.
      strategy: kinds joined by underscores, from crop, scale and rotate; or "none".
      settings: the ranges.

    Returns:
      Images of the same shape and dtype.

    Raises:
      UserError: a kind that is none of these; it names the nearest.

    References:
      Zhao et al., "Dataset Condensation with Gradient Matching" (2021), released code.
    """
    kinds = kinds_of(strategy, ("crop", "scale", "rotate"))
    return _augment_each(key, images, kinds, settings) if kinds else images


@functools.partial(jax.jit, static_argnames=("kinds", "settings"))
def _augment_each(
    key: jax.Array, images: jax.Array, kinds: tuple[str, ...], settings: EachSettings
) -> jax.Array:
    n, height, width, _ = images.shape
    kind_key, crop_key, scale_key, rotate_key = jax.random.split(key, 4)
    kind = jax.random.randint(kind_key, (n,), 0, len(kinds))

    dtype = jnp.promote_types(images.dtype, jnp.float32)  # fewer bits would miss some positions

    def drawn(name: str, values: jax.Array, otherwise: float) -> jax.Array:
        places = jnp.array([i for i, other in enumerate(kinds) if other == name], jnp.int32)
        return jnp.where(jnp.isin(kind, places), values.astype(dtype), otherwise)

    pixels = jax.random.randint(crop_key, (2, n), -settings.crop, settings.crop + 1)
    factors = jax.random.uniform(scale_key, (2, n), dtype, 1 - settings.scale, 1 + settings.scale)
    degrees = jax.random.uniform(rotate_key, (n,), dtype, -settings.rotate, settings.rotate)
    shift, zoom = drawn("crop", pixels, 0.0), drawn("scale", factors, 1.0)
    angle = jnp.deg2rad(drawn("rotate", degrees, 0.0))
    fill = jnp.mean(images, axis=(0, 1, 2))
    if platform() != "cpu":
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        affine = Affine(
            *(cos / zoom[0], sin / zoom[0], shift[0]), *(-sin / zoom[1], cos / zoom[1], shift[1])
        )
        growth = max(2**0.5, 1 + settings.scale)
        return sample_affine(images - fill, matrix_of(affine), growth) + fill
    y, x = rotated_grid(angle, height, width)
    y = zoomed(y, 1 / zoom[0, :, None, None], height) + shift[0, :, None, None]
    x = zoomed(x, 1 / zoom[1, :, None, None], width) + shift[1, :, None, None]
    return sample(images - fill, y, x) + fill
