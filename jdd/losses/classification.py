"""Cross-entropy against classes and against label logits."""

import functools

import jax
import jax.numpy as jnp

from jdd.ops.target import platform

_FEW = 16  # classes that are summed over one by one


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy against class numbers: −(1/n) Σᵢ log softmax(logitsᵢ)[labelsᵢ].

    A label outside 0 … classes − 1 adds nothing to the sum instead of raising: check labels before.

    Args:
      logits: `(n, classes)`.
      labels: `(n,)` integers. For soft labels take `soft_cross_entropy`.

    Returns:
      A float32 scalar, the mean over the batch.

    Raises:
      ValueError: labels are not integers, or not one for each row of logits.
    """
    if labels.shape != logits.shape[:-1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"cross_entropy takes integer labels of shape {logits.shape[:-1]}, not "
            f"{labels.dtype} of shape {labels.shape}; label logits go to soft_cross_entropy"
        )
    log_probabilities = _log_softmax(logits.astype(jnp.float32))
    # A comparison instead of a gather: its derivative is elementwise too, and fuses.
    is_label = labels[..., None] == jnp.arange(logits.shape[-1])
    return -jnp.mean(jnp.sum(jnp.where(is_label, log_probabilities, 0.0), axis=-1))


def soft_cross_entropy(logits: jax.Array, label_logits: jax.Array) -> jax.Array:
    """Mean cross-entropy against the softmax of label logits:

        −(1/n) Σᵢ Σₖ softmax(label_logitsᵢ)ₖ · log softmax(logitsᵢ)ₖ

    Both arguments are logits: probabilities passed as `label_logits` would be softened once more.

    Args:
      logits: `(n, classes)`.
      label_logits: `(n, classes)`, learnable as in DATM.

    Returns:
      A float32 scalar, the mean over the batch. Its least value is the labels' entropy, not 0.

    References:
      Guo et al., "Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching"
      (2024).
    """
    if logits.shape != label_logits.shape:
        raise ValueError(
            f"logits {logits.shape} and label_logits {label_logits.shape} differ in shape"
        )
    log_probabilities = _log_softmax(logits.astype(jnp.float32))
    labels = jax.nn.softmax(label_logits.astype(jnp.float32))
    return -jnp.mean(jnp.sum(labels * log_probabilities, axis=-1))


def _log_softmax(logits: jax.Array) -> jax.Array:
    """Over the last axis; few classes one by one on a GPU, where a sum over an axis is a kernel."""
    if platform() != "gpu" or logits.shape[-1] > _FEW:
        return jax.nn.log_softmax(logits)
    columns = jnp.split(logits, logits.shape[-1], axis=-1)
    top = jax.lax.stop_gradient(functools.reduce(jnp.maximum, columns))
    total = sum((jnp.exp(column - top) for column in columns[1:]), jnp.exp(columns[0] - top))
    return logits - top - jnp.log(total)
