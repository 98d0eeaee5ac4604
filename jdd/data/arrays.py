"""Images in the arrays of an `.npz` file: the user's own."""

import contextlib
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jdd import files
from jdd.data.dataset import Split, checked
from jdd.data.folder import TEST_FRACTION
from jdd.data.shapes import Traits
from jdd.data.splits import hold_out
from jdd.errors import UserError, shortened

_MOST_BYTES = 2**36  # of the file, and of all arrays, unpacked
_NAMES = ("images", "labels", "test_images", "test_labels", "class_names")


def read(path: Path) -> tuple[Split, Split, tuple[str, ...]]:
    """Train, test and class names of a file that `numpy.savez` wrote.

    Its arrays are `images` `(n, h, w)` or `(n, h, w, c)` uint8 and `labels` `(n,)` integers and,
    where they are there, `test_images`, `test_labels` and `class_names` (strings). Without a test
    split, `TEST_FRACTION` of each class is drawn for it, the same ones every time. Without names,
    classes are called by their numbers.

    Raises:
      UserError: the file is missing, damaged, or of other arrays.
    """
    with _opened(path) as archive:
        arrays = _arrays(path, archive, _NAMES)
    if ("test_images" in arrays) != ("test_labels" in arrays):
        raise UserError(f"{path}: test_images and test_labels go together")
    names = _class_names(path, arrays)
    train = _split(path, arrays, "", len(names))
    if "test_images" not in arrays:
        return *_held_out(path, train), names
    test = _split(path, arrays, "test_", len(names))
    shapes = [split.images.shape[1:] for split in (train, test)]
    if shapes[0] != shapes[1]:
        raise UserError(f"{path}: images are {shapes[0]}, test_images {shapes[1]}")
    return train, test, names


def traits(path: Path) -> Traits:
    """What settings are chosen by; the images themselves stay unread.

    Raises:
      UserError: see `read`.
    """
    with _opened(path) as archive:
        arrays = _arrays(path, archive, ("labels", "test_labels", "class_names"))
        with archive.open("images.npy") as images:
            version = np.lib.format.read_magic(images)
            read_header = np.lib.format.read_array_header_2_0
            if version == (1, 0):
                read_header = np.lib.format.read_array_header_1_0
            shape = read_header(images)[0]
    if len(shape) not in (3, 4):
        raise UserError(f"{path}: images are of shape {shape}")
    classes, labels = len(_class_names(path, arrays)), arrays["labels"].astype(np.int64)
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(f"{path}: a label is outside 0 to {classes - 1}")
    if "test_labels" not in arrays:
        labels = _held_out(path, Split(labels, labels))[0].labels
    return Traits.of((*shape[1:], 1)[:3], labels, classes)


def _held_out(path: Path, split: Split) -> tuple[Split, Split]:
    """`TEST_FRACTION` of each class as the test."""
    otherwise = "add test_images and test_labels"
    return hold_out(
        split, TEST_FRACTION, seed=0, whose=f"`dataset` arrays:{path}", otherwise=otherwise
    )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The file as an archive; what is wrong with it, in the block too, is a `UserError`."""
    files.check_path(path)
    if path.is_dir():
        raise UserError(
            f"{path} is a directory: of images it is `dataset` folder:{path.absolute()}"
        )
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is a pipe or a device: a file is needed")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            if unpacked > _MOST_BYTES:
                raise UserError(f"{path}: {unpacked / 2**30:,.0f} GiB of arrays are too many")
            yield archive
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not an .npz of plain arrays ({str(error)[:120]})") from None
    except zipfile.BadZipFile as error:
        single = "a single array, and an .npz of several is needed"
        why = single if path.suffix == ".npy" else f"damaged ({str(error)[:120]})"
        raise UserError(f"{path}: {why}") from None
    except (zlib.error, lzma.LZMAError, RuntimeError, MemoryError) as error:
        raise UserError(f"{path}: damaged ({str(error)[:120]})") from None


def _arrays(
    path: Path, archive: zipfile.ZipFile, wanted: Sequence[str]
) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of these names that are there, once images and labels are."""
    present = {name.removesuffix(".npy") for name in archive.namelist()}
    for name in ("images", "labels"):
        if name not in present:
            others = shortened(", ".join(sorted(present))) or "nothing"
            raise UserError(f"{path}: no array '{name}' in it, but {others}")
    arrays = {}
    for name in wanted:
        if name in present:
            with archive.open(f"{name}.npy") as file:
                arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def _class_names(path: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> tuple[str, ...]:
    labels = arrays["labels"]
    if labels.shape == (0,):
        raise UserError(f"{path}: no images in it")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise UserError(f"{path}: labels are {_type(labels)}: whole numbers (n,) are needed")
    if "class_names" not in arrays:
        most = int(labels.max())
        if not 0 <= most < 100_000:
            raise UserError(f"{path}: the largest label is {most}: classes count from 0")
        return tuple(map(str, range(most + 1)))
    names = arrays["class_names"]
    if names.dtype.kind != "U" or names.ndim != 1:
        raise UserError(f"{path}: class_names are {_type(names)}: strings are needed, one a class")
    return tuple(map(str, names))


def _split(path: Path, arrays: dict[str, np.ndarray[Any, Any]], kind: str, classes: int) -> Split:
    images, labels = arrays[f"{kind}images"], arrays[f"{kind}labels"]
    channels = (*images.shape, 1)[3:4]
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or channels not in ((1,), (3,)):
        raise UserError(
            f"{path}: {kind}images are {_type(images)}: uint8 (n, h, w) or (n, h, w, 1 or 3) from"
            " 0 to 255 are needed"
        )
    images = images.reshape(*images.shape[:3], *channels)
    return checked(images, labels, classes, f"{path}, {kind}labels")


def _type(array: np.ndarray[Any, Any]) -> str:
    return f"{array.dtype} {array.shape}"
