"""A network's logits and accuracy on many examples, batch after batch."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jdd.data import DeviceData
from jdd.networks import NetworkLike
from jdd.ops import microbatched_map
from jdd.sharding import sharded_map

TEST_BATCH = 500


@partial(jax.jit, static_argnums=(0,))
def predict(network: NetworkLike, variables: Any, data: DeviceData) -> jax.Array:
    """Logits `(n, classes)` of every example, in evaluation mode, batch after batch."""
    size = data.images.shape[0]
    batches = -(-size // TEST_BATCH)
    batch = -(-size // batches)  # equal ones, so that the last is not mostly repeats
    index = jnp.arange(batches * batch).clip(max=size - 1).reshape(batches, batch)

    def of_batches(shared: tuple[Any, DeviceData], index: jax.Array) -> jax.Array:
        variables, data = shared
        logits: jax.Array = jax.lax.map(
            lambda i: microbatched_map(network.apply, variables, data.batch(i)[0]), index
        )
        return logits

    logits: jax.Array = sharded_map(of_batches, (variables, data), index)
    return logits.reshape(batches * batch, -1)[:size]


def accuracy(network: NetworkLike, variables: Any, data: DeviceData) -> float:
    """Fraction of the examples (int32 labels) that are classified correctly, in [0, 1]."""
    correct = jnp.argmax(predict(network, variables, data), axis=-1) == data.labels
    return float(jnp.mean(correct))
