"""What turns stored pixels into what a network sees, and back: per-channel mean/std, ZCA, or both.

A `Preprocess` is a pytree, so compiled steps take it as an argument, along with the images.
"""

import contextlib
import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdd import files, records
from jdd.errors import UserError, unknown_value

Kind = Literal["standard", "zca", "normalize_zca"]
KINDS: tuple[Kind, ...] = ("standard", "zca", "normalize_zca")

ZCA_EPSILON = 0.1  # what the published code of trajectory matching and its followers uses
_DIGEST = 32  # bytes
_CHUNK = 4096  # images whose float64 copy is held at once: 100 MB at 32×32×3


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Zca:
    """A whitening of flattened NHWC images (d = h·w·c)."""

    mean: jax.Array  # (d,) float32
    whiten: jax.Array  # (d, d) float32, symmetric: U diag(1/√(S + ε)) Uᵀ
    unwhiten: jax.Array  # (d, d) float32, its inverse: U diag(√(S + ε)) Uᵀ


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
            "mean": _rounded(self.mean),
            "std": _rounded(self.std),
        }
        if self.zca is not None:
            spec["zca"] = _fingerprint(self.zca)
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
      UserError: unknown kind, or ZCA for images that are not RGB.
    """
    if kind not in KINDS:
        raise unknown_value("preprocessing", str(kind), KINDS)
    height, width, channels = (int(s) for s in train_images.shape[1:])
    shape = (height, width, channels)
    if kind != "standard" and channels != 3:
        raise UserError(
            f"`preprocessing` '{kind}' is for RGB images, these have {channels} channel"
            f"{'' if channels == 1 else 's'}: use 'standard'"
        )
    if kind == "zca":
        whitening = _cached_zca(train_images)
        return Preprocess(jnp.zeros(channels), jnp.ones(channels), whitening, "zca", shape)
    if kind == "normalize_zca":
        # FRePo's and RCIG's code has these very numbers, to 4 digits.
        measured = channel_mean_std(train_images)
        whitening = _cached_zca(train_images, measured)
        mean_array, std_array = (jnp.asarray(a, jnp.float32) for a in measured)
        return Preprocess(mean_array, std_array, whitening, "normalize_zca", shape)
    mean, std = mean_std if mean_std is not None else channel_mean_std(train_images)
    mean_array, std_array = (jnp.asarray(a, jnp.float32) for a in (mean, std))
    return Preprocess(mean_array, std_array, None, "standard", shape)


def from_spec(spec: Mapping[str, Any]) -> Preprocess | None:
    """The preprocessing that `Preprocess.spec()` describes; None for ZCA, whose matrix it lacks."""
    if spec["kind"] != "standard":
        return None
    mean, std = (jnp.asarray(spec[name], jnp.float32) for name in ("mean", "std"))
    height, width, channels = spec["image_shape"]
    return Preprocess(mean, std, None, "standard", (height, width, channels))


def channel_mean_std(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and (population) standard deviation of each channel of (n, h, w, c) uint8, in [0, 1]."""
    means, stds = [], []
    for channel in range(images.shape[-1]):
        # Counting the 256 values keeps it exact and needs no float copy of all images.
        counts = np.bincount(images[..., channel].reshape(-1), minlength=256)
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
        if stored.get(key) != asked.get(key)
    ]
    if not differing and stored.get("zca") != asked.get("zca"):
        differing.append(
            "stored with a ZCA whitening of other training images than the ones asked for"
        )
    return differing


