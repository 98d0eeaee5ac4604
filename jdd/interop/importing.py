"""Published sets and experts as ours: a set to evaluate, export and start from; a store."""

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdd import data, plugins
from jdd.augment import strategy_for
from jdd.data import Dataset
from jdd.errors import SettingError, UserError
from jdd.experts import ExpertSpec, ExpertStore
from jdd.experts.description import Header, write_header
from jdd.experts.store import shapes_of
from jdd.interop import guide
from jdd.interop.export import new_folder
from jdd.interop.published import FoundExperts, FoundSet
from jdd.interop.torch import TorchLayout
from jdd.networks import Network, NetworkLike
from jdd.synthetic import IDENTITY, MultiFormation, SetInfo, SyntheticSet
from jdd.training import Recipe, apply_training

MeanStd = tuple[list[float], list[float]]
TEST_IMAGES, _BATCH = 1000, 250
_Progress = Callable[[int, int, str], None]


def published_recipe(published_set: FoundSet, dataset: Dataset) -> dict[str, Any]:
    """What the code that made a set trains networks on it by, where it is not `Recipe`'s default.

    FRePo's and RCIG's sets are for networks without norm, small steps of Adam, and mirror images.
    """
    strategy = strategy_for(dataset.name)
    if published_set.temperature is None:
        return {"equal_batches": False, "augmentation": strategy}
    return {
        "equal_batches": False,
        "augmentation": "flip" if "flip" in strategy else "none",
        "network": "WideConvNet",
        "optimizer": "adamw",
        "learning_rate": 3e-4,
        "rate_schedule": "cosine",
    }


def import_set(
    published_set: FoundSet,
    dataset: Dataset,
    recipe: Recipe,
    *,
    method: str = "published",
    mean_std: MeanStd | None = None,
    temperature: float | None = None,
    factor: int = 1,
) -> SyntheticSet:
    """A set as it was read, as one of `dataset` as it is loaded.

    Args:
      published_set: what the file holds.
      dataset: with the preprocessing that the set was made with.
      recipe: how networks are trained on it.
      method: what made it.
      mean_std: of each channel, that its images were normalised by, where they are not the
        dataset's here, or 0 and 1 of pixels; the images are converted.
      temperature: label logits are targets of a regression divided by it; None: as in the file.
      factor: a stored image holds factor × factor smaller ones (IDC, NCFM).

    Raises:
      SettingError: `mean_std` of other channels.
      UserError: the set is not of this dataset.
    """
    images = _images(published_set, dataset, mean_std)
    ipc = _images_per_class(published_set, dataset)
    if published_set.temperature is None and temperature is not None:
        raise SettingError("temperature", temperature, "the file's labels are no targets")
    info = SetInfo(
        dataset=dataset.name,
        class_names=dataset.class_names,
        preprocessing=dataset.preprocess.spec(),
        ipc=ipc,
        init=guide.IMPORTED,
        method=method,
        recipe=recipe,
        plugins=plugins.loaded(),
    )
    rate = None if published_set.learning_rate is None else jnp.float32(published_set.learning_rate)
    if published_set.labels.ndim == 2:
        if factor > 1:
            raise SettingError("factor", factor, "the file holds soft labels, of whole images")
        logits = published_set.labels / np.float32(temperature or published_set.temperature or 1)
        order = _by_class(logits)
        made = SyntheticSet(images[order], jnp.asarray(logits[order]), rate, info)
    else:
        height, width, _ = dataset.image_shape
        decoder = IDENTITY if factor == 1 else MultiFormation(factor, height, width, "uniform")
        by_class = images[np.argsort(published_set.labels, stable=True)]
        made = SyntheticSet.store(by_class, info, decoder).replace(learning_rate=rate)
    made.check("the set in the file")
    return made


def _by_class(logits: np.ndarray) -> np.ndarray:
    """The order in which soft labels lie class by class: their own, where not every class is the
    largest of as many, so that they do not tell."""
    largest = logits.argmax(axis=1)
    counts = np.bincount(largest, minlength=logits.shape[1])
    return np.argsort(largest, kind="stable") if len(set(counts)) == 1 else np.arange(len(largest))


def _images(published_set: FoundSet, dataset: Dataset, mean_std: MeanStd | None) -> jax.Array:
    """The images as networks see them here; raises `UserError` where they are of another shape."""
    if published_set.images.shape[1:] != dataset.image_shape:
        theirs, here = (
            "×".join(map(str, s)) for s in (published_set.images.shape[1:], dataset.image_shape)
        )
        raise UserError(
            f"the file holds images of {theirs}, {dataset.name} here has {here}: name another "
            "`dataset`, or give the `image_size` that it was resized to"
        )
    images, channels = jnp.asarray(published_set.images), dataset.image_shape[-1]
    if mean_std is None and not published_set.are_pixels:
        return images
    mean_std = mean_std or ([0.0] * channels, [1.0] * channels)
    for name, values in zip(("mean", "std"), mean_std, strict=True):
        if len(values) != channels:
            raise SettingError(name, values, f"{channels} are needed, one a channel")
    if not all(value > 0 for value in mean_std[1]):
        raise SettingError("std", mean_std[1], "each has to be above 0")
    mean, std = (jnp.asarray(values, jnp.float32) for values in mean_std)
    return dataset.preprocess((images * std + mean) * 255)


