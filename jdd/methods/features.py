"""Matching what fresh random networks make of real and synthetic images: DM and DataDAM."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jdd import ops
from jdd.augment import strategy_for
from jdd.data import DeviceData
from jdd.experts import Segment
from jdd.methods import matching
from jdd.methods.base import (
    Method,
    MethodSettings,
    MethodState,
    Metrics,
    decoded,
    move_storage,
)
from jdd.networks import NetworkLike
from jdd.ops import WHOLE, Part
from jdd.settings import setting
from jdd.sharding import Batch, batch_part
from jdd.synthetic import SyntheticSet

Describe = Callable[[dict[str, Any], jax.Array, bool], Any]
"""`(variables, images (n, h, w, c), train)` → a pytree of arrays with a leading axis of images"""
Distance = Callable[[Any, Any], jax.Array]
"""`(synthetic description, real description)` of one class → scalar; of the real one it takes the
mean over images alone"""


@dataclass(frozen=True)
class FeatureSettings(MethodSettings):
    """Settings of methods that match features of fresh random networks."""

    iterations: int = setting(20000, "updates, each with a fresh random network", min=1)
    batch_real: int = setting(256, "real images a class and update", min=1)
    lr_img: float = setting(
        1.0, "rate at which images are updated, pixels per unit of gradient", above=0
    )
    mom_img: float = setting(0.5, "momentum of the images' updates", min=0, below=1)
    dsa: bool = setting(True, "DSA, the same on real and synthetic images")


def feature_matching(
    settings: FeatureSettings, network: NetworkLike, describe: Describe, distance: Distance
) -> Method:
    """Images are moved by the gradient of Σ_c distance(synthetic_c, real_c) at a fresh network.

    Nothing but a pass over the real images and the gradient of the synthetic ones is computed.
    Class by class, but for a network with batch norm: as in the released code, all classes of the
    synthetic images then go through it as one batch, and all of the real ones as another, so that
    its statistics, which are the batch's, do not tell what a class has of its own.
    """
    optimizer = matching.optimizer(settings.lr_img, settings.mom_img)

    def init(
        key: jax.Array, synthetic: SyntheticSet, data: DeviceData
    ) -> tuple[SyntheticSet, MethodState]:
        return matching.start(key, synthetic, data, optimizer)

    def update(
        synthetic: SyntheticSet,
        state: MethodState,
        data: DeviceData,
        segment: Segment | None = None,
    ) -> tuple[SyntheticSet, MethodState, Metrics]:
        del segment
        strategy = strategy_for(synthetic.info.dataset) if settings.dsa else "none"
        images, to_storage = decoded(synthetic)
        network_key, key = jax.random.split(state.iteration_key())
        variables = matching.fresh_network(network, network_key, images)
        one_batch = "batch_stats" in variables
        gradient_of = _in_one_batch if one_batch else _class_by_class
        count = min(settings.batch_real, data.largest_class)

        def real(data: DeviceData, label: jax.Array, key: jax.Array, part: Part) -> jax.Array:
            real_key, transform = jax.random.split(key)
            positions = data.sample_positions(real_key, label, count)
            images, _ = data.batch(part.take(positions))
            return matching.siamese(transform, images, strategy)

        def augmented(images: jax.Array, key: jax.Array) -> jax.Array:
            return matching.siamese(jax.random.split(key)[1], images, strategy)

        batch = (count, math.prod(images.shape[1:3]))
        parts = _Parts(lambda v, x: describe(v, x, one_batch), distance, real, augmented, batch)
        loss, gradient = gradient_of(
            parts,
            variables,
            data,
            matching.by_class(images, data.num_classes),
            jax.random.split(key, data.num_classes),
        )
        gradient = to_storage(gradient.reshape(images.shape))
        return move_storage(synthetic, state, gradient, optimizer, {"loss": loss})

    return Method(init, update, settings.needs)


def looked_through(
    network: NetworkLike, variables: Any, images: jax.Array, train: bool, method: str
) -> Any:
    """What a network's `method` gives, "embed" or "trace"; statistics that batch norm would move
    are left where they are."""
    if train and "batch_stats" in variables:
        given, _ = network.apply(variables, images, train, method=method, mutable=["batch_stats"])
        return given
    return network.apply(variables, images, train, method=method)


class _Parts(NamedTuple):
    """What the loss is made of; none of these closes over arrays."""

    describe: Callable[[Any, jax.Array], Any]  # of the network's variables and images
    distance: Distance
    real: Callable[[DeviceData, jax.Array, jax.Array, Part], jax.Array]  # of a class's label, key
    augmented: Callable[[jax.Array, jax.Array], jax.Array]  # of images and their class's key
    batch: Batch  # real images of a class


def _class_by_class(
    parts: _Parts, variables: Any, data: DeviceData, images: jax.Array, keys: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def of_class(
        shared: tuple[Any, DeviceData], class_images: jax.Array, label: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        variables, data = shared
        part = batch_part(parts.batch)
        real = parts.real(data, label, key, part)
        theirs = ops.microbatched_map(parts.describe, variables, real)
        if part != WHOLE:
            theirs = part.mean(jax.tree.map(lambda f: jnp.mean(f, 0, keepdims=True), theirs))

        def loss(class_images: jax.Array) -> jax.Array:
            return parts.distance(
                parts.describe(variables, parts.augmented(class_images, key)), theirs
            )

        return jax.value_and_grad(loss)(class_images)

    labels = jnp.arange(images.shape[0], dtype=jnp.int32)
    losses, gradient = matching.over_classes(
        of_class,
        (variables, data),
        images,
        labels,
        keys,
        batch=parts.batch,
        pixels=math.prod(parts.batch),
    )
    return jnp.sum(losses), gradient


def _in_one_batch(
    parts: _Parts, variables: Any, data: DeviceData, images: jax.Array, keys: jax.Array
) -> tuple[jax.Array, jax.Array]:
    classes = images.shape[0]
    labels = jnp.arange(classes, dtype=jnp.int32)

    def described(batches: jax.Array) -> Any:
        features = parts.describe(variables, batches.reshape(-1, *batches.shape[2:]))
        return jax.tree.map(lambda f: matching.by_class(f, classes), features)

    def real(data: DeviceData, label: jax.Array, key: jax.Array) -> jax.Array:
        return parts.real(data, label, key, WHOLE)

    theirs = described(matching.over_classes(real, data, labels, keys))

    def loss(images: jax.Array) -> jax.Array:
        ours = described(jax.lax.map(lambda of: parts.augmented(*of), (images, keys)))
        return jnp.sum(jax.vmap(parts.distance)(ours, theirs))

    return jax.value_and_grad(loss)(images)
