"""Matching gradients class by class at one network: DC, DSA and IDC."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jdd import ops
from jdd.data import DeviceData
from jdd.losses import cross_entropy
from jdd.methods import matching
from jdd.networks import NetworkLike
from jdd.networks.layers import BATCH_MOMENTUM
from jdd.training import FitState, apply_training

STATISTICS_IMAGES = 16  # real images a class that batch norm's statistics are set from


class Pair(NamedTuple):
    """What is compared, and how; none of these closes over arrays."""

    batch_real: int
    """real images a class"""
    transform: Callable[[jax.Array, jax.Array], jax.Array]
    """`(key, images)` → images; with the same key, the same for real and synthetic ones"""
    distance: Callable[[Any, Any], jax.Array]
    """`(synthetic gradients, real gradients)` → scalar"""


def image_gradient(
    pair: Pair,
    network: NetworkLike,
    fit: FitState,
    images: jax.Array,
    data: DeviceData,
    key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """The matching loss at one network, summed over classes, and its gradient to the images.

    A class's loss depends on its own images alone, so loss and gradient are made class by class.
    With g = ∇_θ ℓ(S, θ), the gradient of D(g) to the images is ∂_S ⟨∇_θ ℓ, v⟩ where v = ∂D/∂g:
    the derivative along v of θ ↦ ∇_S ℓ(S, θ). So no gradient to the weights is differentiated
    again, which is where reverse mode over reverse mode would spend most of its time.

    Args:
      pair: what is compared.
      network: the module.
      fit: its weights, and batch norm's statistics as `held_statistics` gives them.
      images: `(n, h, w, c)`, class by class.
      data: real images.
      key: of this update.

    Returns:
      The loss, a scalar, and the gradient `(n, h, w, c)`.
    """
    classes = data.num_classes

    def of_class(
        shared: Any, class_images: jax.Array, label: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        params, held, data = shared
        real_key, transform = jax.random.split(key)

        def of_batch(params: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
            logits: Any = network.apply({"params": params, **held}, batch[0])
            return cross_entropy(logits, batch[1])

        def loss(params: Any, images: jax.Array) -> jax.Array:
            images = pair.transform(transform, images)
            batch = (images, jnp.full(images.shape[0], label))
            return ops.microbatched_mean(of_batch, params, batch)

        real = data.sample_class(real_key, label, pair.batch_real)
        theirs = jax.grad(loss)(params, real)
        ours = jax.grad(loss)(params, class_images)
        distance, direction = jax.value_and_grad(pair.distance)(ours, theirs)
        _, gradient = jax.jvp(lambda p: jax.grad(loss, 1)(p, class_images), (params,), (direction,))
        return distance, gradient

    losses, gradients = matching.over_classes(
        of_class,
        (fit.params, {"batch_stats": fit.batch_stats} if fit.batch_stats else {}, data),
        matching.by_class(images, classes),
        jnp.arange(classes, dtype=jnp.int32),
        jax.random.split(key, classes),
        pixels=pair.batch_real * images.shape[1] * images.shape[2],
    )
    return jnp.sum(losses), gradients.reshape(images.shape)


def held_statistics(
    network: NetworkLike, fit: FitState, data: DeviceData, key: jax.Array, fraction: float = 1.0
) -> Any:
    """Batch norm's statistics, at which both gradients of an update are then taken.

    They come from 16 real images of every class, as a few synthetic ones would give none that are
    worth having. With a `fraction` of 1 they are those images' own; else that much of the way from
    the network's to those. DC's released code makes one pass in training mode, a tenth of it.

    Returns:
      The network's `batch_stats`; empty where it has no batch norm.
    """
    if not fit.batch_stats:
        return fit.batch_stats
    classes = jnp.arange(data.num_classes, dtype=jnp.int32)
    real = matching.over_classes(
        lambda data, label, k: data.sample_class(k, label, STATISTICS_IMAGES),
        data,
        classes,
        jax.random.split(key, data.num_classes),
    )
    real = real.reshape(-1, *real.shape[2:])
    _, moved = apply_training(network, fit.params, fit.batch_stats, real)
    share = fraction / BATCH_MOMENTUM
    return jax.tree.map(lambda old, new: old + share * (new - old), fit.batch_stats, moved)
