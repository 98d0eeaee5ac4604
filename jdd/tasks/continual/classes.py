"""The setting of class-incremental learning: classes in parts, memories of them, what is tested."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdd import randomness
from jdd.data import DeviceData
from jdd.errors import SettingError
from jdd.synthetic import SyntheticSet


class Memory(NamedTuple):
    """Images to remember classes by."""

    images: jax.Array  # (n, h, w, c) float32, preprocessed
    labels: jax.Array  # (n,) int32, or (n, classes) float32 label logits
    classes: np.ndarray  # (n,) int, the class that each image stands for
    learning_rate: jax.Array | None = None  # the step size that a set has learned

    @classmethod
    def of(cls, synthetic: SyntheticSet) -> "Memory":
        """A set as a memory."""
        rate = synthetic.learning_rate
        return cls(synthetic.images, synthetic.labels, synthetic.classes(), rate)

    def seen(self, classes: Sequence[int]) -> DeviceData:
        """The images of these classes, in their order.

        Label logits of all other classes become −∞, so that a soft label is divided among the
        classes seen.
        """
        kept = np.flatnonzero(np.isin(self.classes, classes))
        labels = self.labels[kept]
        if labels.ndim == 2:
            is_seen = np.isin(np.arange(labels.shape[1]), classes)
            labels = jnp.where(is_seen, labels, -jnp.inf)
        return DeviceData(self.images[kept], labels)


def class_orders(order: str, orders: int, num_classes: int, seed: int) -> list[tuple[int, ...]]:
    """The orders in which the classes come; of random ones, more keep the first.

    Raises:
      SettingError: `order` is neither "given", "random" nor every class once, as "2,0,1".
    """
    if order == "given":
        return [tuple(range(num_classes))]
    if order == "random":
        rng = randomness.generator(seed, "class orders")
        return [tuple(rng.permutation(num_classes).tolist()) for _ in range(orders)]
    try:
        classes = tuple(int(word) for word in order.split(","))
    except ValueError:
        problem = "choose given, random, or the classes as 2,0,1"
        raise SettingError("order", order, problem) from None
    if sorted(classes) != list(range(num_classes)):
        problem = f"each of the classes 0 to {num_classes - 1} must appear once"
        raise SettingError("order", order, problem)
    return [classes]


def parts_of(order: Sequence[int], steps: int) -> list[tuple[int, ...]]:
    """An order of classes in `steps` parts, as equal as can be, the larger ones first.

    Raises:
      SettingError: no step, or more than classes.
    """
    if not 1 <= steps <= len(order):
        raise SettingError("steps", steps, f"from 1 to {len(order)}, a class a step")
    return [tuple(part.tolist()) for part in np.array_split(np.asarray(order), steps)]


def seen_after(parts: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """The classes seen after each part, in the order in which they came."""
    return [tuple(c for part in parts[: t + 1] for c in part) for t in range(len(parts))]


def seen_accuracy(logits: np.ndarray, labels: np.ndarray, seen: Sequence[int]) -> float:
    """Fraction of the images of the classes seen that are classified correctly among these.

    Args:
      logits: `(n, classes)`.
      labels: `(n,)` int.
      seen: classes; images of others do not count, and others are never predicted.
    """
    among = np.asarray(sorted(seen))
    tested = np.isin(labels, among)
    predicted = among[np.argmax(logits[tested][:, among], axis=1)]
    return float(np.mean(predicted == labels[tested]))
