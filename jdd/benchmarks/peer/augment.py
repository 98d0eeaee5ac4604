"""DSA in PyTorch: one kind of transform a batch, parameters per image or one draw for all."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from jdd.augment import DsaSettings

_RANGES = DsaSettings()


def augment(
    images: Tensor, strategy: str, generator: torch.Generator, siamese: bool = False
) -> Tensor:
    """Images `(n, c, h, w)` by one of the kinds that `strategy` joins by underscores; or "none".

    With `siamese`, generators of one seed give two batches the same transform. They draw on the
    host, so that no GPU need be waited for.
    """
    if strategy == "none":
        return images
    kinds = strategy.split("_")
    kind = kinds[int(torch.randint(len(kinds), (), generator=generator))]
    draws = 1 if siamese else len(images)

    def uniform(low: float, high: float) -> Tensor:
        drawn = low + (high - low) * torch.rand(draws, generator=generator)
        return drawn.to(images.device, non_blocking=True)

    return _KINDS[kind](images, uniform)


def _color(images: Tensor, uniform: Callable[..., Tensor]) -> Tensor:
    def each(values: Tensor) -> Tensor:
        return values.view(-1, 1, 1, 1)

    width = _RANGES.brightness
    images = images + each(uniform(-width / 2, width / 2))
    grey = images.mean(1, keepdim=True)
    images = (images - grey) * each(uniform(0, _RANGES.saturation)) + grey
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * each(uniform(_RANGES.contrast, 1 + _RANGES.contrast)) + mean


def _flip(images: Tensor, uniform: Callable[..., Tensor]) -> Tensor:
    mirrored = uniform(0, 1).view(-1, 1, 1, 1) < _RANGES.flip
    return torch.where(mirrored, images.flip(3), images)


def _cutout(images: Tensor, uniform: Callable[..., Tensor]) -> Tensor:
    def outside(size: int) -> Tensor:
        length = int(size * _RANGES.cutout + 0.5)
        first = (uniform(0, size + 1 - length % 2)).floor() - length // 2
        place = torch.arange(size, device=images.device) - first[:, None]
        return (place < 0) | (place >= length)

    rows, columns = outside(images.shape[2]), outside(images.shape[3])
    return images * (rows[:, None, :, None] | columns[:, None, None, :])


def _crop(images: Tensor, uniform: Callable[..., Tensor]) -> Tensor:
    count, _, height, width = images.shape

    def places(size: int) -> tuple[Tensor, int]:
        most = int(size * _RANGES.crop + 0.5)
        shift = uniform(-most, most + 1).floor().long()
        steps = torch.arange(size, device=images.device)
        return (steps + (shift + most)[:, None]).expand(count, size), most

    (rows, above), (columns, left) = places(height), places(width)
    padded = F.pad(images, (left, left, above, above)).permute(0, 2, 3, 1)
    index = torch.arange(count, device=images.device)[:, None, None]
    return padded[index, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _scale(images: Tensor, uniform: Callable[..., Tensor]) -> Tensor:
    y, x = (uniform(1 / _RANGES.scale, _RANGES.scale) for _ in range(2))
    zero = torch.zeros_like(x)
    return _moved(images, [[x, zero, zero], [zero, y, zero]])


def _rotate(images: Tensor, uniform: Callable[..., Tensor]) -> Tensor:
    angle = uniform(-_RANGES.rotate, _RANGES.rotate) * math.pi / 180
    zero = torch.zeros_like(angle)
    return _moved(images, [[angle.cos(), -angle.sin(), zero], [angle.sin(), angle.cos(), zero]])


def _moved(images: Tensor, rows: list[list[Tensor]]) -> Tensor:
    matrices = torch.stack([torch.stack(row, 1) for row in rows], 1).expand(len(images), 2, 3)
    grid = F.affine_grid(matrices, list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, align_corners=True)


_KINDS: dict[str, Callable[..., Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}
