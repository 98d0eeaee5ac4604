"""One seed, split by name, so that a further use of randomness does not shift the others."""

import zlib

import jax
import numpy as np


def key(seed: int, name: str) -> jax.Array:
    """The JAX key of one use of randomness."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(name.encode()))


def generator(seed: int, name: str) -> np.random.Generator:
    """The NumPy generator of one use of randomness."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])
