"""What a set starts from: real images, or noise."""

import jax
import jax.numpy as jnp
import numpy as np

from jdd.data import Dataset, Split
from jdd.errors import SettingError, UserError


def from_real(
    split: Split, dataset: Dataset, ipc: int, rng: np.random.Generator
) -> tuple[jax.Array, jax.Array]:
    """Draws `ipc` real images of each class, class by class.

    Returns:
      float32 images `(classes · ipc, h, w, c)`, preprocessed, and int32 labels.

    Raises:
      SettingError: `ipc` is below 1 or above what a class holds.
    """
    chosen = []
    for label, name in enumerate(dataset.class_names):
        members = np.flatnonzero(split.labels == label)
        check_ipc(ipc, len(members), name)
        chosen.append(rng.choice(members, ipc, replace=False))
    index = np.concatenate(chosen)
    return dataset.preprocess(jnp.asarray(split.images[index])), jnp.asarray(
        split.labels[index], jnp.int32
    )


def from_noise(dataset: Dataset, ipc: int, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Standard normal noise in the preprocessed space, as the published code starts from it.

    Returns:
      float32 images `(classes · ipc, h, w, c)` and int32 labels, class by class.
    """
    check_ipc(ipc, ipc, "")
    classes = len(dataset.class_names)
    images = jax.random.normal(key, (classes * ipc, *dataset.preprocess.image_shape), jnp.float32)
    return images, jnp.repeat(jnp.arange(classes, dtype=jnp.int32), ipc)


def check_ipc(ipc: int, available: int, class_name: str) -> None:
    """Raises `UserError` where a class cannot give `ipc` images."""
    if ipc < 1:
        raise SettingError("ipc", ipc, "at least 1 image per class is needed")
    if not available:
        raise UserError(f"no training image is of class '{class_name}'; labels count from 0")
    if ipc > available:
        why = f"as class '{class_name}' has so many training images"
        raise SettingError("ipc", ipc, f"at most {available} here, {why}")
