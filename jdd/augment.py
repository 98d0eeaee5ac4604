"""Augmentation: differentiable and siamese (DSA) for distilling, per image for evaluating digits.

Everything geometric is bilinear sampling with zeros outside the image, hence linear in the pixels.
Shifts and zooms move rows and columns separately and are two small matrix products; rotation
gathers its four corners.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp
from jax import lax

from jdd.errors import unknown

WITH_FLIP = "color_crop_cutout_flip_scale_rotate"
WITHOUT_FLIP = "color_crop_cutout_scale_rotate"
_NO_FLIP = frozenset({"digits", "mnist", "svhn"})  # a mirrored digit is another sign, or none


@dataclasses.dataclass(frozen=True)
class DsaSettings:
    """Ranges of DSA's transforms; the published ones, for all datasets."""

    flip: float = 0.5  # probability
    scale: float = 1.2  # zoom by up to this factor, in or out, each axis for itself
    rotate: float = 15.0  # degrees, either way
    crop: float = 0.125  # shift by up to this fraction of the side
    cutout: float = 0.5  # side of the square set to zero, as a fraction of the image's
    brightness: float = 1.0  # width of the interval of what is added
    saturation: float = 2.0  # greatest factor on the distance from the pixel's grey
    contrast: float = (
        0.5  # least factor on the distance from the image's mean; the greatest is 1 more
    )


@dataclasses.dataclass(frozen=True)
class EachSettings:
    """Ranges of the evaluation-time transforms; the published ones, for MNIST."""

    crop: int = 4  # pixels, either way
    scale: float = 0.2  # zoom by up to this fraction, in or out, each axis for itself
    rotate: float = 45.0  # degrees, either way


def strategy_for(dataset: str) -> str:
    """DSA's strategy for a dataset by name: all kinds, without the flip for digits."""
    return WITHOUT_FLIP if dataset in _NO_FLIP else WITH_FLIP


def augment(
    key: jax.Array,
    images: jax.Array,
    strategy: str,
    siamese: bool = False,
    settings: DsaSettings = DsaSettings(),
) -> jax.Array:
    """Differentiable siamese augmentation: one kind of transform for a batch.

    To augment synthetic and real images alike, call it twice with the same key and `siamese=True`:
    the draws do not depend on the batch's size. With `siamese=False` the kind is shared but every
    image has its own parameters, and the same key does not transform two batches alike.

    Args:
      key: a key for this call alone; the same one again gives the same transform again.
      images: `(n, h, w, c)` float.
      strategy: kinds joined by underscores, from color, crop, cutout, flip, scale and rotate, drawn
        from with equal chances; or "none". `strategy_for` gives a dataset's.
      siamese: whether all images of the batch share one draw of the parameters.
      settings: the ranges, in units of preprocessed pixels where they add to them.

    Returns:
      Images of the same shape and dtype.

    Raises:
      UserError: a kind that is none of these; it names the nearest.

    References:
      Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation" (2021).
    """
    kinds = _kinds(strategy, _TRANSFORMS)
    return _augment(key, images, kinds, siamese, settings) if kinds else images


@functools.partial(jax.jit, static_argnames=("kinds", "siamese", "settings"))
def _augment(
    key: jax.Array, images: jax.Array, kinds: tuple[str, ...], siamese: bool, settings: DsaSettings
) -> jax.Array:
    kind_key, draw_key = jax.random.split(key)
    # One array of numbers for whichever kind it is: every generator is compiled in each derivative.
    dtype = jnp.promote_types(images.dtype, jnp.float32)  # fewer bits would miss some positions
    drawn = jax.random.uniform(draw_key, (3, 1 if siamese else images.shape[0]), dtype)
    branches = [functools.partial(_TRANSFORMS[kind], settings=settings) for kind in kinds]
    kind = jax.random.randint(kind_key, (), 0, len(kinds))
    transformed: jax.Array = lax.switch(kind, branches, drawn, images)
    return transformed


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
    kinds = _kinds(strategy, ("crop", "scale", "rotate"))
    return _augment_each(key, images, kinds, settings) if kinds else images


