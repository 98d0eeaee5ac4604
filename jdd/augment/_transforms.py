"""DSA's transforms: each takes numbers in [0, 1), `(3, 1)` or `(3, n)`, and images.

Everything geometric is bilinear sampling with zeros outside the image, hence linear in the pixels.
Shifts and zooms move rows and columns separately and are two small matrix products; rotation
gathers its four corners.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jdd.augment._sampling import rotated_grid, sample, sample_separably, zoomed

Entries = dict[str, jax.Array]
"""fields of `jdd.augment._affine.Affine`"""


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


PUBLISHED = DsaSettings()


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
    # A product, as the zeros of a choice would be a kernel of their own on a GPU.
    return images * (1 - cut.astype(images.dtype))


def _crop(drawn: jax.Array, images: jax.Array, settings: DsaSettings) -> jax.Array:
    def shifted(u: jax.Array, size: int) -> jax.Array:
        furthest = int(size * settings.crop + 0.5)
        return jnp.arange(size) + _integers(u, -furthest, furthest + 1)

    rows, columns = shifted(drawn[0], images.shape[1]), shifted(drawn[1], images.shape[2])
    return sample_separably(images, rows, columns)


def _scale(drawn: jax.Array, images: jax.Array, settings: DsaSettings) -> jax.Array:
    least, most = 1 / settings.scale, settings.scale

    def from_where(u: jax.Array, size: int) -> jax.Array:
        return zoomed(jnp.arange(size), least + u[:, None] * (most - least), size)

    rows, columns = from_where(drawn[0], images.shape[1]), from_where(drawn[1], images.shape[2])
    return sample_separably(images, rows, columns)


def _rotate(drawn: jax.Array, images: jax.Array, settings: DsaSettings) -> jax.Array:
    angle = jnp.deg2rad((2 * drawn[0] - 1) * settings.rotate)
    return sample(images, *rotated_grid(angle, images.shape[1], images.shape[2]))


# --- where pixels come from, where that is all there is to a kind: entries of `Affine` ---


def _affine_crop(drawn: jax.Array, settings: DsaSettings, size: tuple[int, ...]) -> Entries:
    def shift(u: jax.Array, side: int) -> jax.Array:
        furthest = int(side * settings.crop + 0.5)
        return _integers(u, -furthest, furthest + 1)[:, 0].astype(u.dtype)

    return {"y": shift(drawn[0], size[0]), "x": shift(drawn[1], size[1])}


def _affine_scale(drawn: jax.Array, settings: DsaSettings, size: tuple[int, ...]) -> Entries:
    least, most = 1 / settings.scale, settings.scale
    return {"yy": least + drawn[0] * (most - least), "xx": least + drawn[1] * (most - least)}


def _affine_rotate(drawn: jax.Array, settings: DsaSettings, size: tuple[int, ...]) -> Entries:
    angle = jnp.deg2rad((2 * drawn[0] - 1) * settings.rotate)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return {"yy": cos, "yx": sin, "xy": -sin, "xx": cos}


def _affine_flip(drawn: jax.Array, settings: DsaSettings, size: tuple[int, ...]) -> Entries:
    return {"xx": jnp.where(drawn[0] < settings.flip, -1.0, 1.0).astype(drawn.dtype)}


AFFINE: dict[str, Callable[..., Entries]] = {
    "crop": _affine_crop,
    "flip": _affine_flip,
    "rotate": _affine_rotate,
    "scale": _affine_scale,
}


def _integers(u: jax.Array, least: int, end: int) -> jax.Array:
    """Numbers in [0, 1) `(m,)` → integers from `least` to `end` − 1, int32 `(m, 1)`."""
    return (least + jnp.floor(u * (end - least)).astype(jnp.int32))[:, None]


TRANSFORMS: dict[str, Callable[..., jax.Array]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
