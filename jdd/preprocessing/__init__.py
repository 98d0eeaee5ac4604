"""What turns stored pixels into what a network sees, and back: per-channel mean/std, ZCA, or both.

A `Preprocess` is a pytree, so compiled steps take it as an argument, along with the images.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdd import records
from jdd.errors import unknown_value
from jdd.preprocessing import _zca
from jdd.preprocessing._zca import Zca as Zca
from jdd.preprocessing._zca import check_zca as check_zca
from jdd.preprocessing._zca import fit_zca as fit_zca
from jdd.preprocessing._zca import has_room as has_room

Kind = Literal["standard", "zca", "normalize_zca"]
KINDS: tuple[Kind, ...] = ("standard", "zca", "normalize_zca")

_COUNTED = 2**18  # pixels that are counted at once: as many as a cache holds
_SAME = 1e-4  # statistics that differ less are the same: sets of jdd 0.1 have four digits


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Preprocess:
    """From uint8 NHWC images to float32 NHWC ones, and back.

    `standard` is `(x/255 − mean)/std` per channel; `zca` whitens x/255 and leaves mean 0 and std 1;
    `normalize_zca` whitens what `standard` gives. Build one with `fit`.
    """

    mean: jax.Array  # (c,) float32
    std: jax.Array  # (c,) float32
    zca: Zca | None
    kind: Kind = dataclasses.field(metadata={"static": True})
    image_shape: tuple[int, int, int] = dataclasses.field(metadata={"static": True})

    def __call__(self, images: jax.Array | np.ndarray) -> jax.Array:
        """Images (..., h, w, c) uint8 → (..., h, w, c) float32 in the preprocessed space."""
        pixels = jnp.asarray(images).astype(jnp.float32) / 255.0
        if self.kind != "zca":
            pixels = (pixels - self.mean) / self.std
        if self.zca is None:
            return pixels
        return _matmul(_flat(pixels) - self.zca.mean, self.zca.whiten).reshape(pixels.shape)

    def invert(self, images: jax.Array | np.ndarray) -> jax.Array:
        """Preprocessed images (..., h, w, c) → float32 pixels in [0, 1], clipped."""
        return jnp.clip(self.unclipped(images), 0.0, 1.0)

    def unclipped(self, images: jax.Array | np.ndarray) -> jax.Array:
        """As `invert`, but with what distilled images have outside [0, 1]."""
        images = jnp.asarray(images, jnp.float32)
        if self.zca is not None:
            flat = _matmul(_flat(images), self.zca.unwhiten) + self.zca.mean
            images = flat.reshape(images.shape)
        return images if self.kind == "zca" else images * self.std + self.mean

    def spec(self) -> dict[str, Any]:
        """What identifies this preprocessing, JSON-able; compare two with `differences`."""
        spec: dict[str, Any] = {
            "kind": self.kind,
            "image_shape": list(self.image_shape),
            "mean": _shortest(self.mean),
            "std": _shortest(self.std),
        }
        if self.zca is not None:
            spec["zca"] = _zca.fingerprint(self.zca)
        return spec


def fit(
    kind: str,
    train_images: np.ndarray,
    mean_std: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Preprocess:
    """The preprocessing of a dataset, from its training images (n, h, w, c) uint8.

    `mean_std` are the per-channel constants for `standard`; without them they are computed, as they
    are for `normalize_zca` in any case. ZCA is computed once and then read from the user's cache
    directory.

    Raises:
      UserError: unknown kind, or ZCA for images that cannot be whitened (`check_zca`).
    """
    if kind not in KINDS:
        raise unknown_value("preprocessing", str(kind), KINDS)
    height, width, channels = (int(s) for s in train_images.shape[1:])
    shape = (height, width, channels)
    if kind != "standard":
        check_zca(shape, kind)
    if kind == "zca":
        whitening = _zca.cached(train_images)
        return Preprocess(jnp.zeros(channels), jnp.ones(channels), whitening, "zca", shape)
    if kind == "normalize_zca":
        # FRePo's and RCIG's code has these very numbers, to 4 digits.
        measured = channel_mean_std(train_images)
        whitening = _zca.cached(train_images, measured)
        mean_array, std_array = (jnp.asarray(a, jnp.float32) for a in measured)
        return Preprocess(mean_array, std_array, whitening, "normalize_zca", shape)
    mean, std = mean_std if mean_std is not None else channel_mean_std(train_images)
    mean_array, std_array = (jnp.asarray(a, jnp.float32) for a in (mean, std))
    return Preprocess(mean_array, std_array, None, "standard", shape)


def from_spec(spec: Mapping[str, Any]) -> Preprocess | None:
    """The preprocessing that `Preprocess.spec()` describes; None for ZCA, whose matrix it lacks,
    where the user's cache directory lacks it too."""
    height, width, channels = spec["image_shape"]
    shape, whitening = (height, width, channels), None
    if spec["kind"] != "standard":
        whitening = _zca.from_cache(spec.get("zca", ""), height * width * channels)
        if whitening is None:
            return None
    mean, std = (jnp.asarray(spec[name], jnp.float32) for name in ("mean", "std"))
    return Preprocess(mean, std, whitening, spec["kind"], shape)


