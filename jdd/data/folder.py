"""Images of the user's in folders, a folder a class."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jdd.data import decoded, image_files, pictures
from jdd.data.class_names import IMAGENET_SUBSETS
from jdd.data.dataset import Split
from jdd.data.image_files import ENDINGS, FORMATS, Listed
from jdd.data.shapes import Traits
from jdd.data.splits import hold_out
from jdd.errors import SettingError, UserError, shortened, unknown_value
from jdd.files import check_path, is_utf8

_TESTS = {"test", "testing", "val", "valid", "validation"}
_SPLITS = {"train", "training", *_TESTS}
TEST_FRACTION = 0.2  # drawn by class where there is no test split


def read(
    place: Path, image_size: int | None, subset: str = ""
) -> tuple[Split, Split, tuple[str, ...]]:
    """Train, test and class names of `train/CLASS/…` and `test/CLASS/…`, at any depth.

    Images are PNG, JPEG or WebP. `val/` stands in for a missing `test/`; where there is neither, or
    the classes lie in `place` itself, `TEST_FRACTION` of each class is drawn for the test, the same
    ones every time. Classes are the folders of `train/` in alphabetical order. Images have one
    channel where all of them are grey, else three. With an image size, each is scaled until its
    shorter side is that long, and cut to the middle square: as by torchvision's `Resize` and
    `CenterCrop`, up to a pixel, as sides are rounded here.

    Args:
      place: holds `train/` and `test/`, or the classes.
      image_size: of the square that images are cut to; None: they are of one size.
      subset: one of the ten-class subsets of ImageNet, whose thousand folders are there then.

    Raises:
      UserError: a folder that is missing, unreadable, empty or of no class, or damaged images, all
        of them named.
      SettingError: images of several sizes, and no `image_size`.
    """
    listed, names = _find(place, subset)
    files = image_files.wanted(place, listed, image_size, subset)
    return *image_files.alike(*image_files.read(files, listed, len(names), image_size)), names


def traits(place: Path, image_size: int | None) -> Traits:
    """What settings are chosen by; of pictures that are not kept, the heads alone are read.

    Raises:
      UserError: the folder is not as `read` takes it, or no picture in it can be read.
    """
    listed, names = _find(place)
    labels = np.array([label for _, label in listed[0]], np.int32)
    shapes = [decoded.kept_shape(each) for each in image_files.wanted(place, listed, image_size)]
    if cached := [shape for shape in shapes if shape is not None]:
        (height, width), channels = cached[0][:2], max(shape[2] for shape in cached)
        return Traits.of((height, width, channels), labels, len(names))
    side, channels = image_size, 1
    for path, _ in (row for each in listed for row in each):
        with contextlib.suppress(UserError):  # all of them are named where they are decoded
            is_grey, shorter = pictures.head(path, FORMATS)
            side, channels = side or shorter, 1 if is_grey else 3
            if not is_grey:
                break
    if side is None:
        raise UserError(f"{place}: none of its images can be read")
    return Traits.of((side, side, channels), labels, len(names))


def _find(place: Path, subset: str = "") -> tuple[list[Listed], tuple[str, ...]]:
    """The training and the test images with their labels, and the classes' names; see `read`."""
    check_path(place)
    if place.is_file():
        arrays = (
            f"; of arrays it is `dataset` arrays:{place.absolute()}"
            if place.suffix == ".npz"
            else ""
        )
        raise SettingError("dataset", f"folder:{place}", f"it is a file{arrays}")
    if not place.is_dir():
        raise UserError(
            f"`dataset` folder:{place}: it does not exist; the path is relative to "
            "`data_dir`, where one is given, else to the current directory"
            + ("; # begins the name of a subset" if subset else "")
        )
    test = next((place / name for name in ("test", "val") if (place / name).is_dir()), None)
    train = place / "train"
    if not train.is_dir():
        if test is not None:
            raise SettingError(
                "dataset", f"folder:{place}", f"no train/ in it, but {test.name}/: name both"
            )
        train = place
    elif test is None and (unread := _test_like(place)):
        raise SettingError(
            "dataset", f"folder:{place}", f"{unread[0]}/ is not read, rename it to test/"
        )
    names = _classes(train)
    if _are_splits(train, names):
        raise SettingError(
            "dataset",
            f"folder:{place}",
            f"{shortened(', '.join(names))} in it hold folders and no image: train/CLASS/ and "
            "test/CLASS/ (or val/) are needed, or CLASS/ alone",
        )
    if test is not None and (unknown := sorted(set(_classes(test)) - set(names))):
        raise UserError(f"{test / unknown[0]}: there is no such class in {train}")
    if subset:
        names = _subset(train, names, subset)
    listed = [_listed(train, names)]
    if test is not None:
        listed.append(_listed(test, names))
    else:
        listed = _held_out(listed[0], train)
    return listed, names


def _test_like(place: Path) -> list[str]:
    """Folders that are a test or validation split by another name than those that are read."""
    return sorted(
        entry.name for entry in place.iterdir() if entry.name.lower() in _TESTS and entry.is_dir()
    )


def _listed(split: Path, names: Sequence[str]) -> Listed:
    return [
        (path, label)
        for label, name in enumerate(names)
        for path in image_files.below(split / name)
    ]


def _held_out(listed: Listed, origin: Path) -> list[Listed]:
    """`TEST_FRACTION` of each class as a list of its own."""
    if not listed:
        raise UserError(f"{origin}: no images in it, they are PNG, JPEG or WebP")
    places = Split(np.arange(len(listed)), np.array([label for _, label in listed], np.int32))
    parts = hold_out(places, TEST_FRACTION, seed=0, whose=str(origin), otherwise="add a test/")
    return [[listed[i] for i in part.images] for part in parts]


def _subset(train: Path, names: tuple[str, ...], subset: str) -> tuple[str, ...]:
    if subset not in IMAGENET_SUBSETS:
        more = "; # begins the name of a subset"
        raise unknown_value("dataset", f"folder:…#{subset}", IMAGENET_SUBSETS, more)
    if len(names) != 1000:
        raise UserError(f"{train} holds {len(names)} classes: {subset} is of ImageNet's thousand")
    return tuple(names[position] for position in IMAGENET_SUBSETS[subset])


def _classes(place: Path) -> tuple[str, ...]:
    folders = (entry.name for entry in place.iterdir() if entry.is_dir())
    names = sorted(name for name in folders if name[0] != ".")
    if not names:
        raise SettingError("dataset", f"folder:{place}", "no folders in it: one a class is needed")
    for name in names:
        if not is_utf8(name):
            raise UserError(f"{place}: the name {name!a} is not UTF-8, rename the folder")
    return tuple(names)


def _are_splits(place: Path, names: Sequence[str]) -> bool:
    """Whether folders in the place of classes are something else: splits, or the only one."""
    if len(names) > 1 and not any(name.lower() in _SPLITS for name in names):
        return False
    entries = [entry for name in names for entry in (place / name).iterdir()]
    return any(entry.is_dir() for entry in entries) and not any(
        entry.suffix.lower() in ENDINGS for entry in entries
    )
