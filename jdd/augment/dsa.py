"""Differentiable siamese augmentation (DSA), one kind at a time or several on top of each other."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from jdd.augment._affine import Affine, matrix_of, sample_affine
from jdd.augment._sampling import kinds_of
from jdd.augment._transforms import AFFINE, PUBLISHED, TRANSFORMS, DsaSettings
from jdd.ops import WHOLE, Part
from jdd.ops.target import platform

WITH_FLIP = "color_crop_cutout_flip_scale_rotate"
WITHOUT_FLIP = "color_crop_cutout_scale_rotate"
_NO_FLIP = frozenset({"digits", "mnist", "svhn"})  # a mirrored digit is another sign, or none
_GEOMETRIC = ("crop", "scale", "rotate")


def strategy_for(dataset: str) -> str:
    """DSA's strategy for a dataset by name: all kinds, without the flip for digits."""
    return WITHOUT_FLIP if dataset in _NO_FLIP else WITH_FLIP


def check_kinds(strategy: str) -> None:
    """Raises `SettingError` where a strategy names a kind that there is not."""
    kinds_of(strategy, TRANSFORMS)


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
    settings: DsaSettings = PUBLISHED,
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
    kinds = kinds_of(strategy, TRANSFORMS)
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
    settings: DsaSettings = PUBLISHED,
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
    kinds = kinds_of(strategy, TRANSFORMS)
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
    branches = [functools.partial(TRANSFORMS[kind], settings=settings) for kind in kinds]
    transformed: jax.Array = lax.switch(draw.kind, branches, draw.numbers, images)
    return transformed


def augment_stacked(
    key: jax.Array,
    images: jax.Array,
    strategy: str,
    siamese: bool = False,
    settings: DsaSettings = PUBLISHED,
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
    kinds = kinds_of(strategy, TRANSFORMS)
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
        return TRANSFORMS[kinds[0]](drawn, images, settings)
    if "color" in kinds:
        colored = TRANSFORMS["color"](drawn, images, settings)
        images = jnp.where(kind == kinds.index("color"), colored, images)
    if "cutout" in kinds:
        cut = TRANSFORMS["cutout"](drawn, images, settings)
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
    moving = [name for name in AFFINE if name in kinds]
    if not moving:
        return None
    drawn = draw.numbers
    zero, one = jnp.zeros_like(drawn[0]), jnp.ones_like(drawn[0])
    affine = Affine(one, zero, zero, zero, one, zero)
    for name in moving:
        other = affine._replace(**AFFINE[name](drawn, settings, size))
        here = draw.kind == kinds.index(name)
        affine = Affine(*(jnp.where(here, b, a) for a, b in zip(affine, other, strict=True)))
    return matrix_of(affine)