def channel_mean_std(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and (population) standard deviation of each channel of (n, h, w, c) uint8, in [0, 1]."""
    means, stds = [], []
    step = max(1, _COUNTED // images[:1].size)
    for channel in range(images.shape[-1]):
        # Counting the 256 values keeps it exact and needs no float copy of all images.
        counts = np.zeros(256, np.int64)
        for start in range(0, len(images), step):
            some = images[start : start + step, ..., channel]
            counts += np.bincount(some.reshape(-1), minlength=256)
        values = np.arange(256) / 255.0
        mean = float(counts @ values / counts.sum())
        variance = float(counts @ (values - mean) ** 2 / counts.sum())
        means.append(mean)
        # A constant channel has nothing to scale, and its standard deviation no digits to trust.
        stds.append(variance**0.5 if np.count_nonzero(counts) > 1 else 1.0)
    return means, stds


class _Spec(NamedTuple):
    kind: str
    image_shape: tuple[int, int, int] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    zca: str | None = None


def check_spec(value: Mapping[str, Any]) -> None:
    """Raises `ValueError` where a stored `Preprocess.spec()` cannot be one; it says why."""
    spec = records.build(_Spec, value, "preprocessing.")
    if spec.kind not in KINDS:
        raise ValueError(f"'preprocessing.kind' is {spec.kind!r:.40}: {' or '.join(KINDS)}")
    if spec.image_shape is not None and min(spec.image_shape) < 1:
        raise ValueError(f"'preprocessing.image_shape' is {spec.image_shape}")


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """How two `Preprocess.spec()` differ, in words; empty when they are the same."""
    if stored.get("kind") != asked.get("kind"):
        return [f"stored with {stored.get('kind')}, asked with {asked.get('kind')}"]
    differing = []
    if list(stored.get("image_shape", ())) != list(asked.get("image_shape", ())):
        sizes = ["×".join(map(str, spec.get("image_shape", ()))) for spec in (stored, asked)]
        differing.append(f"stored for {sizes[0]} images, asked for {sizes[1]}")
    differing += [
        f"stored with {key} {stored.get(key)}, asked with {asked.get(key)}"
        for key in ("mean", "std")
        if not _close(stored.get(key), asked.get(key))
    ]
    if not differing and stored.get("zca") != asked.get("zca"):
        differing.append(
            "stored with a ZCA whitening of other training images than the ones asked for"
        )
    return differing


def shortened(spec: Mapping[str, Any]) -> dict[str, Any]:
    """`Preprocess.spec()` as jdd 0.1 had it, by which places are named: statistics of four
    digits."""
    rounded = {name: [round(v, 4) for v in spec[name]] for name in ("mean", "std") if name in spec}
    return {**spec, **rounded}


def _close(stored: Sequence[float] | None, asked: Sequence[float] | None) -> bool:
    before, after = stored or (), asked or ()
    return len(before) == len(after) and bool(np.allclose(before, after, rtol=0, atol=_SAME))


def _flat(images: jax.Array) -> jax.Array:
    return images.reshape(*images.shape[:-3], -1)


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    # Accelerators shorten float32 products by default, which shows in whitened images.
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _shortest(values: jax.Array) -> list[float]:
    """Each as the shortest decimal that is this float32, such as 0.1307."""
    return [float(str(v)) for v in np.asarray(values, np.float32)]
