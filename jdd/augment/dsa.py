"""Differentiable siamese augmentation (DSA), one kind at a time or several on top of each other.

Everything geometric is bilinear sampling with zeros outside the image, hence linear in the pixels.
Shifts and zooms move rows and columns separately and are two small matrix products; rotation
gathers its four corners.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from jdd.augment._affine import Affine, matrix_of, sample_affine
from jdd.augment._sampling import kinds_of, rotated_grid, sample, sample_separably, zoomed
from jdd.ops import WHOLE, Part
from jdd.ops.target import platform

WITH_FLIP = "color_crop_cutout_flip_scale_rotate"
WITHOUT_FLIP = "color_crop_cutout_scale_rotate"
_NO_FLIP = frozenset({"digits", "mnist", "svhn"})  # a mirrored digit is another sign, or none
_GEOMETRIC = ("crop", "scale", "rotate")
_Entries = dict[str, jax.Array]


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


def strategy_for(dataset: str) -> str:
    """DSA's strategy for a dataset by name: all kinds, without the flip for digits."""
    return WITHOUT_FLIP if dataset in _NO_FLIP else WITH_FLIP


def check_kinds(strategy: str) -> None:
    """Raises `SettingError` where a strategy names a kind that there is not."""
    kinds_of(strategy, _TRANSFORMS)


class Draw(NamedTuple):
    """The numbers that one call of `augment` draws."""

    kind: jax.Array  # () int32, among the strategy's
    numbers: jax.Array  # (3, m) float in [0, 1), m being 1 or the number of images
    matrix: Any = None  # (m, 12) of where pixels come from; None: to be made of the numbers

    def reordered(self, order: jax.Array) -> "Draw":
        """Image i takes what image `order[i]` drew; `order` is `(m,)` int32."""
        matrix = None if self.matrix is None else self.matrix[order]
        return self._replace(numbers=self.numbers[:, order], matrix=matrix)


def draw_ahead(
    keys: jax.Array,
    strategy: str,
    shape: tuple[int, ...],
    dtype: DTypeLike = jnp.float32,
    settings: DsaSettings = DsaSettings(),
) -> Any:
    """What `augment` draws for each of a loop's keys, drawn before the loop; on a CPU the keys.

    In a loop, an accelerator would launch several kernels a turn for the generator alone.

    Args:
      keys: `(steps,)`.
      strategy: as for `augment`.
      shape: `(n, h, w, c)`, of the images that each call is to transform, each by itself.
      dtype: theirs.
      settings: the same as for `augment`.

    Returns:
      A pytree with a leading axis of steps; `augment` takes an entry of it in the place of a key.
    """
    kinds = kinds_of(strategy, _TRANSFORMS)
    if platform() == "cpu" or not kinds:
        return keys

    def draw(key: jax.Array) -> Draw:
        drawn = _draw(key, len(kinds), shape[0], dtype)
        return drawn._replace(matrix=_matrix(drawn, kinds, shape[1:3], settings))

    return jax.vmap(draw)(keys)


def _draw(key: jax.Array, kinds: int, count: int, dtype: DTypeLike) -> Draw:
    kind_key, draw_key = jax.random.split(key)
    # One array of numbers for whichever kind it is: every generator is compiled in each derivative.
    dtype = jnp.promote_types(dtype, jnp.float32)  # fewer bits would miss some positions
    numbers = jax.random.uniform(draw_key, (3, count), dtype)
    return Draw(jax.random.randint(kind_key, (), 0, kinds), numbers)


def augment(
    key: jax.Array | Draw,
    images: jax.Array,
    strategy: str,
    siamese: bool = False,
    settings: DsaSettings = DsaSettings(),
    part: Part = WHOLE,
) -> jax.Array:
    """Differentiable siamese augmentation: one kind of transform for a batch.

    To augment synthetic and real images alike, call it twice with the same key and `siamese=True`:
    the draws do not depend on the batch's size. With `siamese=False` the kind is shared but every
    image has its own parameters, and the same key does not transform two batches alike.

    Args:
      key: a key for this call alone; the same one again gives the same transform again. Or what was
        drawn with it, by `draw_ahead`.
      images: `(n, h, w, c)` float.
      strategy: kinds joined by underscores, from color, crop, cutout, flip, scale and rotate, drawn
        from with equal chances; or "none". `strategy_for` gives a dataset's.
      siamese: whether all images of the batch share one draw of the parameters.
      settings: the ranges, in units of preprocessed pixels where they add to them.
      part: which images of a batch these are, where it is divided among devices.

    Returns:
      Images of the same shape and dtype.

    Raises:
      UserError: a kind that is none of these; it names the nearest.

    References:
      Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation" (2021).
    """
    kinds = kinds_of(strategy, _TRANSFORMS)
    if isinstance(key, Draw):
        return _transform(_of_part(key, part), images, kinds, settings)
    return _augment(key, images, kinds, siamese, settings, part) if kinds else images


@functools.partial(jax.jit, static_argnames=("kinds", "siamese", "settings", "part"))
def _augment(
    key: jax.Array,
    images: jax.Array,
    kinds: tuple[str, ...],
    siamese: bool,
    settings: DsaSettings,
    part: Part,
) -> jax.Array:
    count = 1 if siamese else images.shape[0] * part.count
    draw = _of_part(_draw(key, len(kinds), count, images.dtype), part)
    return _transform(draw, images, kinds, settings)


