"""The product: a synthetic set, with everything on it that is needed to train on it again."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdd import preprocessing, records
from jdd.data import Dataset, DeviceData, fingerprint
from jdd.errors import UserError
from jdd.synthetic import ready
from jdd.synthetic.decoders import IDENTITY, Decoder, decoder_from_json
from jdd.synthetic.info import SetInfo

FOLDER = "synthetic"


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["storage", "labels", "learning_rate"],
    meta_fields=["info", "decoder"],
)
@dataclass(frozen=True)
class SyntheticSet:
    """A distilled set; a pytree, so that it goes through `jit`, `grad` and `scan` as it is.

    Attributes:
      storage: what is stored and learned: the images themselves, or, with another decoder, a pytree
        of float arrays, their leading axis the same, that it turns into images.
      labels: int32 `(n,)` classes, or float32 `(n, classes)` label logits, of the `n` images.
      learning_rate: float32 scalar, the learned step size; None where the method learns none.
      info: static description.
      decoder: static map from storage to images.
    """

    storage: Any
    labels: jax.Array
    learning_rate: jax.Array | None
    info: SetInfo
    decoder: Decoder = IDENTITY

    def __repr__(self) -> str:
        shapes = [getattr(leaf, "shape", leaf) for leaf in jax.tree.leaves(self.storage)]
        labels = f"{getattr(self.labels, 'dtype', '')}{getattr(self.labels, 'shape', '')}"
        return (
            f"SyntheticSet({self.info.dataset}, {self.info.ipc} per class, storage "
            f"{', '.join(map(str, shapes))}, labels {labels})"
        )

    @property
    def images(self) -> jax.Array:
        """float32 `(n, h, w, c)`, in the preprocessed space that `info.preprocessing` names."""
        return self.decoder.decode(self.storage)

    @classmethod
    def encode(
        cls, images: jax.Array, info: SetInfo, decoder: Decoder = IDENTITY
    ) -> "SyntheticSet":
        """A set with hard labels that decodes near to images.

        Args:
          images: float32 `(classes · m, h, w, c)`, preprocessed, class by class; m is what the
            decoder takes in the place of `info.ipc`.
          info: description.
          decoder: what they are stored by.
        """
        return cls.store(decoder.encode(images), info, decoder)

    @classmethod
    def store(cls, storage: Any, info: SetInfo, decoder: Decoder = IDENTITY) -> "SyntheticSet":
        """A set with hard labels whose storage lies class by class."""
        classes = len(info.class_names)
        count = jax.eval_shape(decoder.decode, storage).shape[0]
        labels = jnp.repeat(jnp.arange(classes, dtype=jnp.int32), count // classes)
        return cls(storage, labels, None, info, decoder)

    def data(self) -> DeviceData:
        """The set as something to train on: images and labels."""
        return DeviceData(self.images, self.labels)

    def save(
        self,
        path: str | Path,
        before_replacing: Callable[[], None] = lambda: None,
        *,
        eight_bits: bool = False,
    ) -> Path:
        """Stores the set with Orbax, in place of one that is there.

        Args:
          path: a run's directory, or its `synthetic/` folder.
          before_replacing: called once the set is on the disk, before it takes its place.
          eight_bits: round what is stored to 256 steps between its least and its largest number, a
            quarter of the space.

        Returns:
          The `synthetic/` folder.

        Raises:
          UserError: the place cannot be written; what was there stays.
        """
        from jdd import checkpoints  # Orbax; `import jdd.losses` and friends do without

        folder = Path(path)
        folder = folder if folder.name == FOLDER else folder / FOLDER
        arrays = {"storage": self.storage, "labels": self.labels}
        if self.learning_rate is not None:
            arrays["learning_rate"] = jnp.asarray(self.learning_rate)
        if eight_bits:
            arrays |= _in_eight_bits(self.storage)
        header = {"set": self.info.to_json(), "decoder": self.decoder.to_json()}
        checkpoints.save_tree(folder, arrays, header, before_replacing)
        return folder

    @classmethod
    def load(cls, path: str | Path, dataset: Dataset | None = None) -> "SyntheticSet":
        """Reads a stored set.

        Args:
          path: a run's directory, or its `synthetic/` folder, or the name of a ready set, such as
            "mnist/dm-ipc1" (`jdd.synthetic.ready.names`).
          dataset: where given, the set must be of this dataset and preprocessing.

        Raises:
          UserError: nothing there, damaged, another format version, or one that does not fit
            `dataset`; the message says which.
        """
        from jdd import checkpoints

        folder, header, info = _described(path)
        decoder = decoder_from_json(header.get("decoder", {}), folder)
        arrays, _ = checkpoints.load_tree(folder)
        rate = arrays.get("learning_rate")
        # Sets of jdd 0.1 have their images under this name, and no decoder.
        storage = arrays.get("storage", arrays.get("images"))
        if storage is None or "labels" not in arrays:
            raise UserError(f"{folder} is damaged: it has no images, or no labels")
        if "low" in arrays:
            storage = jax.tree.map(_from_eight_bits, storage, arrays["low"], arrays["high"])
        loaded = cls(
            storage=jax.tree.map(jnp.asarray, storage),
            labels=jnp.asarray(arrays["labels"]),
            learning_rate=None if rate is None else jnp.asarray(rate),
            info=info,
            decoder=decoder,
        )
        if dataset is not None:
            loaded.check_fits(dataset, folder)
        loaded.check(folder)
        return loaded

    def check(self, where: str | Path = "the set") -> None:
        """Raises `UserError` where nothing can be trained on the set: numbers that are not finite,
        labels that are no classes, images or labels of other shapes than described."""
        problem = _problem(self)
        if problem:
            raise UserError(f"{where} cannot be used: {problem}")

    def check_fits(self, dataset: Dataset, where: str | Path = "the set") -> None:
        """Raises `UserError` naming the difference where the set is not of `dataset` as loaded."""
        stored, here = self.info.fingerprint, dataset.fingerprint
        moved = fingerprint.is_same(stored, here)  # a folder of the user's, by another name
        if self.info.dataset != dataset.name and not moved:
            raise UserError(
                f"{where} is a set of '{self.info.dataset}', not of '{dataset.name}': "
                f"use `dataset` {self.info.dataset}"
            )
        if other := fingerprint.differences(stored, here, in_order=False):
            raise UserError(f"{where} does not fit '{dataset.name}': {other[0]}; make it again")
        differing = preprocessing.differences(
            dict(self.info.preprocessing), dataset.preprocess.spec()
        )
        if differing:
            raise UserError(f"{where} was made with other preprocessing: {'; '.join(differing)}")

    def replace(self, **changes: Any) -> "SyntheticSet":
        """The set with other fields."""
        return dataclasses.replace(self, **changes)

    @property
    def num_classes(self) -> int:
        """How many classes the set has."""
        return len(self.info.class_names)

    @property
    def numbers(self) -> int:
        """How many numbers are stored, label logits, step size and the decoder's own included."""
        kept = sum(int(leaf.size) for leaf in jax.tree.leaves(self.storage))
        step_size = self.learning_rate is not None
        return kept + self.label_numbers + step_size + self.decoder.numbers()

    @property
    def label_numbers(self) -> int:
        """How many of these are label logits: none where labels are hard."""
        return int(self.labels.size) if self.labels.ndim == 2 else 0

    def storage_in_words(self) -> str:
        """Such as "7,950 numbers (pixels, and 100 for soft labels)"."""
        return storage_in_words(self.numbers, self.label_numbers, self.decoder.to_json()["name"])

    def by_class(self) -> "SyntheticSet":
        """The set with its storage and hard labels class by class, by the labels that it has."""
        if self.labels.ndim == 2:
            return self
        stored = jax.tree.leaves(self.storage)[0].shape[0]
        each = self.labels.shape[0] // stored
        order = jnp.argsort(self.labels[::each], stable=True)
        storage = jax.tree.map(lambda leaf: leaf[order], self.storage)
        return self.replace(storage=storage, labels=jnp.sort(self.labels))

    def hard_labels(self) -> jax.Array:
        """int32 `(n,)`: the labels, or the class of the largest label logit."""
        return self.labels if self.labels.ndim == 1 else jnp.argmax(self.labels, axis=-1)

    def classes(self) -> np.ndarray:
        """int `(n,)`: the class that each image was made for.

        With soft labels its place tells it, as the largest label logit may have become another.
        """
        if self.labels.ndim == 2 and len(self.labels) % self.num_classes == 0:
            return np.repeat(np.arange(self.num_classes), len(self.labels) // self.num_classes)
        return np.asarray(self.hard_labels())


def described(path: str | Path) -> SetInfo:
    """The description of a stored set, without its arrays; `path` and errors as of `load`."""
    return _described(path)[2]


def _described(path: str | Path) -> tuple[Path, dict[str, Any], SetInfo]:
    """The set's own folder, what is written on it, and what of that describes it."""
    from jdd import checkpoints

    folder = ready.resolve(path)
    if checkpoints.resolve_directory(folder / FOLDER).is_dir():
        folder = folder / FOLDER
    elif (folder / "store.json").exists():
        raise UserError(f"{folder} holds experts, not a synthetic set: name a run's directory")
    header = checkpoints.load_info(folder)
    if header.get("set") is None:
        raise UserError(f"{folder} is a checkpoint, but not of a synthetic set")
    return folder, header, records.parse(header["set"], SetInfo, f"{folder} (its description)")


def _in_eight_bits(storage: Any) -> dict[str, Any]:
    """Arrays that `_from_eight_bits` takes, by the names that they are stored under."""
    low, high = (jax.tree.map(of, storage) for of in (jnp.min, jnp.max))

    def rounded(leaf: jax.Array, low: jax.Array, high: jax.Array) -> jax.Array:
        step = jnp.maximum(high - low, 1e-30) / 255
        return jnp.rint((leaf - low) / step).astype(jnp.uint8)

    return {"storage": jax.tree.map(rounded, storage, low, high), "low": low, "high": high}


def _from_eight_bits(leaf: Any, low: Any, high: Any) -> jax.Array:
    return jnp.asarray(low + leaf.astype(np.float32) * ((high - low) / 255))


def storage_in_words(numbers: int, labels: int, decoder: str) -> str:
    """Such as "7,950 numbers (pixels, and 100 for soft labels)"; `decoder` by either of its names,
    that of a set or that of a run.
    """
    kind = {"dct": "coefficients"}.get(decoder, "pixels")
    return f"{numbers:,} numbers ({kind}{f', and {labels:,} for soft labels' * bool(labels)})"


def _problem(made: SyntheticSet) -> str | None:
    """What is wrong with a set, in words."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(made.storage)]
    if not leaves or not all(np.issubdtype(leaf.dtype, np.floating) for leaf in leaves):
        return "what it stores are no numbers"
    if not all(np.isfinite(leaf).all() for leaf in leaves):
        return "what it stores is not finite"
    try:
        shape = jax.eval_shape(made.decoder.decode, made.storage).shape
    except (TypeError, ValueError, IndexError) as error:
        return f"it does not decode to images ({type(error).__name__})"
    described = made.info.preprocessing.get("image_shape")
    if len(shape) != 4 or (described is not None and list(shape[1:]) != list(described)):
        return f"its images have the shape {shape[1:]}, its description says {described}"
    labels, classes = np.asarray(made.labels), made.num_classes
    if labels.shape not in ((shape[0],), (shape[0], classes)):
        return f"labels of shape {labels.shape} for {shape[0]} images and {classes} classes"
    if classes < 2:
        return "one class is nothing to tell apart"
    if not np.issubdtype(labels.dtype, (np.integer, np.floating)[labels.ndim - 1]):
        return f"its labels are {labels.dtype}: classes are integers, logits floats"
    if labels.ndim == 2 and not np.isfinite(labels).all():
        return "its label logits are not finite"
    if labels.ndim == 1 and not ((labels >= 0) & (labels < classes)).all():
        return f"a label is outside 0 to {classes - 1}"
    rate = made.learning_rate
    if rate is not None and not (np.shape(rate) == () and np.isfinite(rate) and float(rate) > 0):
        return "its step size is no positive number"
    return None