@functools.partial(jax.jit, static_argnames=("kinds", "settings"))
def _augment_each(
    key: jax.Array, images: jax.Array, kinds: tuple[str, ...], settings: EachSettings
) -> jax.Array:
    n, height, width, _ = images.shape
    kind_key, crop_key, scale_key, rotate_key = jax.random.split(key, 4)
    kind = jax.random.randint(kind_key, (n,), 0, len(kinds))

    def drawn(name: str, values: jax.Array, otherwise: float) -> jax.Array:
        places = jnp.array([i for i, other in enumerate(kinds) if other == name], jnp.int32)
        return jnp.where(jnp.isin(kind, places), values.astype(images.dtype), otherwise)

    pixels = jax.random.randint(crop_key, (2, n), -settings.crop, settings.crop + 1)
    factors = _uniform(scale_key, (2, n), images, 1 - settings.scale, 1 + settings.scale)
    degrees = _uniform(rotate_key, (n,), images, -settings.rotate, settings.rotate)
    shift, zoom = drawn("crop", pixels, 0.0), drawn("scale", factors, 1.0)
    angle = jnp.deg2rad(drawn("rotate", degrees, 0.0))
    fill = jnp.mean(images, axis=(0, 1, 2))
    y, x = _rotated_grid(angle, height, width)
    y = _zoomed(y, 1 / zoom[0, :, None, None], height) + shift[0, :, None, None]
    x = _zoomed(x, 1 / zoom[1, :, None, None], width) + shift[1, :, None, None]
    return _sample(images - fill, y, x) + fill


# --- the transforms: each takes numbers in [0, 1), (3, 1) or (3, n), and images ---


def _color(drawn: jax.Array, images: jax.Array, settings: DsaSettings) -> jax.Array:
    u = drawn[:, :, None, None, None].astype(images.dtype)
    images = images + (u[0] - 0.5) * settings.brightness
    grey = jnp.mean(images, axis=3, keepdims=True)
    images = (images - grey) * (u[1] * settings.saturation) + grey
    mean = jnp.mean(images, axis=(1, 2, 3), keepdims=True)
    return (images - mean) * (u[2] + settings.contrast) + mean


def _flip(drawn: jax.Array, images: jax.Array, settings: DsaSettings) -> jax.Array:
    mirror = drawn[0, :, None, None, None] < settings.flip
    return jnp.where(mirror, images[:, :, ::-1], images)


def _cutout(drawn: jax.Array, images: jax.Array, settings: DsaSettings) -> jax.Array:
    def inside(u: jax.Array, size: int) -> jax.Array:
        length = int(size * settings.cutout + 0.5)
        # An even square is centred between pixels, and so has one place more.
        first = _integers(u, 0, size + 1 - length % 2) - length // 2
        return (jnp.arange(size) >= first) & (jnp.arange(size) < first + length)

    rows, columns = inside(drawn[0], images.shape[1]), inside(drawn[1], images.shape[2])
    cut = rows[:, :, None, None] & columns[:, None, :, None]
    return jnp.where(cut, 0.0, images)


def _crop(drawn: jax.Array, images: jax.Array, settings: DsaSettings) -> jax.Array:
    def shifted(u: jax.Array, size: int) -> jax.Array:
        furthest = int(size * settings.crop + 0.5)
        return jnp.arange(size) + _integers(u, -furthest, furthest + 1)

    rows, columns = shifted(drawn[0], images.shape[1]), shifted(drawn[1], images.shape[2])
    return _sample_separably(images, rows, columns)


def _scale(drawn: jax.Array, images: jax.Array, settings: DsaSettings) -> jax.Array:
    least, most = 1 / settings.scale, settings.scale

    def zoomed(u: jax.Array, size: int) -> jax.Array:
        return _zoomed(jnp.arange(size), least + u[:, None] * (most - least), size)

    rows, columns = zoomed(drawn[0], images.shape[1]), zoomed(drawn[1], images.shape[2])
    return _sample_separably(images, rows, columns)