def fit_zca(
    train_images: np.ndarray,
    epsilon: float = ZCA_EPSILON,
    mean_std: tuple[Sequence[float], Sequence[float]] | None = None,
) -> Zca:
    """ZCA whitening of (n, h, w, c) uint8, as the papers compute it: on [0, 1] pixels, in float64.

    With X centred and XᵀX/(n−1) = U diag(S) Uᵀ, the whitening is U diag(1/√(S + ε)) Uᵀ. The
    published code flattens channel-first; here the order is NHWC, the same up to a permutation.

    With `mean_std`, X are pixels normalised by these per channel, and ε is in units of their mean
    variance, as FRePo's code has it (which divides by n).
    """
    n = len(train_images)
    flat = train_images.reshape(n, -1)
    gram = np.zeros((flat.shape[1], flat.shape[1]))
    for start in range(0, n, _CHUNK):
        # Integers in float64: every sum is exact, so no summation order of a BLAS can change it.
        chunk = flat[start : start + _CHUNK].astype(np.float64)
        gram += chunk.T @ chunk
    mean = flat.sum(axis=0, dtype=np.int64) / n
    covariance = (gram - n * np.outer(mean, mean)) / (max(n - 1, 1) * 255.0**2)
    mean = mean / 255.0
    if mean_std is not None:
        center, scale = (np.resize(np.asarray(a, np.float64), len(mean)) for a in mean_std)
        mean = (mean - center) / scale
        covariance /= np.outer(scale, scale)
        epsilon *= float(np.trace(covariance)) / len(mean)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    sizes = np.sqrt(np.maximum(eigenvalues, 0.0) + epsilon)
    whiten, unwhiten = (vectors / sizes) @ vectors.T, (vectors * sizes) @ vectors.T
    return Zca(*(jnp.asarray(a, jnp.float32) for a in (mean, whiten, unwhiten)))


def _cached_zca(
    train_images: np.ndarray, mean_std: tuple[list[float], list[float]] | None = None
) -> Zca:
    made_by = (train_images.shape, ZCA_EPSILON, *(["normalize"] if mean_std is not None else []))
    key = hashlib.sha256(repr(made_by).encode())
    key.update(np.ascontiguousarray(train_images).data)
    path = files.cache_dir() / f"zca-{key.hexdigest()[:32]}.f32"
    # A file that is absent or damaged is computed anew and written over.
    with contextlib.suppress(UserError):
        if (stored := _read(path, int(np.prod(train_images.shape[1:])))) is not None:
            return stored
    computed = fit_zca(train_images, mean_std=mean_std)
    # A cache that cannot be written costs the next run some seconds; it is no reason to stop.
    with contextlib.suppress(OSError):
        _write(path, computed)
    return computed


def _read(path: Path, dimensions: int) -> Zca | None:
    """The whitening in a cache file, None where it is not as it was written.

    It holds a SHA-256 of the rest, then the arrays in the order of `Zca`, so that all there is to
    read follows from the images: no header says how much.
    """
    sizes = [dimensions, dimensions**2, dimensions**2]
    length = _DIGEST + 4 * sum(sizes)
    content = files.read_bytes(path, length)
    if len(content) != length or hashlib.sha256(content[_DIGEST:]).digest() != content[:_DIGEST]:
        return None
    numbers = np.frombuffer(content, "<f4", offset=_DIGEST)
    if not np.isfinite(numbers).all():
        return None
    mean, whiten, unwhiten = np.split(numbers, np.cumsum(sizes)[:-1])
    square = (dimensions, dimensions)
    return Zca(jnp.asarray(mean), *(jnp.asarray(m.reshape(square)) for m in (whiten, unwhiten)))


def _write(path: Path, zca: Zca) -> None:
    arrays = (np.asarray(getattr(zca, f.name), "<f4") for f in dataclasses.fields(zca))
    content = b"".join(array.tobytes() for array in arrays)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(content).digest() + content)
        temporary.replace(path)
        path.with_suffix(".npz").unlink(missing_ok=True)  # of jdd 0.1, which held no checksum
    finally:
        temporary.unlink(missing_ok=True)


def _flat(images: jax.Array) -> jax.Array:
    return images.reshape(*images.shape[:-3], -1)


def _matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    # Accelerators shorten float32 products by default, which shows in whitened images.
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def _rounded(values: jax.Array) -> list[float]:
    return [round(float(v), 4) for v in np.asarray(values)]


def _fingerprint(zca: Zca) -> str:
    # Only the diagonal, and to 3 decimals: with all d² entries, one would sooner or later lie so
    # close to a rounding boundary that another BLAS puts it on the other side.
    numbers = np.concatenate([np.diagonal(np.asarray(zca.whiten)), np.asarray(zca.mean)])
    thousandths = np.rint(numbers.astype(np.float64) * 1000).astype("<i4")
    return hashlib.sha256(thousandths.tobytes()).hexdigest()[:16]
