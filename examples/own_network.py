"""A network of one's own as two functions: any library's, here none."""

import functools

import jax
import jax.numpy as jnp

from jdd import networks


@functools.cache  # one object for the same arguments, so that programs are compiled once
def two_layers(num_classes, hidden):
    """`hidden` is a flag of distill.py, as it is named where the network is registered."""
    normal = jax.nn.initializers.he_normal()

    def init(key, images):  # the parameters: any pytree of float arrays
        first, second = jax.random.split(key)
        weights = normal(first, (images[0].size, hidden)), normal(second, (hidden, num_classes))
        return [(w, jnp.zeros(w.shape[1])) for w in weights]

    def embed(params, images):  # features before the classifier: what DM and coresets look at
        weight, bias = params[0]
        return jax.nn.relu(images.reshape(len(images), -1) @ weight + bias)

    def apply(params, images):  # the logits
        weight, bias = params[1]
        return embed(params, images) @ weight + bias

    return networks.from_functions(init, apply, embed=embed)


networks.register("TwoLayers", two_layers, hidden=64)
