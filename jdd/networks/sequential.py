"""A small image classifier in the form of the usual beginner's example: convolutions, then dense
layers. Known to the architecture search alone.
"""

import jax

from jdd.networks import layers
from jdd.networks.base import Network, flatten


class Sequential(Network):
    """3×3 convolution → ReLU → 2×2 max pooling for each of `channels`; then a ReLU layer for each
    of `dense`.
    """

    channels: tuple[int, ...] = (32,)
    dense: tuple[int, ...] = (128,)

    def setup(self) -> None:
        """Makes the layers."""
        convolutions = [layers.ConvBlock(features, "none") for features in self.channels]
        self.block = [*convolutions, *(layers.DenseBlock(features) for features in self.dense)]
        self.classifier = layers.Dense(self.num_classes)

    def feature_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """What the first dense layer sees; see `Network`."""
        shrink = 2 ** len(self.channels)
        return image_shape[0] // shrink, image_shape[1] // shrink, self.channels[-1]

    def trace(self, images: jax.Array, train: bool) -> tuple[list[jax.Array], jax.Array]:
        """See `Network`; the dense layers' activations are no maps, and left out of them."""
        x, maps = images, []
        for block in self.block[: len(self.channels)]:
            x = jax.nn.relu(block(x, train))
            maps.append(x)
            x = layers.POOLINGS["max"](x)
        x = flatten(x)
        for block in self.block[len(self.channels) :]:
            x = block(x)
        return maps, x
