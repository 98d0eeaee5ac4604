"""Images in folders, a folder a class: the user's own, and Tiny ImageNet's layout."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from jdd.data.class_names import IMAGENET_SUBSETS
from jdd.data.dataset import Split, checked
from jdd.data.pictures import read as read_picture
from jdd.data.splits import hold_out
from jdd.errors import SettingError, UserError, unknown_value
from jdd.files import check_path, read_bytes

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_LONGEST_NAME = 255  # bytes, of most file systems
_FORMATS = ("PNG", "JPEG", "WEBP")
TEST_FRACTION = 0.2  # drawn by class where there is no test split
_Listed = list[tuple[Path, int]]  # images with their labels


def read(
    place: Path, image_size: int | None, subset: str = ""
) -> tuple[Split, Split, tuple[str, ...]]:
    """Train, test and class names of `train/CLASS/…` and `test/CLASS/…`, at any depth.

    Images are PNG, JPEG or WebP. `val/` stands in for a missing `test/`; where there is neither, or
    the classes lie in `place` itself, `TEST_FRACTION` of each class is drawn for the test, the same
    ones every time. Classes are the folders of `train/` in alphabetical order. Images have one
    channel where all of them are grey, else three. With an image size, each is scaled until its
    shorter side is that long, and cut to the middle square, as torchvision's `Resize` and
    `CenterCrop` do.

    Args:
      place: holds `train/` and `test/`, or the classes.
      image_size: of the square that images are cut to; None: they are of one size.
      subset: one of the ten-class subsets of ImageNet, whose thousand folders are there then.

    Raises:
      UserError: a folder that is missing, empty or of no class, or damaged images, all of them
        named.
      SettingError: images of several sizes, and no `image_size`.
    """
    check_path(place)
    if not place.is_dir():
        raise UserError(
            f"`dataset` folder:{place}: it does not exist; the path is relative to "
            "`data_dir`, where one is given, else to the current directory"
        )
    test = next((place / name for name in ("test", "val") if (place / name).is_dir()), None)
    train = place / "train"
    if not train.is_dir():
        if test is not None:
            raise SettingError(
                "dataset", f"folder:{place}", f"no train/ in it, but {test.name}/: name both"
            )
        train = place
    names = _classes(train)
    if test is not None and (unknown := sorted(set(_classes(test)) - set(names))):
        raise UserError(f"{test / unknown[0]}: there is no such class in {train}")
    if subset:
        names = _subset(train, names, subset)
    places = [train] if test is None else [train, test]
    splits = [_read(_listed(split, names), len(names), split, image_size) for split in places]
    if test is None:
        return *hold_out(splits[0], TEST_FRACTION, seed=0), names
    return *_alike(splits[0], splits[1]), names


def _listed(split: Path, names: Sequence[str]) -> _Listed:
    return [(path, label) for label, name in enumerate(names) for path in _images(split / name)]


def read_tiny_imagenet(
    directories: Sequence[Path],
) -> tuple[Split, Split, tuple[str, ...]] | None:
    """Tiny ImageNet from the first directory that holds its `wnids.txt`; None where none does.

    The test images are those of `val/`. The classes are in the order of their WordNet ids, as
    folders are read elsewhere, and named by `words.txt` where it is there, else by the ids.

    Raises:
      UserError: a class or table that is missing or damaged.
    """
    for root in directories:
        classes = root / "wnids.txt"
        if not classes.is_file():
            continue
        names = sorted(_name(name, classes) for name in _text(classes).split())
        label = {name: i for i, name in enumerate(names)}
        train = [(path, label[name]) for name in names for path in _images(root / "train" / name)]
        table = root / "val" / "val_annotations.txt"
        try:
            rows = [line.split("\t")[:2] for line in _text(table).splitlines()]
            place = root / "val" / "images"
            test = [(place / _name(image, table), label[name]) for image, name in rows]
        except UserError:
            raise
        except (KeyError, ValueError) as error:
            raise UserError(f"{table}: damaged ({error!r:.120})") from None
        splits = [_read(train, len(names), root / "train"), _read(test, len(names), root / "val")]
        words = _words(root / "words.txt")
        return splits[0], splits[1], tuple(words.get(name, name) for name in names)
    return None


def _subset(train: Path, names: tuple[str, ...], subset: str) -> tuple[str, ...]:
    if subset not in IMAGENET_SUBSETS:
        raise unknown_value("dataset", f"folder:…#{subset}", IMAGENET_SUBSETS)
    if len(names) != 1000:
        raise UserError(f"{train} holds {len(names)} classes: {subset} is of ImageNet's thousand")
    return tuple(names[position] for position in IMAGENET_SUBSETS[subset])


def _words(table: Path) -> dict[str, str]:
    if not table.is_file():
        return {}
    rows = (line.partition("\t") for line in _text(table).splitlines())
    return {name: words.partition(",")[0] for name, _, words in rows}


def _name(text: str, table: Path) -> str:
    too_long = len(text.encode()) > _LONGEST_NAME
    if Path(text).name != text or text == ".." or "\0" in text or too_long:
        raise UserError(f"{table}: {text[:80]!r} is no name of a file or folder")
    return text


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: cannot be read ({error})") from None


def _classes(place: Path) -> tuple[str, ...]:
    found = sorted(entry.name for entry in place.iterdir() if entry.is_dir())
    if not found:
        raise SettingError("dataset", f"folder:{place}", "no folders in it: one a class is needed")
    return tuple(found)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


def _read(listed: _Listed, classes: int, origin: Path, size: int | None = None) -> Split:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda item: _image(item[0], size), listed))
    damaged = [str(result) for result in results if isinstance(result, UserError)]
    if damaged:
        if len(damaged) == 1:
            raise UserError(damaged[0])
        count = f"{origin}: {len(damaged)} of {len(listed)} images cannot be read: "
        named = (words.removeprefix(f"{origin}{os.sep}") for words in dict.fromkeys(damaged))
        raise UserError(count + "; ".join(named))
    images = [result for result in results if isinstance(result, np.ndarray)]
    if any(image.shape[-1] == 3 for image in images):
        images = [np.broadcast_to(image, (*image.shape[:2], 3)) for image in images]
    for (path, _), image in zip(listed, images, strict=True):
        if image.shape != images[0].shape:
            raise SettingError(
                "image_size",
                "none",
                f"a number of pixels is needed, as {path} is {image.shape[1]}×{image.shape[0]} and "
                f"{listed[0][0].name} {images[0].shape[1]}×{images[0].shape[0]}",
            )
    stacked = np.stack(images) if images else np.zeros((0, 1, 1, 3), np.uint8)
    return checked(stacked, np.array([label for _, label in listed], np.int32), classes, origin)


def _alike(train: Split, test: Split) -> tuple[Split, Split]:
    """Both with three channels where one has, once they are of one size."""
    sizes = [f"{split.images.shape[2]}×{split.images.shape[1]}" for split in (train, test)]
    if sizes[0] != sizes[1]:
        raise SettingError(
            "image_size", "none", f"train/ has {sizes[0]} pixels, test/ {sizes[1]}: give one size"
        )
    channels = max(train.images.shape[-1], test.images.shape[-1])
    grown = [np.repeat(s.images, channels // s.images.shape[-1], axis=-1) for s in (train, test)]
    return Split(grown[0], train.labels), Split(grown[1], test.labels)


def _image(path: Path, size: int | None) -> np.ndarray | UserError:
    """The image `(h, w, 1 or 3)` uint8, or why it cannot be read."""
    from PIL.Image import Resampling

    try:
        picture = read_picture(path, _FORMATS)
    except UserError as error:
        return error
    if size is not None:
        scale = size / min(picture.size)
        width, height = (max(size, round(side * scale)) for side in picture.size)
        left, top = (width - size) // 2, (height - size) // 2
        scaled = picture.resize((width, height), Resampling.BILINEAR)
        picture = scaled.crop((left, top, left + size, top + size))
    return np.atleast_3d(np.asarray(picture))
