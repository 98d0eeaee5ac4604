"""A small network, its examples, and its gradient by hand."""

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from jdd import networks
from jdd.data import DeviceData

SIZE, SIDE, CLASSES, HIDDEN = 7, 2, 3, 5
NETWORK = networks.create("MLP", CLASSES, width=HIDDEN)


def examples(seed=0):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((SIZE, SIDE, SIDE, 1)).astype(np.float32)
    return DeviceData(jnp.asarray(images), jnp.asarray(rng.integers(0, CLASSES, SIZE)))


def gradient(weights, x, labels):
    """Mean cross-entropy and its gradient to an MLP's ((W, b), …), by hand, in float64."""
    inputs, hidden = [x], x
    for w, b in weights[:-1]:
        hidden = np.maximum(hidden @ w + b, 0)
        inputs.append(hidden)
    logits = hidden @ weights[-1][0] + weights[-1][1]
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    n = len(labels)
    loss = -np.mean(np.log(p[np.arange(n), labels]))
    back = (p - np.eye(CLASSES)[labels]) / n
    gradients = []
    for (w, _), entering in zip(reversed(weights), reversed(inputs), strict=True):
        gradients.append((entering.T @ back, back.sum(0)))
        back = (back @ w.T) * (entering > 0)
    return loss, gradients[::-1]


def layers(params):
    """An MLP's Flax parameters as ((W, b), …) in float64."""
    flat = flatten_dict(params)
    names = sorted({name[:-1] for name in flat})  # block_0, block_1, classifier
    return [
        tuple(np.asarray(flat[*name, kind], np.float64) for kind in ("kernel", "bias"))
        for name in names
    ]