def _rotate(drawn: jax.Array, images: jax.Array, settings: DsaSettings) -> jax.Array:
    angle = jnp.deg2rad((2 * drawn[0] - 1) * settings.rotate)
    return _sample(images, *_rotated_grid(angle, images.shape[1], images.shape[2]))


def _integers(u: jax.Array, least: int, end: int) -> jax.Array:
    """Numbers in [0, 1) `(m,)` → integers from `least` to `end` − 1, int32 `(m, 1)`."""
    return (least + jnp.floor(u * (end - least)).astype(jnp.int32))[:, None]


_TRANSFORMS: dict[str, Callable[..., jax.Array]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}


def _kinds(strategy: str, available: Collection[str]) -> tuple[str, ...]:
    if strategy == "none":
        return ()
    kinds = tuple(strategy.split("_"))
    for kind in kinds:
        if kind not in available:
            raise unknown("augmentation", kind, [*available, "none"])
    return kinds


# --- where each pixel comes from, and fetching it ---


def _uniform(
    key: jax.Array, shape: tuple[int, ...], images: jax.Array, least: float, most: float
) -> jax.Array:
    return jax.random.uniform(key, shape, images.dtype, least, most)


def _zoomed(position: jax.Array, factor: jax.Array, size: int) -> jax.Array:
    centre = (size - 1) / 2
    return centre + factor * (position - centre)


def _rotated_grid(angle: jax.Array, height: int, width: int) -> tuple[jax.Array, jax.Array]:
    """Angles `(m,)` in radians → where every pixel comes from: rows and columns, `(m, h, w)`.

    The released code turns coordinates that run from −1 to 1 on both axes, which shears what is not
    square; this turns pixels. On square images it is the same.
    """
    y = jnp.arange(height)[:, None] - (height - 1) / 2
    x = jnp.arange(width)[None, :] - (width - 1) / 2
    cos, sin = jnp.cos(angle)[:, None, None], jnp.sin(angle)[:, None, None]
    return sin * x + cos * y + (height - 1) / 2, cos * x - sin * y + (width - 1) / 2


def _sample_separably(images: jax.Array, rows: jax.Array, columns: jax.Array) -> jax.Array:
    """Bilinear samples where `rows` `(m, h)` and `columns` `(m, w)` cross, m being 1 or n."""

    def weights(positions: jax.Array, size: int) -> jax.Array:
        hats = 1 - jnp.abs(positions[:, :, None] - jnp.arange(size))
        return jnp.maximum(hats, 0).astype(images.dtype)

    by_row, by_column = weights(rows, images.shape[1]), weights(columns, images.shape[2])
    # Full precision, for an accelerator's default would round pixels that do not even move.
    if by_row.shape[0] == 1:
        return jnp.einsum(
            "ih,jw,nhwc->nijc", by_row[0], by_column[0], images, precision=lax.Precision.HIGHEST
        )
    return jnp.einsum(
        "nih,njw,nhwc->nijc", by_row, by_column, images, precision=lax.Precision.HIGHEST
    )


def _sample(images: jax.Array, y: jax.Array, x: jax.Array) -> jax.Array:
    """Bilinear samples at `(y, x)`, each `(m, h, w)`, m being 1 or n."""
    n, height, width, channels = images.shape
    flat = images.reshape(n, height * width, channels)
    fetch: Callable[..., jax.Array] = jax.vmap(
        lambda image, index: jnp.take(image, index, axis=0, mode="clip"),
        in_axes=(0, None if y.shape[0] == 1 else 0),
    )
    top, left = jnp.floor(y), jnp.floor(x)
    sampled = jnp.zeros_like(flat)
    for row in (top, top + 1):
        for column in (left, left + 1):
            weight = (1 - jnp.abs(y - row)) * (1 - jnp.abs(x - column))
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            weight = (
                jnp.where(inside, weight, 0).astype(images.dtype).reshape(-1, height * width, 1)
            )
            index = jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1)
            index = index.astype(jnp.int32).reshape(-1, height * width)
            sampled += weight * fetch(flat, index if index.shape[0] > 1 else index[0])
    return sampled.reshape(images.shape)
