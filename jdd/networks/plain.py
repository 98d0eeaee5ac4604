"""AlexNet and VGG11: a plain row of convolutions, some of them pooled, and one linear layer.

Both in the form that the published condensation code gives them for 32×32 images: AlexNet without
local response normalisation and with one linear layer, VGG11 with instance or batch norm.
"""

from typing import ClassVar, NamedTuple

import jax

from jdd import ops
from jdd.networks import layers
from jdd.networks.base import Network, pad_by_two


class Stage(NamedTuple):
    """A convolution of this many channels and this window, and whether 2×2 max pooling follows."""

    features: int
    window: int
    pooled: bool


class PlainNetwork(Network):
    """Convolution → norm → ReLU → max pooling where the stage has it; then the classifier."""

    norm: str

    stages: ClassVar[tuple[Stage, ...]]

    def setup(self) -> None:
        """Makes the layers; a convolution's padding keeps the size of its map."""
        self.block = [
            layers.ConvBlock(stage.features, self.norm, stage.window, padding=stage.window // 2)
            for stage in self.stages
        ]
        self.classifier = layers.Dense(self.num_classes)

    def feature_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """See `Network`."""
        height, width, channels = image_shape
        padding = 4 if channels == 1 else 0
        shrink = 2 ** sum(stage.pooled for stage in self.stages)
        return (height + padding) // shrink, (width + padding) // shrink, self.stages[-1].features

    def trace(self, images: jax.Array, train: bool) -> tuple[list[jax.Array], jax.Array]:
        """See `Network`."""
        x = pad_by_two(images) if images.shape[-1] == 1 else images
        maps = []
        for stage, block in zip(self.stages, self.block, strict=True):
            x = jax.nn.relu(block(x, train))
            maps.append(x)
            x = ops.max_pool(x, 2, 2) if stage.pooled else x
        return maps, x


class AlexNet(PlainNetwork):
    """Five convolutions; `norm` is "none" or "batch"."""

    stages = (
        Stage(128, 5, True),
        Stage(192, 5, True),
        Stage(256, 3, False),
        Stage(192, 3, False),
        Stage(192, 3, True),
    )


class VGG11(PlainNetwork):
    """Eight convolutions; `norm` is "instance" or "batch"."""

    stages = (
        Stage(64, 3, True),
        Stage(128, 3, True),
        Stage(256, 3, False),
        Stage(256, 3, True),
        Stage(512, 3, False),
        Stage(512, 3, True),
        Stage(512, 3, False),
        Stage(512, 3, True),
    )
