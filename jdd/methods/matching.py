"""What the methods share that match real and synthetic images class by class: DC, DSA, DM, DataDAM.

A set's images lie class by class here, as many of each class as of every other.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jdd.augment import augment
from jdd.data import RealData, sample_class
from jdd.errors import UserError
from jdd.methods.base import Metrics
from jdd.sharding import at_once, spread
from jdd.synthetic import SyntheticSet

REASONS = ("the loss or an image is not finite: lower --lr-img",)


class MatchingState(NamedTuple):
    """What these methods go on from."""

    key: jax.Array  # (2,) uint32 key data
    iteration: jax.Array  # () int32
    momentum: Any  # of the images (n, h, w, c)


def optimizer(lr_img: float, mom_img: float) -> optax.GradientTransformation:
    """SGD on the images, its momentum as PyTorch has it."""
    return optax.sgd(lr_img, momentum=mom_img or None)


def start(
    key: jax.Array,
    synthetic: SyntheticSet,
    data: RealData,
    images_optimizer: optax.GradientTransformation,
) -> tuple[SyntheticSet, MatchingState]:
    """The set class by class, with hard labels and without a step size of its own.

    A set that another method made may carry soft labels and a learned step size. None of the
    methods here learns either, so neither would fit the images for long.

    Raises:
      UserError: not the same number of images for each class.
    """
    count = synthetic.images.shape[0]
    if count % data.num_classes:
        raise UserError(
            f"{count} images are not the same number for each of {data.num_classes} classes"
        )
    if synthetic.labels.ndim == 1:
        order = jnp.argsort(synthetic.labels, stable=True)
        images, labels = synthetic.images[order], synthetic.labels[order]
    else:  # label logits may have moved from an image's class to another; its place tells
        images = synthetic.images
        classes = jnp.arange(data.num_classes, dtype=jnp.int32)
        labels = jnp.repeat(classes, count // data.num_classes)
    state = MatchingState(jax.random.key_data(key), jnp.int32(0), images_optimizer.init(images))
    return SyntheticSet(images, labels, None, synthetic.info), state


def iteration_key(state: MatchingState) -> jax.Array:
    """The key of this iteration."""
    return jax.random.fold_in(jax.random.wrap_key_data(state.key), state.iteration)


def finish(
    synthetic: SyntheticSet,
    state: MatchingState,
    images: jax.Array,
    momentum: Any,
    loss: jax.Array,
) -> tuple[SyntheticSet, MatchingState, Metrics]:
    """Ends an iteration: images and momentum stay as they were where something is not finite."""
    finite = jnp.isfinite(loss) & jnp.all(jnp.isfinite(images))
    images, momentum = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old),
        (images, momentum),
        (synthetic.images, state.momentum),
    )
    return (
        SyntheticSet(images, synthetic.labels, None, synthetic.info),
        MatchingState(state.key, state.iteration + 1, momentum),
        {"loss": loss, "dropped": jnp.where(finite, 0, 1)},
    )


def by_class(images: jax.Array, classes: int) -> jax.Array:
    """`(classes · n, …)` → `(classes, n, …)`."""
    return images.reshape(classes, -1, *images.shape[1:])


def over_classes(function: Callable[..., Any], shared: Any, *arguments: Any) -> Any:
    """Maps over the classes, the leading axis of the arguments: one by one on a CPU, else ten.

    One class's real images fill a CPU; more at once would only take more memory. Several devices
    share the classes.

    Args:
      function: `(shared, *entries of one class)`; all arrays that it depends on are among these.
      shared: pytree of arrays.
      arguments: pytrees of arrays with a leading axis of classes.
    """

    def on_one_device(shared: Any, *arguments: Any) -> Any:
        together = at_once(jax.tree.leaves(arguments)[0].shape[0])
        size = None if together == 1 else together
        return jax.lax.map(lambda packed: function(shared, *packed), arguments, batch_size=size)

    return spread(on_one_device, shared, *arguments)


def real_images(key: jax.Array, data: RealData, label: jax.Array, count: int) -> jax.Array:
    """Random real images `(count, h, w, c)` of one class, preprocessed."""
    return data.preprocess(sample_class(key, data, label, count))


def siamese(key: jax.Array, images: jax.Array, strategy: str) -> jax.Array:
    """One transform for all the images; the same key gives real and synthetic ones the same."""
    return images if strategy == "none" else augment(key, images, strategy, siamese=True)


def fresh_network(network: nn.Module, key: jax.Array, images: jax.Array) -> dict[str, Any]:
    """Variables of a random network for images of this shape."""
    return dict(network.init(key, jnp.zeros((1, *images.shape[1:]), jnp.float32)))


def check_range(settings: Any, **least: float) -> None:
    """Raises `UserError` for a setting below its least value, or not finite.

    A least value of 0.0, with the point, is itself too small: rates are above it.
    """
    for name, bound in least.items():
        value, flag = getattr(settings, name), "--" + name.replace("_", "-")
        if isinstance(bound, float):
            if not bound < value < float("inf"):
                raise UserError(f"{flag} {value}: it must be above {bound:g}")
        elif not bound <= value < float("inf"):
            raise UserError(f"{flag} {value}: at least {bound} is needed")
    if not 0 <= settings.mom_img < 1:
        raise UserError(f"--mom-img {settings.mom_img}: from 0 to below 1")
