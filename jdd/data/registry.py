"""The datasets by name: where each is looked for, and how it is read and preprocessed."""

import dataclasses
import functools
import math
import os
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from jdd import files, plugins
from jdd import preprocessing as preprocess_lib
from jdd.data import arrays, class_names, digits, fingerprint, folder
from jdd.data.dataset import Dataset, Split, checked
from jdd.data.resize import resize
from jdd.data.shapes import IMAGENET, MOST_SIDE, SHAPES, Traits
from jdd.data.sources import IMAGENET_MEAN_STD, SOURCES, MeanStd, Splits, no_directory
from jdd.data.sources import read as read_source
from jdd.errors import SettingError, UserError, nearest, unknown_value
from jdd.files import check_path

# What begins the name of a dataset of the user's: a directory, a file.
FOLDER, ARRAYS = "folder:", "arrays:"


@dataclasses.dataclass(frozen=True)
class _Registered:
    """A dataset that a user registered."""

    read: Callable[[], Splits]
    class_names: tuple[str, ...]
    mean_std: MeanStd | None
    file: str
    """where it was registered"""

    @functools.cached_property
    def splits(self) -> Splits:
        """What `read` gives, which is asked once; raises `UserError` where it is no two splits."""
        with plugins.code_of(self.file):
            match self.read():
                case (
                    Split(images=np.ndarray(), labels=np.ndarray()) as train,
                    Split(images=np.ndarray(), labels=np.ndarray()) as test,
                ):
                    return train, test
            raise UserError("read() has to return two Splits of NumPy arrays, train and test")


_REGISTERED: dict[str, _Registered] = {}


def names() -> tuple[str, ...]:
    """The names that `load` knows."""
    return ("digits", *SOURCES, *_REGISTERED)


def is_known(name: str) -> bool:
    """Whether `load` knows the name."""
    return name in names() or name.startswith((FOLDER, ARRAYS))


def check_name(name: str, data_dir: str | os.PathLike[str] | None = None) -> None:
    """Raises `SettingError` for a dataset that is not known.

    It names what the path of one's own begins with, or else the nearest name.
    """
    if is_known(name):
        return
    place, here, path = _own_path(name, data_dir), files.expanded(name), name
    if here.exists() and not place.exists():  # not where `load` would look
        place = here.absolute()
        path = str(place)
    if place.is_dir():
        raise SettingError("dataset", f"'{name}'", f"a directory of images is {FOLDER}{path}")
    if place.suffix == ".npz":
        raise SettingError("dataset", f"'{name}'", f"a file of arrays is {ARRAYS}{path}")
    if os.sep in name:
        problem = "it is no .npz" if place.exists() else f"{place} does not exist"
        wanted = f"{FOLDER}PATH is a directory of images, {ARRAYS}FILE.npz a file of arrays"
        raise SettingError("dataset", f"'{name}'", f"{problem}; {wanted}")
    forms = (f"{FOLDER}PATH", f"{ARRAYS}FILE.npz")
    raise SettingError("dataset", f"'{name}'", nearest(name, [*names(), *forms]))


def short_name(name: str) -> str:
    """The dataset's name as a file's name: `folder-pets` for `folder:/data/pets`."""
    if not name.startswith((FOLDER, ARRAYS)):
        return name
    kind, _, rest = name.partition(":")
    place, _, subset = rest.partition("#")
    return "-".join(filter(None, (kind, Path(place).resolve().stem, Path(subset).stem)))


def register(
    name: str,
    read: Callable[[], Splits],
    class_names: Sequence[str],
    mean_std: MeanStd | None = None,
) -> None:
    """Registers a dataset of the caller's by name.

    Args:
      name: what it is called wherever a dataset is named.
      read: () → train and test, each a `Split` of uint8 images `(n, h, w, c)` and int32 labels.
      class_names: in the order of the labels.
      mean_std: per-channel mean and standard deviation of pixels in [0, 1]; None: computed from the
        training images.

    Raises:
      UserError: the name is taken.
    """
    if name == "digits" or name in SOURCES:
        raise UserError(f"dataset '{name}': there is one of this name already, choose another")
    file = traceback.extract_stack(limit=2)[0].filename
    _REGISTERED[name] = _Registered(read, tuple(class_names), mean_std, file)


