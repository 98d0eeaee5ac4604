"""ZCA whitening: computed as the papers do, refused where it cannot be, kept in the cache."""

import contextlib
import dataclasses
import hashlib
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jdd import files
from jdd.errors import UserError

ZCA_EPSILON = 0.1  # what the published code of trajectory matching and its followers uses
_COPIES = 6  # of the matrix in float64, at most at once: Gram, eigenvectors and LAPACK's own
_DIGEST = 32  # bytes
_EASY = 1 / 8  # of the memory, that whitened images may take
_CHUNK = 4096  # images whose float64 copy is held at once: 100 MB at 32×32×3
_LIMIT = Path("/sys/fs/cgroup/memory.max")  # where a container is given less than the machine has


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Zca:
    """A whitening of flattened NHWC images (d = h·w·c)."""

    mean: jax.Array  # (d,) float32
    whiten: jax.Array  # (d, d) float32, symmetric: U diag(1/√(S + ε)) Uᵀ
    unwhiten: jax.Array  # (d, d) float32, its inverse: U diag(√(S + ε)) Uᵀ


def check_zca(shape: tuple[int, int, int], kind: str = "zca") -> None:
    """Raises `UserError` where images `(h, w, c)` cannot be whitened here, as `kind` does it.

    They are grey, or the matrix and what it is made with, some copies of it in float64, take more
    than this machine's memory.
    """
    height, width, channels = shape
    if channels != 3:
        raise UserError(
            f"`preprocessing` '{kind}' is for RGB images, these have {channels} channel"
            f"{'' if channels == 1 else 's'}: use 'standard'"
        )
    size, memory = height * width * channels, _memory()
    needed = _COPIES * 8 * size**2
    if needed > memory:
        raise UserError(
            f"`preprocessing` '{kind}' of {width}×{height} pixels takes a matrix of {size:,}² "
            f"numbers, {4 * size**2 / 2**30:,.1f} GiB, and {needed / 2**30:,.0f} GiB of memory to "
            f"make it, here are {memory / 2**30:,.0f}: use 'standard', or a smaller `image_size`"
        )


def has_room(shape: tuple[int, ...]) -> bool:
    """Whether whitened images `(n, h, w, c)` float32 take an eighth of the memory at most."""
    return 4 * math.prod(shape) <= _EASY * _memory()


def _memory() -> int:
    """Bytes of memory that this machine has, or this container is given."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        memory = min(memory, int(_LIMIT.read_text()))
    return memory


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
        if not epsilon > 0:
            raise UserError("`preprocessing` normalize_zca: the training images are all the same")
    eigenvalues, vectors = np.linalg.eigh(covariance)
    sizes = np.sqrt(np.maximum(eigenvalues, 0.0) + epsilon)
    whiten, unwhiten = (vectors / sizes) @ vectors.T, (vectors * sizes) @ vectors.T
    return Zca(*(jnp.asarray(a, jnp.float32) for a in (mean, whiten, unwhiten)))


def cached(
    train_images: np.ndarray, mean_std: tuple[list[float], list[float]] | None = None
) -> Zca:
    """`fit_zca` of the images, read from the user's cache directory where it is there."""
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


def from_cache(mark: str, dimensions: int) -> Zca | None:
    """The whitening of this `fingerprint` in the user's cache directory; None where it is not."""
    for path in sorted(files.cache_dir().glob("zca-*.f32")):
        with contextlib.suppress(UserError):
            zca = _read(path, dimensions)
            if zca is not None and fingerprint(zca) == mark:
                return zca
    return None


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


def fingerprint(zca: Zca) -> str:
    """A short text that other whitenings do not have."""
    # Only the diagonal, and to 3 decimals: with all d² entries, one would sooner or later lie so
    # close to a rounding boundary that another BLAS puts it on the other side.
    numbers = np.concatenate([np.diagonal(np.asarray(zca.whiten)), np.asarray(zca.mean)])
    thousandths = np.rint(numbers.astype(np.float64) * 1000).astype("<i4")
    return hashlib.sha256(thousandths.tobytes()).hexdigest()[:16]
