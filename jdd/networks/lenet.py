"""LeNet-5, with ReLU and max pooling, as in the published condensation code."""

import jax

from jdd import ops
from jdd.networks import layers
from jdd.networks.base import Network, flatten, pad_by_two


class LeNet(Network):
    """Two 5×5 convolutions (6 and 16 channels), each pooled, then 120 → 84 → classes."""

    def setup(self) -> None:
        """Makes the layers."""
        self.block = [
            layers.ConvBlock(6, "none", window=5, padding=0),
            layers.ConvBlock(16, "none", window=5, padding=0),
            layers.DenseBlock(120),
            layers.DenseBlock(84),
        ]
        self.classifier = layers.Dense(self.num_classes)

    def feature_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """What the first dense layer sees; see `Network`."""
        height, width, channels = image_shape
        padding = 4 if channels == 1 else 0

        def shrink(side: int) -> int:
            return ((side + padding - 4) // 2 - 4) // 2

        return shrink(height), shrink(width), 16

    def trace(self, images: jax.Array, train: bool) -> tuple[list[jax.Array], jax.Array]:
        """See `Network`; the dense layers' activations are no maps, and left out of them."""
        x = pad_by_two(images) if images.shape[-1] == 1 else images
        maps = []
        for block in self.block[:2]:
            x = jax.nn.relu(block(x, train))
            maps.append(x)
            x = ops.max_pool(x, 2, 2)
        x = flatten(x)
        for block in self.block[2:]:
            x = block(x)
        return maps, x