def traits(
    name: str, data_dir: str | os.PathLike[str] | None = None, image_size: int | None = None
) -> Traits | None:
    """What settings are chosen by where nobody has published any: for a dataset of the user's.

    None for those that come with jdd; and where it cannot be read, which `load` says why.
    """
    try:
        if name.startswith(FOLDER):
            place, subset = _own_folder(name, data_dir)
            if not subset:
                return folder.traits(place, image_size)
            count, _, side, channels, classes = SHAPES[IMAGENET]
            return Traits(image_size or side, channels, classes, count, count // classes)
        if name.startswith(ARRAYS):
            result = arrays.traits(_own_path(name.removeprefix(ARRAYS), data_dir))
        elif name in _REGISTERED:
            split, classes = _REGISTERED[name].splits[0], len(_REGISTERED[name].class_names)
            split = checked(split.images, split.labels, classes, f"dataset '{name}'")
            result = Traits.of(split.images.shape[1:], split.labels, classes)
        else:
            return None
    except (UserError, OSError):
        return None
    return result._replace(side=image_size) if image_size else result


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    preprocessing: str = "standard",
) -> Dataset:
    """Finds, reads and prepares a dataset; the images themselves stay uint8.

    Args:
      name: one of `names()`; or `folder:PATH` for images in `PATH/train/CLASS/` and
        `PATH/test/CLASS/`, PNG, JPEG or WebP (`folder:PATH#imagenette` takes that subset of all of
        ImageNet's classes); or `arrays:FILE.npz` for arrays `images` and `labels`. Paths are
        relative to the data directory, where there is one.
      data_dir: the one directory to look into, by default `$JDD_DATA_DIR`: the files in it, in a
        folder named for the set, or in torchvision's layout, gzipped or not; else a TFDS set
        prepared there. Where neither is given: a TFDS set in TFDS's own directory, prepared or
        downloaded. `digits` needs none.
      image_size: resize to (image_size, image_size), 4096 at most; by default as stored, 128 for
        `mhist`.
      preprocessing: "standard" or, for RGB sets, "zca" or "normalize_zca".

    Raises:
      UserError: a bad argument, the set is nowhere, or its files are damaged.
    """
    check_name(name, data_dir)
    if preprocessing not in preprocess_lib.KINDS:
        raise unknown_value("preprocessing", preprocessing, preprocess_lib.KINDS)
    if image_size is not None and not (
        isinstance(image_size, int) and 1 <= image_size <= MOST_SIDE
    ):
        words = f"a whole number of pixels from 1 to {MOST_SIDE} is needed"
        raise SettingError("image_size", repr(image_size), words)
    if preprocessing != "standard" and (shape := _shape(name, data_dir, image_size)) is not None:
        preprocess_lib.check_zca(shape, preprocessing)
    mean_std: MeanStd | None = None
    if data_dir is not None and not files.expanded(data_dir).is_dir():
        raise no_directory(data_dir)
    if name == "digits":
        classes: tuple[str, ...] = class_names.MNIST
        train, test = digits.read()
    elif name in _REGISTERED:
        registered = _REGISTERED[name]
        classes, mean_std = registered.class_names, registered.mean_std
        train, test = (
            checked(split.images, split.labels, len(classes), f"dataset '{name}'")
            for split in registered.splits
        )
        _check_alike(name, train, test, mean_std)
    elif name.startswith(FOLDER):
        place, subset = _own_folder(name, data_dir)
        train, test, classes = folder.read(place, image_size, subset)
        mean_std = IMAGENET_MEAN_STD if subset else None
    elif name.startswith(ARRAYS):
        train, test, classes = arrays.read(_own_path(name.removeprefix(ARRAYS), data_dir))
    else:
        source = SOURCES[name]
        classes, mean_std = source.class_names, source.mean_std
        image_size = image_size or source.image_size
        content = read_source(name, source, data_dir, image_size)
        train, test = content[:2]
        classes = content[2] if len(content) == 3 else classes
    if name not in SHAPES:
        _check_classes(name, train, classes)
    mark = train.fingerprint or fingerprint.of_images(train.images, train.labels)
    if image_size is not None:
        train, test = resize(train, image_size), resize(test, image_size)
    # Without published constants, they come from the training images.
    preprocess = preprocess_lib.fit(preprocessing, train.images, mean_std)
    return Dataset(name, train, test, classes, preprocess, mark)


def _check_alike(name: str, train: Split, test: Split, mean_std: MeanStd | None) -> None:
    shapes = train.images.shape[1:], test.images.shape[1:]
    if shapes[0] != shapes[1]:
        raise UserError(f"dataset '{name}': training images are {shapes[0]}, test {shapes[1]}")
    if mean_std is not None and any(len(each) != shapes[0][2] for each in mean_std):
        raise UserError(f"dataset '{name}': mean_std is not of {shapes[0][2]} channels")
    if mean_std is not None and not all(0 < each < math.inf for each in mean_std[1]):
        raise UserError(
            f"dataset '{name}': mean_std has a standard deviation of no positive number"
        )


def _check_classes(name: str, train: Split, classes: Sequence[str]) -> None:
    """Raises `UserError` for a single class, or one without training images or of a bad name."""
    for label in classes:
        if not (isinstance(label, str) and label.isprintable()):
            raise UserError(f"`dataset` {name}: class name {label!r} is no text on one line")
    if len(set(classes)) < len(classes):
        twice = next(label for label in classes if classes.count(label) > 1)
        raise UserError(f"`dataset` {name}: two classes have the name '{twice}'")
    if len(classes) < 2:
        raise UserError(f"`dataset` {name}: one class, '{classes[0]}', is nothing to tell apart")
    missing = sorted(set(range(len(classes))).difference(train.labels.tolist()))
    if missing:
        label = "" if name.startswith(FOLDER) else f", label {missing[0]}; labels count from 0"
        raise UserError(
            f"`dataset` {name}: no training image is of class '{classes[missing[0]]}'{label}"
        )


def _shape(
    name: str, data_dir: str | os.PathLike[str] | None, image_size: int | None
) -> tuple[int, int, int] | None:
    """`(h, w, c)` of the images, before they are read; None where it is not known."""
    if (shape := SHAPES.get(name)) is not None:
        side, channels = image_size or shape.side, shape.channels
    elif (data_traits := traits(name, data_dir, image_size)) is not None:
        side, channels = data_traits.side, data_traits.channels
    else:
        return None
    return side, side, channels


def _own_path(place: str, data_dir: str | os.PathLike[str] | None) -> Path:
    if not place:
        raise UserError("`dataset`: a path is needed, as in folder:PATH or arrays:FILE.npz")
    return files.expanded(data_dir or os.environ.get("JDD_DATA_DIR") or "") / files.expanded(place)


def _own_folder(name: str, data_dir: str | os.PathLike[str] | None) -> tuple[Path, str]:
    """The directory that a name is of, and the subset: what follows `#`, unless the path has it."""
    path = _own_path(name.removeprefix(FOLDER), data_dir)
    check_path(path)
    if "#" not in name or path.exists():
        return path, ""
    place, _, subset = name.removeprefix(FOLDER).rpartition("#")
    return _own_path(place, data_dir), subset
