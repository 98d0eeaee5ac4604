"""What every network here can do: logits, features, feature maps, and saying which images fit."""

from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from jdd import ops
from jdd.errors import UserError


class NetworkLike(Protocol):
    """What training and methods ask of a network: a Flax module, or functions in its place.

    An instance is hashable: a static argument of jitted functions. See `from_functions`.
    """

    def init(self, key: jax.Array, images: jax.Array) -> Any:
        """Fresh variables: `{"params": …}`, with `"batch_stats"` where there is batch norm."""

    def apply(self, variables: Any, images: jax.Array, *args: Any, **options: Any) -> Any:
        """Logits `(n, classes)`; `train`, `mutable` and `method` as a Flax module has them."""


_LARGEST_SIZE = 4096  # where the search for a fitting size ends


class Network(nn.Module):
    """A classifier of images `(n, h, w, c)`, float32, in the set's preprocessed space.

    A subclass gives `trace` and `feature_shape`, and makes its layers in `setup` as a list
    `self.block` and `self.classifier`. So parameters are named `block_0`, `block_1`, …,
    `classifier`, and inside a block `conv` before `norm`: sorting the names, numbers as numbers,
    gives the order of depth, which `jdd.losses.drop_shallow_layers` relies on.
    """

    num_classes: int

    def trace(self, images: jax.Array, train: bool) -> tuple[list[jax.Array], jax.Array]:
        """The post-activation maps in order, and the last feature map (after its pooling)."""
        raise NotImplementedError

    def features(self, images: jax.Array, train: bool) -> jax.Array:
        """The last feature map (after its pooling), where the others are not wanted."""
        return self.trace(images, train)[1]

    def feature_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """`(h, w, c)` of an image → of the features that the first linear layer sees.

        Where the image is too small, height or width come out below 1.
        """
        raise NotImplementedError

    def fits(self, image_shape: tuple[int, int, int]) -> bool:
        """Whether images `(h, w, c)` are large enough for this network."""
        return min(self.feature_shape(image_shape)[:2]) >= 1

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Images `(n, h, w, c)` → logits `(n, num_classes)`.

        With `train=True` batch norm uses the batch's statistics, and updates the running ones if
        called with `mutable=["batch_stats"]`; otherwise it uses the running ones.

        Raises:
          UserError: the images are too small for the network; it names the smallest size that fits.
        """
        logits: jax.Array = self.classifier(self.embed(images, train))
        return logits

    def embed(self, images: jax.Array, train: bool = False) -> jax.Array:
        """Images `(n, h, w, c)` → the flattened features before the classifier, `(n, d)`."""
        self._check_size(images)
        return flatten(self.features(images, train))

    def feature_maps(self, images: jax.Array, train: bool = False) -> list[jax.Array]:
        """Images `(n, h, w, c)` → the maps behind every activation, in order, each NHWC."""
        self._check_size(images)
        return self.trace(images, train)[0]

    def _check_size(self, images: jax.Array) -> None:
        height, width, channels = images.shape[1:]
        if self.fits((height, width, channels)):
            return
        sizes = range(1, _LARGEST_SIZE + 1)
        smallest = next((size for size in sizes if self.fits((size, size, channels))), None)
        size = f"{smallest}×{smallest}" if smallest else f"above {_LARGEST_SIZE}×{_LARGEST_SIZE}"
        depth = getattr(self, "depth", None)
        of_depth = "" if depth is None else f" of `depth` {depth}"
        raise UserError(
            f"{type(self).__name__}{of_depth} does not fit {height}×{width} images: "
            f"the smallest that do are {size}"
        )


def flatten(x: jax.Array) -> jax.Array:
    """`(n, …)` → `(n, d)`: height, width, channel, the last running fastest."""
    return x.reshape(x.shape[0], -1)


def pad_by_two(images: jax.Array) -> jax.Array:
    """Two more rows and columns of zeros on every side: 28×28 becomes 32×32.

    The published networks ask their first convolution for that much more padding on grey images;
    padding beforehand is the same sum.
    """
    # The first convolution and its kernel gradient read it.
    return ops.written(jnp.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0))))
