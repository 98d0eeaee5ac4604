"""ConvNet, the field's usual network: blocks of convolution, norm, activation and pooling.

Gidaris and Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting" (2018); as used by Zhao
et al., "Dataset Condensation with Gradient Matching" (2021) and everyone since.
"""

import jax

from jdd.errors import SettingError
from jdd.networks import layers
from jdd.networks.base import Network, pad_by_two


class ConvNet(Network):
    """`depth` blocks of 3×3 convolution with `width` channels → norm → activation → pooling."""

    width: int = 128
    depth: int = 3
    norm: str = "instance"
    activation: str = "relu"
    pooling: str = "avg"

    def __post_init__(self) -> None:
        layers.check_choice("norm", self.norm, layers.NORMS)
        layers.check_choice("activation", self.activation, layers.ACTIVATIONS)
        layers.check_choice("pooling", self.pooling, layers.POOLINGS)
        layers.check_count("width", self.width)
        layers.check_count("depth", self.depth)
        if self.norm == "group" and self.width % layers.GROUPS:
            raise SettingError(
                "width", self.width, f"group norm needs a multiple of {layers.GROUPS}"
            )
        super().__post_init__()

    def setup(self) -> None:
        """Makes the layers."""
        self.block = [layers.ConvBlock(self.channels(i), self.norm) for i in range(self.depth)]
        self.classifier = layers.Dense(self.num_classes)

    def channels(self, block: int) -> int:
        """How many a block gives."""
        del block
        return self.width

    def feature_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """See `Network`."""
        height, width, _ = image_shape
        if _is_mnist_shape(image_shape):
            height = width = 32
        shrink = 1 if self.pooling == "none" else 2**self.depth
        return height // shrink, width // shrink, self.channels(self.depth - 1)

    def features(self, images: jax.Array, train: bool) -> jax.Array:
        """See `Network`."""
        per_image = self.norm in layers.PER_IMAGE
        if not (per_image and self.activation == "relu" and self.pooling == "avg"):
            return super().features(images, train)
        x = padded(images)
        for block in self.block:
            x = block(x, train, pooled=True)
        return x

    def trace(self, images: jax.Array, train: bool) -> tuple[list[jax.Array], jax.Array]:
        """See `Network`."""
        activation, pool = layers.ACTIVATIONS[self.activation], layers.POOLINGS[self.pooling]
        x = padded(images)
        maps = []
        for block in self.block:
            x = activation(block(x, train))
            maps.append(x)
            x = pool(x)
        return maps, x


class WideConvNet(ConvNet):
    """FRePo's ConvNet: no norm, and twice the channels in each block; `width` are the first's.

    Zhou et al., "Dataset Distillation using Neural Feature Regression" (2022).
    """

    norm: str = "none"

    def channels(self, block: int) -> int:
        """How many a block gives."""
        return self.width << block


def padded(images: jax.Array) -> jax.Array:
    """What the first block sees: images `(n, h, w, c)`, those of 28×28×1 padded to 32×32.

    The published code pads grey images of any size so, which only fits 28×28; there it makes the
    map 32×32, as its layer norm and classifier expect.
    """
    return pad_by_two(images) if _is_mnist_shape(images.shape[1:]) else images


def _is_mnist_shape(image_shape: tuple[int, ...]) -> bool:
    return tuple(image_shape) == (28, 28, 1)