def _of_part(draw: Draw, part: Part) -> Draw:
    """What was drawn for a whole batch, for a device's part of it."""
    if draw.numbers.shape[1] == 1:
        return draw
    matrix = None if draw.matrix is None else part.take(draw.matrix)
    return draw._replace(numbers=part.take(draw.numbers, axis=1), matrix=matrix)


def _transform(
    draw: Draw, images: jax.Array, kinds: tuple[str, ...], settings: DsaSettings
) -> jax.Array:
    if platform() != "cpu":
        return _without_a_branch(kinds, draw, images, settings)
    branches = [functools.partial(_TRANSFORMS[kind], settings=settings) for kind in kinds]
    transformed: jax.Array = lax.switch(draw.kind, branches, draw.numbers, images)
    return transformed


def augment_stacked(
    key: jax.Array,
    images: jax.Array,
    strategy: str,
    siamese: bool = False,
    settings: DsaSettings = DsaSettings(),
    part: Part = WHOLE,
) -> jax.Array:
    """DSA's transforms on top of each other, as IDC's code has them; `augment` draws one kind.

    Of the strategy's kinds every call applies flip (with its probability), then color, then one of
    crop, scale and rotate, drawn with equal chances, then cutout.

    Args:
      key, images, strategy, siamese, settings, part: as of `augment`.

    Returns:
      Images of the same shape and dtype.

    Raises:
      UserError: a kind that is none of these; it names the nearest.

    References:
      Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization" (2022),
      released code.
    """
    kinds = kinds_of(strategy, _TRANSFORMS)
    geometric = "_".join(kind for kind in kinds if kind in _GEOMETRIC)
    stages = ["flip", "color", geometric, "cutout"]
    for stage, stage_key in zip(stages, jax.random.split(key, 4), strict=True):
        if stage and (stage in kinds or stage == geometric):
            images = augment(stage_key, images, stage, siamese, settings, part)
    return images


def _without_a_branch(
    kinds: tuple[str, ...], draw: Draw, images: jax.Array, settings: DsaSettings
) -> jax.Array:
    """The transform that the draw chooses among `kinds`, all others made to do nothing."""
    kind, drawn = draw.kind, draw.numbers
    if len(kinds) == 1 and kinds[0] not in _GEOMETRIC:
        return _TRANSFORMS[kinds[0]](drawn, images, settings)
    if "color" in kinds:
        colored = _color(drawn, images, settings)
        images = jnp.where(kind == kinds.index("color"), colored, images)
    if "cutout" in kinds:
        cut = _cutout(drawn, images, settings)
        images = jnp.where(kind == kinds.index("cutout"), cut, images)
    matrix = draw.matrix
    if matrix is None:
        matrix = _matrix(draw, kinds, images.shape[1:3], settings)
    if matrix is None:
        return images
    return sample_affine(images, matrix, max(2**0.5, settings.scale))


def _matrix(
    draw: Draw, kinds: tuple[str, ...], size: tuple[int, ...], settings: DsaSettings
) -> jax.Array | None:
    """Where the pixels of images of a size `(h, w)` come from; None where no kind moves any."""
    moving = [name for name in _AFFINE if name in kinds]
    if not moving:
        return None
    drawn = draw.numbers
    zero, one = jnp.zeros_like(drawn[0]), jnp.ones_like(drawn[0])
    affine = Affine(one, zero, zero, zero, one, zero)
    for name in moving:
        other = affine._replace(**_AFFINE[name](drawn, settings, size))
        here = draw.kind == kinds.index(name)
        affine = Affine(*(jnp.where(here, b, a) for a, b in zip(affine, other, strict=True)))
    return matrix_of(affine)


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


def _affine_crop(drawn: jax.Array, settings: DsaSettings, size: tuple[int, ...]) -> _Entries:
    def shift(u: jax.Array, side: int) -> jax.Array:
        furthest = int(side * settings.crop + 0.5)
        return _integers(u, -furthest, furthest + 1)[:, 0].astype(u.dtype)

    return {"y": shift(drawn[0], size[0]), "x": shift(drawn[1], size[1])}


def _affine_scale(drawn: jax.Array, settings: DsaSettings, size: tuple[int, ...]) -> _Entries:
    least, most = 1 / settings.scale, settings.scale
    return {"yy": least + drawn[0] * (most - least), "xx": least + drawn[1] * (most - least)}


def _affine_rotate(drawn: jax.Array, settings: DsaSettings, size: tuple[int, ...]) -> _Entries:
    angle = jnp.deg2rad((2 * drawn[0] - 1) * settings.rotate)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return {"yy": cos, "yx": sin, "xy": -sin, "xx": cos}


def _affine_flip(drawn: jax.Array, settings: DsaSettings, size: tuple[int, ...]) -> _Entries:
    return {"xx": jnp.where(drawn[0] < settings.flip, -1.0, 1.0).astype(drawn.dtype)}


_AFFINE: dict[str, Callable[..., _Entries]] = {
    "crop": _affine_crop,
    "flip": _affine_flip,
    "rotate": _affine_rotate,
    "scale": _affine_scale,
}


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
