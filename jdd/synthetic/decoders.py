"""What a synthetic set stores, and the images that it decodes to.

A decoder is a static, hashable description of a map from what is learned (the storage, any pytree
of float arrays with a leading axis) to images. Methods move the storage by the gradient to it;
networks are trained on the images. Of the images that one entry of the storage decodes to, each is
of that entry's class, and they lie next to each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jdd import records
from jdd.data.shapes import MOST_SIDE
from jdd.errors import SettingError, UserError

FORMATIONS = ("uniform", "multi")
# IDC's code fills an image up with 0.5 to a multiple of the factor: of pixels in [0, 1] there.
_PADDING = 0.5


class Decoder(Protocol):
    """A map from storage to images; an instance is hashable and goes through `jit` as static."""

    def decode(self, storage: Any) -> jax.Array:
        """Storage → float32 images `(n, h, w, c)`, preprocessed; differentiable."""

    def encode(self, images: jax.Array) -> Any:
        """Images `(n, h, w, c)` → storage that a method starts from, which decodes near to them."""

    def noise(self, key: jax.Array, classes: int, ipc: int, image: tuple[int, ...]) -> Any:
        """Storage of standard normal noise, in the place of `ipc` images `(h, w, c)` a class."""

    def encoded(self, ipc: int) -> int:
        """How many images a class `encode` takes in the place of `ipc`."""

    def numbers(self) -> int:
        """How many numbers the decoder itself has to be stored with."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON, with its registered `name`."""


@dataclass(frozen=True)
class Identity:
    """Pixels are stored as they are."""

    def decode(self, storage: jax.Array) -> jax.Array:
        """The storage itself."""
        return storage

    def encode(self, images: jax.Array) -> jax.Array:
        """The images themselves."""
        return images

    def noise(self, key: jax.Array, classes: int, ipc: int, image: tuple[int, ...]) -> jax.Array:
        """Noise in each pixel."""
        return jax.random.normal(key, (classes * ipc, *image), jnp.float32)

    def encoded(self, ipc: int) -> int:
        """As many."""
        return ipc

    def numbers(self) -> int:
        """None."""
        return 0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"name": "identity"}


