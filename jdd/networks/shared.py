"""ConvNets that differ in norm, activation or kind of pooling, in one compiled program.

Their parameters have shapes of their own only where width, depth or the number of poolings differ;
the rest is arithmetic that a number chooses when the program runs.
"""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jdd.networks import layers
from jdd.networks.base import flatten
from jdd.networks.convnet import ConvNet, padded

_SLOPES = {"relu": 0.0, "leaky_relu": 0.01, "sigmoid": 0.0}
ACTIVATIONS = tuple(_SLOPES)


class Choice(NamedTuple):
    """What a `SharedConvNet` is told at run time; scalars, traced."""

    norm: jax.Array  # () int32, position in layers.NORMS
    sigmoid: jax.Array  # () bool: sigmoid, else ReLU with this slope below zero
    slope: jax.Array  # () float32
    maximum: jax.Array  # () bool: max pooling, else average; of no effect without pooling

    @classmethod
    def of(cls, network: ConvNet) -> "Choice":
        """What makes a `SharedConvNet` compute `network`, of one of `ACTIVATIONS`."""
        return cls(
            jnp.int32(layers.NORMS.index(network.norm)),
            jnp.bool_(network.activation == "sigmoid"),
            jnp.float32(_SLOPES[network.activation]),
            jnp.bool_(network.pooling == "max"),
        )


class SharedConvNet(nn.Module):
    """All `ConvNet`s of one width and depth, with poolings or without, as one module.

    Its parameters are the ConvNet's, but that every block has a norm's, in the shape that layer
    norm wants: `(h, w, c)`. A norm with one scale and bias a channel takes those at (0, 0), and
    training moves no other but by weight decay, which nothing sees. So it trains exactly as the
    ConvNet does.
    """

    num_classes: int
    width: int
    depth: int
    pooled: bool

    @nn.compact
    def __call__(self, images: jax.Array, choice: Choice, train: bool = False) -> jax.Array:
        """Images `(n, h, w, c)` → logits `(n, num_classes)`; `train` as in `Network`."""
        x = padded(images)
        for i in range(self.depth):
            x = _Block(self.width, name=f"block_{i}")(x, choice, train)
            rectified = jnp.where(x > 0, x, choice.slope * x)
            x = jnp.where(choice.sigmoid, jax.nn.sigmoid(x), rectified)
            if self.pooled:
                x = _pool(x, choice.maximum)
        return layers.Dense(self.num_classes, name="classifier")(flatten(x))


def _pool(x: jax.Array, maximum: jax.Array) -> jax.Array:
    """2×2 pooling as a weighted sum; equal largest entries share the weight, and the gradient."""
    n, h, w, c = x.shape
    windows = x[:, : h // 2 * 2, : w // 2 * 2].reshape(n, h // 2, 2, w // 2, 2, c)
    largest = windows == jnp.max(windows, (2, 4), keepdims=True)
    weights = jnp.where(maximum, largest / jnp.sum(largest, (2, 4), keepdims=True), 0.25)
    return jnp.sum(jax.lax.stop_gradient(weights) * windows, (2, 4))


class _Block(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x: jax.Array, choice: Choice, train: bool) -> jax.Array:
        return _Norm(name="norm")(layers.Conv(self.features, name="conv")(x), choice, train)


class _Norm(nn.Module):
    """(x − mean) / deviation · scale + bias; the norms differ in what the mean is taken over."""

    @nn.compact
    def __call__(self, x: jax.Array, choice: Choice, train: bool) -> jax.Array:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, x.shape[1:])
        bias = self.param("bias", nn.initializers.zeros, x.shape[1:])
        mean_state = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        var_state = self.variable("batch_stats", "var", jnp.ones, (channels,))
        batch, layer, group, none = (
            choice.norm == layers.NORMS.index(kind) for kind in ("batch", "layer", "group", "none")
        )

        # Channels in one group have their moments averaged: a product with this (c, c) matrix.
        size = jnp.where(group, channels // layers.GROUPS, jnp.where(layer, channels, 1))
        member = jnp.arange(channels) // size
        together = (member[:, None] == member) / size

        def moments(values: jax.Array) -> jax.Array:
            of_channels = jnp.mean(values, (1, 2))
            of_batch = jnp.broadcast_to(jnp.mean(of_channels, 0), of_channels.shape)
            of_group = jnp.matmul(of_channels, together, precision="highest")
            return jnp.where(batch, of_batch, of_group)

        mean = moments(x)
        if not train:
            mean = jnp.where(batch, mean_state.value, mean)
        centred = x - mean[:, None, None]
        var = moments(jnp.square(centred))
        if train and not self.is_initializing() and self.is_mutable_collection("batch_stats"):
            count = x.size // channels
            new = (mean[0], var[0] * (count / max(count - 1, 1)))
            for state, value in zip((mean_state, var_state), new, strict=True):
                moved = state.value + layers.BATCH_MOMENTUM * (value - state.value)
                state.value = jnp.where(batch, moved, state.value)
        if not train:
            var = jnp.where(batch, var_state.value, var)
        slope, shift = (jnp.where(layer, v, v[:1, :1]) for v in (scale, bias))
        factor = jax.lax.rsqrt(var + layers.EPSILON)[:, None, None]
        return jnp.where(none, x, centred * factor * slope + shift)
