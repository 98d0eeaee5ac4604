"""Label logits from experts: what DATM's and PAD's soft labels start from."""

from typing import Any

import jax
import numpy as np

from jdd import training
from jdd.data import Dataset, DeviceData, Split
from jdd.experts.store import ExpertStore
from jdd.networks import NetworkLike

_AT_A_TIME = 256  # real images of a class that are looked through for right ones


def label_logits(
    store: ExpertStore,
    network: NetworkLike,
    images: jax.Array,
    classes: np.ndarray,
    experts: int,
) -> np.ndarray:
    """The mean logits of those experts, at their last epoch, that classify an image correctly.

    Guo et al., "Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching"
    (2024), section 3.3.

    Args:
      store: the experts.
      network: their module.
      images: float32 `(n, h, w, c)`, preprocessed.
      classes: int `(n,)`, what is right.
      experts: how many of them to ask.

    Returns:
      float32 `(n, classes)`; NaN for an image that none classifies correctly.
    """
    data = DeviceData(images, jax.numpy.asarray(classes, jax.numpy.int32))
    total = np.zeros((), np.float32)
    count = np.zeros((len(classes), 1), np.float32)
    for expert in range(experts):
        logits = np.asarray(training.predict(network, _variables(store, expert), data))
        right = (logits.argmax(-1) == classes)[:, None]
        total = total + np.where(right, logits, 0.0)
        count += right
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def correctly_classified(
    store: ExpertStore,
    network: NetworkLike,
    split: Split,
    dataset: Dataset,
    ipc: int,
    experts: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Positions of random real images, `ipc` of each class, class by class.

    They are images that the first expert classifies correctly; where a class has too few of them,
    the next experts choose, and at last any image will do.
    """
    chosen: list[int] = []
    for label in range(dataset.num_classes):
        members = rng.permutation(np.flatnonzero(split.labels == label))
        positions: list[int] = []
        for expert in range(experts):
            left = members[~np.isin(members, positions)]
            positions += _correct(
                store, network, split, dataset, left, ipc - len(positions), expert
            )
            if len(positions) == ipc:
                break
        positions += members[~np.isin(members, positions)][: ipc - len(positions)].tolist()
        chosen += positions
    return np.asarray(chosen)


def _correct(
    store: ExpertStore,
    network: NetworkLike,
    split: Split,
    dataset: Dataset,
    members: np.ndarray,
    wanted: int,
    expert: int,
) -> list[int]:
    """Up to `wanted` of these positions whose images the expert classifies correctly."""
    correct: list[int] = []
    variables = _variables(store, expert)
    for first in range(0, len(members), _AT_A_TIME):
        some = members[first : first + _AT_A_TIME]
        padded = np.resize(some, _AT_A_TIME)  # one shape, one compiled program
        batch = DeviceData(
            jax.numpy.asarray(split.images[padded]),
            jax.numpy.asarray(split.labels[padded]),
            dataset.preprocess,
        )
        guessed = np.asarray(training.predict(network, variables, batch)).argmax(-1)[: len(some)]
        correct += some[guessed == split.labels[some]].tolist()
        if len(correct) >= wanted:
            break
    return correct[:wanted]


def class_means(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Mean logits of each class, `(classes, classes)`, over the rows that are numbers; NaN where
    none is."""
    finite = np.isfinite(logits).all(-1)
    width = logits.shape[-1]
    means = np.full((width, width), np.nan, np.float32)
    for label in range(width):
        rows = logits[finite & (classes == label)]
        if len(rows):
            means[label] = rows.mean(0)
    return means


def _variables(store: ExpertStore, expert: int) -> dict[str, Any]:
    return {"params": store.read(expert, store.spec.settings.train_epochs)}
