"""What the methods share that match real and synthetic images class by class: DC, DSA, DM, DataDAM.

A set's images lie class by class here, as many of each class as of every other.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jdd.augment import augment
from jdd.data import DeviceData
from jdd.errors import UserError
from jdd.methods.base import MethodState
from jdd.networks import NetworkLike
from jdd.sharding import Batch, models_per_device, sharded_map
from jdd.synthetic import SyntheticSet


def optimizer(lr_img: float, mom_img: float) -> optax.GradientTransformation:
    """SGD on the images, its momentum as PyTorch has it."""
    return optax.sgd(lr_img, momentum=mom_img or None)


def class_by_class(synthetic: SyntheticSet, classes: int) -> SyntheticSet:
    """The set in the order of its classes, as many of each; `jdd.distill` has counted them.

    Raises:
      UserError: the images are no multiple of the classes.
    """
    count = synthetic.labels.shape[0]
    if count % classes:
        raise UserError(f"{count} images are not the same number for each of {classes} classes")
    return synthetic.by_class()


def start(
    key: jax.Array,
    synthetic: SyntheticSet,
    data: DeviceData,
    images_optimizer: optax.GradientTransformation,
) -> tuple[SyntheticSet, MethodState]:
    """The set class by class, with hard labels and without a step size of its own.

    A set that another method made may carry soft labels and a learned step size. None of the
    methods here learns either, so neither would fit the images for long.

    Raises:
      UserError: the images are no multiple of the classes.
    """
    synthetic = class_by_class(synthetic, data.num_classes)
    count = synthetic.labels.shape[0]
    if synthetic.labels.ndim == 2:  # they may have moved to another class; an image's place tells
        classes = jnp.arange(data.num_classes, dtype=jnp.int32)
        synthetic = synthetic.replace(labels=jnp.repeat(classes, count // data.num_classes))
    moments = images_optimizer.init(synthetic.storage)
    state = MethodState(jax.random.key_data(key), jnp.int32(0), moments)
    return synthetic.replace(learning_rate=None), state


def by_class(images: jax.Array, classes: int) -> jax.Array:
    """`(classes · n, …)` → `(classes, n, …)`."""
    return images.reshape(classes, -1, *images.shape[1:])


_PIXELS = 3 * 2**19  # of all images at once on an accelerator: 0.75 GiB a map of 128 channels


def over_classes(
    function: Callable[..., Any],
    shared: Any,
    *arguments: Any,
    batch: Batch | None = None,
    pixels: int = 0,
) -> Any:
    """Maps over the classes, the leading axis of the arguments: one by one on a CPU, else a few.

    One class's real images fill a CPU; more at once would only take more memory. So would more than
    1,500 images of 32×32 on an accelerator. Several devices share the classes.

    Args:
      function: `(shared, *entries of one class)`; all arrays that it depends on are among these.
      shared: pytree of arrays.
      arguments: pytrees of arrays with a leading axis of classes.
      batch: as for `jdd.sharding.sharded_map`.
      pixels: of the images of a class that go through a network at once.
    """

    def on_one_device(shared: Any, *arguments: Any) -> Any:
        classes = jax.tree.leaves(arguments)[0].shape[0]
        most = min(models_per_device(classes), max(1, _PIXELS // max(1, pixels)))
        # Equal batches: a smaller last one would be compiled too.
        together = next(n for n in range(most, 0, -1) if classes % n == 0)
        size = None if together == 1 else together
        return jax.lax.map(lambda packed: function(shared, *packed), arguments, batch_size=size)

    return sharded_map(on_one_device, shared, *arguments, batch=batch)


def siamese(key: jax.Array, images: jax.Array, strategy: str) -> jax.Array:
    """One transform for all the images; the same key gives real and synthetic ones the same."""
    return images if strategy == "none" else augment(key, images, strategy, siamese=True)


def fresh_network(network: NetworkLike, key: jax.Array, images: jax.Array) -> dict[str, Any]:
    """Variables of a random network for images of this shape."""
    return dict(network.init(key, jnp.zeros((1, *images.shape[1:]), jnp.float32)))
