"""The product: a synthetic set, with everything on it that is needed to train on it again."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import jdd
from jdd import preprocessing
from jdd.errors import UserError
from jdd.recipe import Recipe

if TYPE_CHECKING:
    from jdd.data import Dataset, Split


@dataclass(frozen=True)
class SetInfo:
    """What is written on a set: where it comes from and how to train on it."""

    dataset: str
    class_names: tuple[str, ...]
    preprocessing: Mapping[str, Any]
    """`Preprocess.spec()` of the space that the images live in"""
    ipc: int
    """images per class"""
    init: str = "real"
    method: str = "none"
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    recipe: Recipe = field(default_factory=Recipe)
    version: str = jdd.__version__

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_json(), sort_keys=True))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        value = {**asdict(replace(self, recipe=Recipe())), "recipe": self.recipe.to_json()}
        return {**value, "class_names": list(self.class_names)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SetInfo":
        """The inverse of `to_json`."""
        recipe = Recipe.from_json(value["recipe"])
        return cls(**{**value, "class_names": tuple(value["class_names"]), "recipe": recipe})


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["images", "labels", "learning_rate"],
    meta_fields=["info"],
)
@dataclass(frozen=True)
class SyntheticSet:
    """A distilled set; a pytree, so that it goes through `jit`, `grad` and `scan` as it is.

    Attributes:
      images: float32 `(n, h, w, c)`, in the preprocessed space that `info.preprocessing` names.
      labels: int32 `(n,)` classes, or float32 `(n, classes)` label logits.
      learning_rate: float32 scalar, the learned step size; None where the method learns none.
      info: static description.
    """

    images: jax.Array
    labels: jax.Array
    learning_rate: jax.Array | None
    info: SetInfo

    def save(self, path: str | Path) -> Path:
        """Stores the set with Orbax, in place of one that is there.

        Args:
          path: a run's directory, or its `synthetic/` folder.

        Returns:
          The `synthetic/` folder.

        Raises:
          UserError: the place cannot be written.
        """
        from jdd import storage  # Orbax; `import jdd.losses` and friends do without

        folder = Path(path)
        folder = folder if folder.name == "synthetic" else folder / "synthetic"
        arrays = {"images": self.images, "labels": self.labels}
        if self.learning_rate is not None:
            arrays["learning_rate"] = jnp.asarray(self.learning_rate)
        storage.save_tree(folder, arrays, {"set": self.info.to_json()})
        return folder

    @classmethod
    def load(cls, path: str | Path, dataset: "Dataset | None" = None) -> "SyntheticSet":
        """Reads a stored set.

        Args:
          path: a run's directory, or its `synthetic/` folder.
          dataset: where given, the set must be of this data set and preprocessing.

        Raises:
          UserError: nothing there, damaged, another format version, or one that does not fit
            `dataset`; the message says which.
        """
        from jdd import storage

        folder = Path(path)
        if storage.whole_copy(folder / "synthetic").is_dir():
            folder = folder / "synthetic"
        header = storage.load_info(folder).get("set")
        if header is None:
            raise UserError(f"{folder} is a checkpoint, but not of a synthetic set")
        try:
            info = SetInfo.from_json(header)
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{folder} is damaged (its description): make it again") from None
        arrays, _ = storage.load_tree(folder)
        rate = arrays.get("learning_rate")
        loaded = cls(
            images=jnp.asarray(arrays["images"]),
            labels=jnp.asarray(arrays["labels"]),
            learning_rate=None if rate is None else jnp.asarray(rate),
            info=info,
        )
        if dataset is not None:
            loaded.check_fits(dataset, folder)
        return loaded

    def check_fits(self, dataset: "Dataset", where: str | Path = "the set") -> None:
        """Raises `UserError` naming the difference where the set is not of `dataset` as loaded."""
        if self.info.dataset != dataset.name:
            raise UserError(
                f"{where} is a set of '{self.info.dataset}', not of '{dataset.name}': "
                f"use --dataset {self.info.dataset}"
            )
        found = preprocessing.differences(dict(self.info.preprocessing), dataset.preprocess.spec())
        if found:
            raise UserError(f"{where} was made with other preprocessing: {'; '.join(found)}")

    @property
    def num_classes(self) -> int:
        """How many classes the set has."""
        return len(self.info.class_names)

    def hard_labels(self) -> jax.Array:
        """int32 `(n,)`: the labels, or the class of the largest label logit."""
        return self.labels if self.labels.ndim == 1 else jnp.argmax(self.labels, axis=-1)

    def classes(self) -> np.ndarray:
        """int `(n,)`: the class that each image was made for.

        With soft labels its place tells it, as the largest label logit may have become another.
        """
        if self.labels.ndim == 2 and len(self.labels) == self.num_classes * self.info.ipc:
            return np.repeat(np.arange(self.num_classes), self.info.ipc)
        return np.asarray(self.hard_labels())


def from_real(
    split: "Split", dataset: "Dataset", ipc: int, rng: np.random.Generator
) -> tuple[jax.Array, jax.Array]:
    """Draws `ipc` real images of each class, class by class.

    Returns:
      float32 images `(classes · ipc, h, w, c)`, preprocessed, and int32 labels.

    Raises:
      UserError: `ipc` is below 1 or above what a class holds.
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


def from_noise(dataset: "Dataset", ipc: int, key: jax.Array) -> tuple[jax.Array, jax.Array]:
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
        raise UserError(f"--ipc {ipc}: at least 1 image per class is needed")
    if ipc > available:
        raise UserError(
            f"--ipc {ipc} is more than class '{class_name}' holds: at most {available} here"
        )
