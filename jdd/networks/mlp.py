"""A multilayer perceptron of two hidden layers."""

import jax

from jdd.networks import layers
from jdd.networks.base import Network, flatten


class MLP(Network):
    """Pixels → 128 → 128 → classes, with ReLU between, as in the published condensation code."""

    width: int = 128

    def __post_init__(self) -> None:
        layers.check_count("width", self.width)
        super().__post_init__()

    def setup(self) -> None:
        """Makes the layers."""
        self.block = [layers.DenseBlock(self.width) for _ in range(2)]
        self.classifier = layers.Dense(self.num_classes)

    def feature_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The first dense layer sees the image itself; see `Network`."""
        return image_shape

    def trace(self, images: jax.Array, train: bool) -> tuple[list[jax.Array], jax.Array]:
        """See `Network`; a hidden layer's map is `(n, 1, 1, width)`."""
        x = flatten(images)
        maps = []
        for block in self.block:
            x = block(x)
            maps.append(x[:, None, None, :])
        return maps, x