@dataclass(frozen=True)
class MultiFormation:
    """A stored image holds factor × factor smaller ones, each enlarged bilinearly.

    Kim et al., "Dataset Condensation via Efficient Synthetic-Data Parameterization" (IDC, 2022),
    section 4.2. Where the factor does not divide a side, the image is first filled up with 0.5 (in
    its code of pixels in [0, 1], here of preprocessed ones). The formation `multi` gives the images
    of every factor from 1 up, so 1 + 4 + … for each stored one.
    """

    factor: int
    height: int
    width: int
    formation: str = "uniform"

    def __post_init__(self) -> None:
        """Raises `SettingError` where parts would be smaller than two pixels, or lie outside."""
        _check_sides(self.height, self.width)
        most = max(1, min(self.height, self.width) // 2)
        if not 1 <= self.factor <= most:
            raise SettingError(
                "factor", self.factor, f"from 1 to {most} for {self.height} × {self.width} pixels"
            )
        first = self.factor if self.formation == "uniform" else 1
        sides = (self.height, self.width)
        for factor, side in product(range(first, self.factor + 1), sides):
            part = -(-side // factor)
            if (factor - 1) * part >= side:
                problem = f"{factor} parts of {part} pixels leave none of {side} for the last one"
                raise SettingError("factor", self.factor, problem)
        if self.formation not in FORMATIONS:
            raise SettingError("formation", f"'{self.formation}'", "choose uniform or multi")

    def decode(self, storage: jax.Array) -> jax.Array:
        """Stored images `(n, h, w, c)` → `(n · factor², h, w, c)`, or more in the formation
        `multi`: all of the first stored image, then all of the second."""
        first = self.factor if self.formation == "uniform" else 1
        parts = [self._parts(storage, factor) for factor in range(first, self.factor + 1)]
        images = jnp.concatenate(parts, axis=1)
        return images.reshape(-1, *images.shape[2:])

    def encode(self, images: jax.Array) -> jax.Array:
        """Images `(n · factor², h, w, c)`, made smaller by averaging, side by side."""
        f, channels = self.factor, images.shape[-1]
        rows, columns = (-(-side // f) for side in (self.height, self.width))
        small = jnp.einsum(
            "Hh,nhwc,Ww->nHWc",
            _averaging(self.height, rows),
            images,
            _averaging(self.width, columns),
            precision="highest",
        )
        tiled = small.reshape(-1, f, f, rows, columns, channels).transpose(0, 1, 3, 2, 4, 5)
        tiled = tiled.reshape(-1, f * rows, f * columns, channels)
        return tiled[:, : self.height, : self.width]

    def noise(self, key: jax.Array, classes: int, ipc: int, image: tuple[int, ...]) -> jax.Array:
        """Noise in each stored pixel."""
        return jax.random.normal(key, (classes * ipc, *image), jnp.float32)

    def encoded(self, ipc: int) -> int:
        """factor² for each."""
        return ipc * self.factor**2

    def numbers(self) -> int:
        """None that count."""
        return 0

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        sizes = {"factor": self.factor, "height": self.height, "width": self.width}
        return {"name": "multi_formation", **sizes, "formation": self.formation}

    def _parts(self, storage: jax.Array, f: int) -> jax.Array:
        """`(n, h, w, c)` → `(n, f², h, w, c)`."""
        n, _, _, channels = storage.shape
        rows, columns = (-(-side // f) for side in (self.height, self.width))
        over = [(0, 0), (0, f * rows - self.height), (0, f * columns - self.width), (0, 0)]
        filled = jnp.pad(storage, over, constant_values=_PADDING)
        parts = jnp.einsum(
            "Hh,nihjwc,Ww->nijHWc",
            _enlarging(rows, self.height),
            filled.reshape(n, f, rows, f, columns, channels),
            _enlarging(columns, self.width),
            precision="highest",
        )
        return parts.reshape(n, f * f, self.height, self.width, channels)


@dataclass(frozen=True)
class Dct:
    """Some coefficients of each channel's two-dimensional cosine transform; the others are 0.

    Shin et al., "Frequency Domain-Based Dataset Distillation" (FreD, 2023), section 3: those whose
    variance over the real images is largest, so that more images fit the same storage.
    """

    height: int
    width: int
    chosen: tuple[tuple[int, ...], ...]
    """for each channel the places of its coefficients, row · width + column"""

    def __post_init__(self) -> None:
        """Raises `SettingError` for places that there are not."""
        _check_sides(self.height, self.width)
        counts = {len(places) for places in self.chosen}
        last = max((max(places, default=-1) for places in self.chosen), default=-1)
        first = min((min(places, default=-1) for places in self.chosen), default=-1)
        if len(counts) != 1 or first < 0 or last >= self.height * self.width:
            sides = f"{self.height} × {self.width}"
            raise SettingError("coefficients", len(self.chosen), f"no places in {sides} pixels")

    @classmethod
    def of(cls, images: Any, coefficients: int) -> "Dct":
        """That of the `coefficients` of largest variance over images `(n, h, w, c)`."""
        _, height, width, channels = images.shape
        if not 1 <= coefficients <= height * width:
            raise SettingError(
                "coefficients",
                coefficients,
                f"from 1 to {height * width} for {height} × {width} pixels",
            )
        variance = np.asarray(jnp.var(_cosines(jnp.asarray(images)), axis=0))
        variance = variance.reshape(-1, channels)
        order = np.argsort(-variance, axis=0, kind="stable")[:coefficients]
        return cls(height, width, tuple(tuple(np.sort(column).tolist()) for column in order.T))

    def decode(self, storage: jax.Array) -> jax.Array:
        """Coefficients `(n, k, c)` → images `(n, h, w, c)`."""
        n, _, channels = storage.shape
        every = jnp.zeros((n, self.height * self.width, channels), storage.dtype)
        every = every.at[:, self._places(), np.arange(channels)].set(storage)
        return _cosines(every.reshape(n, self.height, self.width, channels), inverse=True)

    def encode(self, images: jax.Array) -> jax.Array:
        """Images `(n, h, w, c)` → their coefficients `(n, k, c)`."""
        channels = images.shape[-1]
        every = _cosines(images).reshape(images.shape[0], -1, channels)
        return every[:, self._places(), np.arange(channels)]

    def noise(self, key: jax.Array, classes: int, ipc: int, image: tuple[int, ...]) -> jax.Array:
        """Noise in each coefficient."""
        shape = (classes * self.encoded(ipc), len(self.chosen[0]), image[-1])
        return jax.random.normal(key, shape, jnp.float32)

    def encoded(self, ipc: int) -> int:
        """As many as have no more coefficients than `ipc` have pixels."""
        return ipc * self.height * self.width // len(self.chosen[0])

    def numbers(self) -> int:
        """The places."""
        return sum(map(len, self.chosen))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        chosen = [list(places) for places in self.chosen]
        return {"name": "dct", "height": self.height, "width": self.width, "chosen": chosen}

    def _places(self) -> np.ndarray:
        return np.asarray(self.chosen).T


def _check_sides(height: int, width: int) -> None:
    # What enlarges or transforms a side is a matrix of that size.
    if not (1 <= height <= MOST_SIDE and 1 <= width <= MOST_SIDE):
        raise SettingError("image_size", f"{height} × {width}", f"sides from 1 to {MOST_SIDE}")


IDENTITY = Identity()
DECODERS: dict[str, Any] = {"identity": Identity, "multi_formation": MultiFormation, "dct": Dct}
"""Dataclasses by the name that is written on a set, along with the decoder's fields."""


def decoder_from_json(value: Any, where: object = "the set") -> Decoder:
    """The inverse of `Decoder.to_json`; raises `UserError` for a decoder that is not known, or
    whose fields are not its own, on what came from `where`."""
    if not isinstance(value, Mapping):
        raise UserError(f"{where} is damaged: its decoder has no fields")
    options = dict(value)
    name = options.pop("name", "identity")
    if not isinstance(name, str) or name not in DECODERS:
        raise UserError(f"{where}: no decoder {name!r:.40} here: the set was made by a newer jdd")
    decoder: Decoder = records.parse(options, DECODERS[name], f"{where} (its decoder)")
    return decoder


@lru_cache
def _enlarging(size: int, to: int) -> np.ndarray:
    """Bilinear interpolation between pixel centres, edges held: float32 `(to, size)`."""
    at = ((np.arange(to) + 0.5) * size / to - 0.5).clip(0, size - 1)
    distance = np.abs(at[:, None] - np.arange(size))
    return np.asarray(np.maximum(0, 1 - distance), np.float32)


@lru_cache
def _averaging(size: int, to: int) -> np.ndarray:
    """The mean over the pixels that a larger one covers, in parts where it must: `(to, size)`."""
    edges = np.arange(to + 1) * size / to
    first, last = edges[:-1, None], edges[1:, None]
    covered = np.minimum(last, np.arange(size) + 1) - np.maximum(first, np.arange(size))
    return np.asarray(covered.clip(0) * to / size, np.float32)


@lru_cache
def _basis(size: int) -> np.ndarray:
    """The orthonormal cosine transform (DCT-II): float32 `(frequency, pixel)`."""
    frequency, pixel = np.arange(size)[:, None], np.arange(size)
    waves = np.cos(np.pi * (pixel + 0.5) * frequency / size) * np.sqrt(2 / size)
    waves[0] /= np.sqrt(2)
    return np.asarray(waves, np.float32)


def _cosines(images: jax.Array, inverse: bool = False) -> jax.Array:
    """`(n, h, w, c)` → the transform over h and w, or back."""
    rows, columns = _basis(images.shape[1]), _basis(images.shape[2])
    if inverse:
        rows, columns = rows.T, columns.T
    return jnp.einsum("Hh,nhwc,Ww->nHWc", rows, images, columns, precision="highest")
