"""What a network is trained by: the cross-entropy of a batch in training mode, augmented or not."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jdd.augment import Mixed, augment, augment_each, augment_stacked
from jdd.losses import cross_entropy, soft_cross_entropy
from jdd.networks import NetworkLike
from jdd.ops import WHOLE, Part, microbatched_mean

_EACH = "each_"
STACKED = "stacked_"  # before DSA's kinds: on top of each other, as IDC has them
EACH = _EACH + "crop_scale_rotate"  # the augmentation that DC is evaluated with on MNIST


Labels = jax.Array | Mixed


def classification_loss(logits: jax.Array, labels: Labels) -> jax.Array:
    """Mean cross-entropy against int `(n,)` classes or float `(n, classes)` label logits; against
    both kinds that CutMix has mixed, by their areas."""
    if isinstance(labels, Mixed):
        fraction = labels.fraction[0]
        around = classification_loss(logits, labels.labels)
        return fraction * around + (1 - fraction) * classification_loss(logits, labels.others)
    if jnp.issubdtype(labels.dtype, jnp.integer):
        return cross_entropy(logits, labels)
    return soft_cross_entropy(logits, labels)


def apply_training(
    network: NetworkLike, params: Any, batch_stats: Any, images: jax.Array
) -> tuple[jax.Array, Any]:
    """Logits in training mode, and the batch statistics that this updates (empty without any)."""
    variables = {"params": params, **({"batch_stats": batch_stats} if batch_stats else {})}
    logits, updated = network.apply(variables, images, train=True, mutable=["batch_stats"])
    return logits, updated.get("batch_stats", {})


def examples_meet(network: NetworkLike, params: Any, images: jax.Array) -> bool:
    """Whether what one image gives in training mode depends on the others: by batch norm."""
    of_batch = jax.eval_shape(lambda p, x: apply_training(network, p, {}, x)[1], params, images)
    return bool(of_batch)


def divides(name: str) -> bool:
    """Whether `augmented` can be given part of a batch."""
    return not name.startswith(_EACH)


def augmented(key: jax.Array, images: jax.Array, name: str, part: Part = WHOLE) -> jax.Array:
    """Images `(n, h, w, c)` augmented as a recipe says: each with its own parameters.

    Args:
      key: a key for this call alone.
      images: float.
      name: a strategy of `jdd.augment.augment`; the same after "stacked_" for `augment_stacked`; or
        one of `augment_each` after "each_"; or "none".
      part: which images of a batch these are, where it is divided among devices; only where
        `divides(name)`.

    Raises:
      UserError: a kind that is not known; it names the nearest.
    """
    if name.startswith(_EACH):
        return augment_each(key, images, name.removeprefix(_EACH))
    if name.startswith(STACKED):
        return augment_stacked(key, images, name.removeprefix(STACKED), part=part)
    return augment(key, images, name, part=part)


def batch_loss(
    network: NetworkLike,
    params: Any,
    batch_stats: Any,
    images: jax.Array,
    labels: Labels,
    criterion: Callable[[jax.Array, Any], jax.Array] = classification_loss,
) -> tuple[jax.Array, Any]:
    """Mean loss of a batch in training mode, and the batch statistics that it updates.

    Without batch norm the examples do not meet, and a CPU takes them in parts that fit its cache.
    `criterion`, of logits and labels, is to be a mean over examples.
    """

    def loss(params: Any, batch: tuple[jax.Array, Labels]) -> tuple[jax.Array, Any]:
        logits, stats = apply_training(network, params, batch_stats, batch[0])
        return criterion(logits, batch[1]), stats

    batch = (images, labels)
    if jax.eval_shape(loss, params, batch)[1]:
        return loss(params, batch)
    return microbatched_mean(lambda p, part: loss(p, part)[0], params, batch), {}
