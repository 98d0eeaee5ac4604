"""Images in folders, a folder a class: the user's own, and Tiny ImageNet's layout."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from jdd.data.class_names import IMAGENET_SUBSETS
from jdd.data.dataset import Split, checked
from jdd.data.pictures import read_rgb
from jdd.errors import SettingError, UserError, unknown_value

ENDINGS = (".png", ".jpg", ".jpeg")
_Listed = list[tuple[Path, int]]  # images with their labels


def read(
    place: Path, image_size: int | None, subset: str = ""
) -> tuple[Split, Split, tuple[str, ...]]:
    """Train, test and class names of `train/CLASS/…` and `test/CLASS/…`, PNG or JPEG, at any depth.

    `val/` stands in for a missing `test/`. Classes are the folders of `train/` in alphabetical
    order. All images are read as RGB. With an image size, each is scaled until its shorter side is
    that long, and cut to the middle square, as torchvision's `Resize` and `CenterCrop` do.

    Args:
      place: holds `train/` and `test/`.
      image_size: of the square that images are cut to; None: they are of one size.
      subset: one of the ten-class subsets of ImageNet, whose thousand folders are there then.

    Raises:
      UserError: a folder that is missing, empty or of no class, or an image that is damaged.
      SettingError: images of several sizes, and no `image_size`.
    """
    train = place / "train"
    test = next((place / name for name in ("test", "val") if (place / name).is_dir()), None)
    if not place.is_dir():
        raise UserError(
            f"`dataset` folder:{place}: it does not exist; the path is relative to "
            "`data_dir`, where one is given, else to the current directory"
        )
    if not train.is_dir() or test is None:
        missing = "train/" if not train.is_dir() else "test/ (or val/)"
        raise SettingError(
            "dataset", f"folder:{place}", f"no {missing} in it: a folder a class is needed in both"
        )
    names = _classes(train)
    if unknown := sorted(set(_classes(test)) - set(names)):
        raise UserError(f"{test / unknown[0]}: there is no such class in {train}")
    if subset:
        names = _subset(train, names, subset)
    splits = [
        _read(
            [(path, label) for label, name in enumerate(names) for path in _images(split / name)],
            len(names),
            split,
            image_size,
        )
        for split in (train, test)
    ]
    return _alike(splits[0], splits[1]), splits[1], names


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
        if not (root / "wnids.txt").is_file():
            continue
        names = sorted((root / "wnids.txt").read_text().split())
        label = {name: i for i, name in enumerate(names)}
        train = [(path, label[name]) for name in names for path in _images(root / "train" / name)]
        table = root / "val" / "val_annotations.txt"
        try:
            rows = [line.split("\t")[:2] for line in table.read_text().splitlines()]
            test = [(root / "val" / "images" / image, label[name]) for image, name in rows]
        except (OSError, KeyError, ValueError) as error:
            raise UserError(f"{table}: missing or damaged ({error!r})") from None
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
    rows = (line.partition("\t") for line in table.read_text().splitlines())
    return {name: words.partition(",")[0] for name, _, words in rows}


def _classes(place: Path) -> tuple[str, ...]:
    found = sorted(entry.name for entry in place.iterdir() if entry.is_dir())
    if not found:
        raise UserError(f"{place} has no folders in it: one a class is looked for")
    return tuple(found)


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


def _read(listed: _Listed, classes: int, origin: Path, size: int | None = None) -> Split:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = list(pool.map(lambda item: _image(item[0], size), listed))
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


def _alike(train: Split, test: Split) -> Split:
    sizes = [f"{split.images.shape[2]}×{split.images.shape[1]}" for split in (train, test)]
    if sizes[0] != sizes[1]:
        raise SettingError(
            "image_size", "none", f"train/ has {sizes[0]} pixels, test/ {sizes[1]}: give one size"
        )
    return train


def _image(path: Path, size: int | None) -> np.ndarray:
    from PIL.Image import Resampling

    rgb = read_rgb(path)
    if size is None:
        return np.asarray(rgb)
    scale = size / min(rgb.size)
    width, height = (max(size, round(side * scale)) for side in rgb.size)
    left, top = (width - size) // 2, (height - size) // 2
    scaled = rgb.resize((width, height), Resampling.BILINEAR)
    return np.asarray(scaled.crop((left, top, left + size, top + size)))