def _images_per_class(published_set: FoundSet, dataset: Dataset) -> int:
    """How many are stored; raises `UserError` where it is not the same number of each class."""
    stored, classes = len(published_set.images), dataset.num_classes
    even = stored % classes == 0
    if published_set.labels.ndim == 1:
        counts = np.bincount(published_set.labels.clip(0, classes), minlength=classes)
        even = even and bool((counts == stored // classes).all())
    if not even:
        raise UserError(
            f"the file holds {stored} images, not as many of each of the {classes} classes of "
            f"{dataset.name}: name another `dataset`"
        )
    return stored // classes


def import_experts(
    buffers: Iterable[FoundExperts],
    directory: Path,
    spec: ExpertSpec,
    network: NetworkLike,
    dataset: Dataset,
    progress: _Progress = lambda done, total, line: None,
) -> ExpertStore:
    """A store of experts as they were read; nothing stays where it cannot be made.

    Its accuracies are those of the last epochs on up to 1,000 of the test images, as published
    experts have seen all training images.

    Args:
      buffers: what the files hold, one after another.
      directory: which does not exist, or is empty.
      spec: what the experts are; their number and epochs are those of the files.
      network: theirs.
      dataset: theirs, as preprocessed as it was for them.
      progress: told the epochs of the buffer at hand that are stored.

    Raises:
      UserError: the parameters are not those of the network, or not finite; the buffers do not fit
        to each other; the directory cannot be written.
    """
    if not isinstance(network, Network):
        raise SettingError("network", spec.network, "it is none of the published ones")
    layout = TorchLayout(network, dataset.image_shape)

    def fill(part: Path) -> None:
        _fill(part, buffers, spec, layout, network, dataset, progress)

    new_folder(directory, fill, "out")
    store = ExpertStore.open(directory)
    assert store is not None
    return store


def _fill(
    part: Path,
    buffers: Iterable[FoundExperts],
    spec: ExpertSpec,
    layout: TorchLayout,
    network: NetworkLike,
    dataset: Dataset,
    progress: _Progress,
) -> None:
    """Makes the store in an empty directory."""
    test = data.subset(dataset.test, min(TEST_IMAGES, len(dataset.test)), seed=0)
    store, count, made, params = None, 0, spec, None
    for buffer in buffers:
        experts, epochs = len(buffer.trajectories), len(buffer.trajectories[0]) - 1
        made = _sized(spec, count + experts, epochs)
        if store is None:
            store = ExpertStore.create(part, made, layout.params(buffer.trajectories[0][0]))
        elif epochs != store.spec.settings.train_epochs:
            before = store.spec.settings.train_epochs
            raise UserError(f"experts of {before} epochs in one file, of {epochs} in another")
        store.extend(count + experts)
        for at, trajectory in enumerate(buffer.trajectories):
            for epoch, tensors in enumerate(trajectory):
                params = layout.params(tensors)
                if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
                    raise UserError(f"expert {count + 1} is not finite at epoch {epoch}")
                store.write(count, epoch, params)
                progress(at * epochs + epoch, experts * epochs, f"expert {count + 1}")
            store.finish([_accuracy(network, params, test, dataset)])
            count += 1
    if store is None:
        raise UserError("there are no experts")
    write_header(part / "store.json", Header(made, shapes_of(params)))


def _sized(spec: ExpertSpec, experts: int, epochs: int) -> ExpertSpec:
    settings = dataclasses.replace(spec.settings, num_experts=experts, train_epochs=epochs)
    return dataclasses.replace(spec, settings=settings)


def _accuracy(network: NetworkLike, params: Any, test: data.Split, dataset: Dataset) -> float:
    """Fraction of the test images that parameters classify correctly; batch norm, of which they
    keep no statistics, by those of the batch."""
    correct = 0
    for first in range(0, len(test), _BATCH):
        images = dataset.preprocess(test.images[first : first + _BATCH])
        logits = _logits(network, params, images)
        correct += int((np.argmax(logits, -1) == test.labels[first : first + _BATCH]).sum())
    return correct / len(test)


@partial(jax.jit, static_argnums=(0,))
def _logits(network: NetworkLike, params: Any, images: jax.Array) -> jax.Array:
    return apply_training(network, params, {}, images)[0]
