"""Images in folders, a folder a class: the user's own, and Tiny ImageNet's layout."""

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jdd.data import decoded, fingerprint, pictures
from jdd.data.class_names import IMAGENET_SUBSETS
from jdd.data.dataset import Split, checked
from jdd.data.shapes import Traits
from jdd.data.splits import hold_out
from jdd.errors import SettingError, UserError, shortened, unknown_value
from jdd.files import check_path, is_utf8, read_bytes

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_TESTS = {"test", "testing", "val", "valid", "validation"}
_SPLITS = {"train", "training", *_TESTS}
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
    return *_alike(
        *_read(_wanted(place, listed, image_size, subset), listed, len(names), image_size)
    ), names


def traits(place: Path, image_size: int | None) -> Traits:
    """What settings are chosen by; of pictures that are not kept, the heads alone are read.

    Raises:
      UserError: the folder is not as `read` takes it, or no picture in it can be read.
    """
    listed, names = _find(place)
    labels = np.array([label for _, label in listed[0]], np.int32)
    shapes = [decoded.kept_shape(each) for each in _wanted(place, listed, image_size)]
    if cached := [shape for shape in shapes if shape is not None]:
        (height, width), channels = cached[0][:2], max(shape[2] for shape in cached)
        return Traits.of((height, width, channels), labels, len(names))
    side, channels = image_size, 1
    for path, _ in (row for each in listed for row in each):
        with contextlib.suppress(UserError):  # all of them are named where they are decoded
            is_grey, shorter = pictures.head(path, _FORMATS)
            side, channels = side or shorter, 1 if is_grey else 3
            if not is_grey:
                break
    if side is None:
        raise UserError(f"{place}: none of its images can be read")
    return Traits.of((side, side, channels), labels, len(names))


def _find(place: Path, subset: str = "") -> tuple[list[_Listed], tuple[str, ...]]:
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


def _listed(split: Path, names: Sequence[str]) -> _Listed:
    return [(path, label) for label, name in enumerate(names) for path in _images(split / name)]


def _held_out(listed: _Listed, origin: Path) -> list[_Listed]:
    """`TEST_FRACTION` of each class as a list of its own."""
    if not listed:
        raise UserError(f"{origin}: no images in it, they are PNG, JPEG or WebP")
    places = Split(np.arange(len(listed)), np.array([label for _, label in listed], np.int32))
    parts = hold_out(places, TEST_FRACTION, seed=0, whose=str(origin), otherwise="add a test/")
    return [[listed[i] for i in part.images] for part in parts]


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
        splits = _read(_wanted(root, [train, test]), [train, test], len(names), None)
        words = _words(root / "words.txt")
        return splits[0], splits[1], tuple(words.get(name, name) for name in names)
    return None


def _subset(train: Path, names: tuple[str, ...], subset: str) -> tuple[str, ...]:
    if subset not in IMAGENET_SUBSETS:
        more = "; # begins the name of a subset"
        raise unknown_value("dataset", f"folder:…#{subset}", IMAGENET_SUBSETS, more)
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


def _images(folder: Path) -> list[Path]:
    """All that end so, in folders of the folder too, but none whose name begins with a dot.

    A folder that several links lead to is read once, and none that holds `folder` itself. A link to
    nothing is listed whatever its name: it may be meant for a folder, and cannot be decoded.

    Raises:
      UserError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # a class without test images
            raise UserError(f"{error.filename} cannot be read ({error.strerror})")

    listed, visited = [], set(folder.resolve().parents)
    for root, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if (place := Path(root).resolve()) in visited:
            folders.clear()
            continue
        visited.add(place)
        folders[:] = sorted(name for name in folders if name[0] != ".")
        paths = [Path(root, name) for name in names if name[0] != "."]
        listed += [path for path in paths if path.suffix.lower() in ENDINGS or not path.exists()]
    return sorted(listed)


def _wanted(
    root: Path, listed: Sequence[_Listed], size: int | None = None, subset: str = ""
) -> list[decoded.Wanted]:
    return [
        decoded.Wanted([path for path, _ in each], root, f"{part} {subset} {size}")
        for each, part in zip(listed, ("train", "test"), strict=True)
    ]


def _read(
    wanted: Sequence[decoded.Wanted], listed: Sequence[_Listed], classes: int, size: int | None
) -> list[Split]:
    loaded = decoded.read_all(wanted, lambda path: _image(path, size), _check_sizes)
    splits = []
    for each, of_files, kept in zip(listed, wanted, loaded, strict=True):
        labels = np.array([label for _, label in each], np.int32)
        split = checked(
            kept.images, labels, classes, f"{of_files.root}, {of_files.name.split()[0]}"
        )
        mark = fingerprint.of_digests(kept.digests, split.labels)
        splits.append(dataclasses.replace(split, fingerprint=mark))
    return splits


def _check_sizes(paths: Sequence[Path], images: list[np.ndarray]) -> None:
    """Raises `SettingError` naming two images of different sizes."""
    for path, image in zip(paths, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            raise SettingError(
                "image_size",
                "none",
                f"a number of pixels is needed, as {path} is {image.shape[1]}×{image.shape[0]} and "
                f"{paths[0].name} {images[0].shape[1]}×{images[0].shape[0]}",
            )


def _alike(train: Split, test: Split) -> tuple[Split, Split]:
    """Both with three channels where one has, once they are of one size."""
    sizes = [f"{split.images.shape[2]}×{split.images.shape[1]}" for split in (train, test)]
    if sizes[0] != sizes[1]:
        raise SettingError(
            "image_size", "none", f"train/ has {sizes[0]} pixels, test/ {sizes[1]}: give one size"
        )
    channels = max(train.images.shape[-1], test.images.shape[-1])

    def grown(split: Split) -> Split:
        if split.images.shape[-1] == channels:
            return split
        return dataclasses.replace(split, images=np.repeat(split.images, channels, axis=-1))

    return grown(train), grown(test)


def _image(path: Path, size: int | None) -> tuple[np.ndarray, bytes] | UserError:
    """The image `(h, w, 1 or 3)` uint8 and its file's digest, or why it cannot be read."""
    from PIL.Image import Resampling

    try:
        content = read_bytes(path)
        picture = pictures.decode(content, path, _FORMATS)
    except UserError as error:
        return error
    if size is not None:
        scale = size / min(picture.size)
        width, height = (max(size, round(side * scale)) for side in picture.size)
        if width * height > pictures.MOST_PIXELS:
            return UserError(
                f"{path}: {picture.width}×{picture.height} pixels are too thin for `image_size` "
                f"{size}, crop it"
            )
        left, top = (width - size) // 2, (height - size) // 2
        scaled = picture.resize((width, height), Resampling.BILINEAR)
        picture = scaled.crop((left, top, left + size, top + size))
    return np.atleast_3d(np.asarray(picture)), fingerprint.digest(content)
