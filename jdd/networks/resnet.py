"""ResNet-18 for small images, with strided convolutions or, "AP", with average pooling instead."""

from typing import Any

import flax.linen as nn
import jax

from jdd import ops
from jdd.networks import layers
from jdd.networks.base import Network

_PLANES = (64, 128, 256, 512)  # two basic blocks of each; all but the first halve the map


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

    planes: int
    stride: int
    norm: str
    average_pool: bool

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> list[jax.Array]:
        """`(n, h, w, c)` → the maps behind both activations; the last is the block's output."""
        halve = self.average_pool and self.stride != 1
        stride = 1 if self.average_pool else self.stride

        inner = jax.nn.relu(self._convolution("layer_1", stride=stride)(x, train))
        pooled = ops.avg_pool(inner, 2, 2) if halve else inner
        out = self._convolution("layer_2")(pooled, train)
        if self.stride != 1 or x.shape[-1] != self.planes:
            # Pooling before the 1×1 convolution instead of behind it is the same sum, at a quarter.
            x = ops.avg_pool(x, 2, 2) if halve else x
            x = self._convolution("shortcut", window=1, padding=0, stride=stride)(x, train)
        return [inner, jax.nn.relu(out + x)]

    def _convolution(
        self, name: str, window: int = 3, padding: int = 1, stride: int = 1
    ) -> layers.ConvBlock:
        return layers.ConvBlock(
            self.planes, self.norm, window, padding, stride, use_bias=False, name=name
        )


class ResNet18(Network):
    """A 3×3 convolution and eight basic blocks; `norm` is "instance" or "batch".

    With `average_pool` the last map goes to the classifier as it is, else averaged over 4×4.
    """

    norm: str
    average_pool: bool

    def setup(self) -> None:
        """Makes the layers: `block_0` is the stem."""
        stem = layers.ConvBlock(_PLANES[0], self.norm, use_bias=False)
        self.block: list[Any] = [stem] + [
            BasicBlock(planes, 2 if first and i > 0 else 1, self.norm, self.average_pool)
            for i, planes in enumerate(_PLANES)
            for first in (True, False)
        ]
        self.classifier = layers.Dense(self.num_classes)

    def feature_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """See `Network`."""
        height, width, _ = image_shape
        if self.average_pool:
            return height // 8, width // 8, _PLANES[-1]
        # Three strided convolutions that round up, then 4×4 pooling.
        return -(-height // 8) // 4, -(-width // 8) // 4, _PLANES[-1]

    def fits(self, image_shape: tuple[int, int, int]) -> bool:
        """See `Network`; instance norm over a single entry would leave nothing but its bias."""
        least = 2 if self.average_pool and self.norm == "instance" else 1
        return min(self.feature_shape(image_shape)[:2]) >= least

    def trace(self, images: jax.Array, train: bool) -> tuple[list[jax.Array], jax.Array]:
        """See `Network`."""
        maps = [jax.nn.relu(self.block[0](images, train))]
        for block in self.block[1:]:
            maps += block(maps[-1], train)
        return maps, maps[-1] if self.average_pool else ops.avg_pool(maps[-1], 4, 4)
