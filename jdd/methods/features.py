"""Matching what fresh random networks make of real and synthetic images: DM and DataDAM."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jdd import ops
from jdd.augment import strategy_for
from jdd.data import RealData
from jdd.experts import Segment
from jdd.methods import matching
from jdd.methods.base import Method, Metrics
from jdd.methods.matching import MatchingState
from jdd.synthetic import SyntheticSet

Describe = Callable[[dict[str, Any], jax.Array, bool], Any]
"""`(variables, images (n, h, w, c), train)` → a pytree of arrays with a leading axis of images"""
Distance = Callable[[Any, Any], jax.Array]
"""`(synthetic description, real description)` of one class → scalar"""


class FeatureSettings(Protocol):
    """What the settings of such a method hold."""

    @property
    def batch_real(self) -> int:
        """Real images a class and update."""

    @property
    def lr_img(self) -> float:
        """Rate at which images are updated."""

    @property
    def mom_img(self) -> float:
        """Momentum of the images' updates."""

    @property
    def dsa(self) -> bool:
        """Whether real and synthetic images are augmented alike."""


def feature_matching(
    settings: FeatureSettings, network: nn.Module, describe: Describe, distance: Distance
) -> Method:
    """Images are moved by the gradient of Σ_c distance(synthetic_c, real_c) at a fresh network.

    Nothing but a pass over the real images and the gradient of the synthetic ones is computed.
    Class by class, but for a network with batch norm: as in the released code, all classes of the
    synthetic images then go through it as one batch, and all of the real ones as another, so that
    its statistics, which are the batch's, do not tell what a class has of its own.
    """
    optimizer = matching.optimizer(settings.lr_img, settings.mom_img)

    def init(
        key: jax.Array, synthetic: SyntheticSet, data: RealData
    ) -> tuple[SyntheticSet, MatchingState]:
        return matching.start(key, synthetic, data, optimizer)

    def update(
        synthetic: SyntheticSet,
        state: MatchingState,
        data: RealData,
        segment: Segment | None = None,
    ) -> tuple[SyntheticSet, MatchingState, Metrics]:
        del segment
        strategy = strategy_for(synthetic.info.dataset) if settings.dsa else "none"
        network_key, key = jax.random.split(matching.iteration_key(state))
        variables = matching.fresh_network(network, network_key, synthetic.images)
        whole = "batch_stats" in variables
        gradient_of = _in_one_batch if whole else _class_by_class

        def real(data: RealData, label: jax.Array, key: jax.Array) -> jax.Array:
            real_key, transform = jax.random.split(key)
            images = matching.real_images(real_key, data, label, settings.batch_real)
            return matching.siamese(transform, images, strategy)

        def augmented(images: jax.Array, key: jax.Array) -> jax.Array:
            return matching.siamese(jax.random.split(key)[1], images, strategy)

        parts = _Parts(lambda given, x: describe(given, x, whole), distance, real, augmented)
        loss, gradient = gradient_of(
            parts,
            variables,
            data,
            matching.by_class(synthetic.images, data.num_classes),
            jax.random.split(key, data.num_classes),
        )
        gradient = gradient.reshape(synthetic.images.shape)
        change, momentum = optimizer.update(gradient, state.momentum, synthetic.images)
        images = optax.apply_updates(synthetic.images, change)
        return matching.finish(synthetic, state, images, momentum, loss)

    return Method(init, update, matching.REASONS)


class _Parts(NamedTuple):
    """What the loss is made of; none of these closes over arrays."""

    describe: Callable[[Any, jax.Array], Any]  # of the network's variables and images
    distance: Distance
    real: Callable[[RealData, jax.Array, jax.Array], jax.Array]  # of a class's label and key
    augmented: Callable[[jax.Array, jax.Array], jax.Array]  # of images and their class's key


def _class_by_class(
    parts: _Parts, variables: Any, data: RealData, images: jax.Array, keys: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def of_class(
        shared: tuple[Any, RealData], own: jax.Array, label: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        variables, data = shared
        theirs = ops.map_in_parts(parts.describe, variables, parts.real(data, label, key))

        def loss(own: jax.Array) -> jax.Array:
            return parts.distance(parts.describe(variables, parts.augmented(own, key)), theirs)

        return jax.value_and_grad(loss)(own)

    labels = jnp.arange(images.shape[0], dtype=jnp.int32)
    losses, gradient = matching.over_classes(of_class, (variables, data), images, labels, keys)
    return jnp.sum(losses), gradient


def _in_one_batch(
    parts: _Parts, variables: Any, data: RealData, images: jax.Array, keys: jax.Array
) -> tuple[jax.Array, jax.Array]:
    classes = images.shape[0]
    labels = jnp.arange(classes, dtype=jnp.int32)

    def described(batches: jax.Array) -> Any:
        features = parts.describe(variables, batches.reshape(-1, *batches.shape[2:]))
        return jax.tree.map(lambda f: matching.by_class(f, classes), features)

    theirs = described(matching.over_classes(parts.real, data, labels, keys))

    def loss(images: jax.Array) -> jax.Array:
        ours = described(jax.lax.map(lambda of: parts.augmented(*of), (images, keys)))
        return jnp.sum(jax.vmap(parts.distance)(ours, theirs))

    return jax.value_and_grad(loss)(images)
