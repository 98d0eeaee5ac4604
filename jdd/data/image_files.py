"""Pictures on the disk, listed with their labels, as arrays."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jdd.data import decoded, fingerprint, pictures
from jdd.data.dataset import Split, checked
from jdd.errors import SettingError, UserError
from jdd.files import read_bytes

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
FORMATS = ("PNG", "JPEG", "WEBP")
Listed = list[tuple[Path, int]]
"""pictures with their labels"""


def below(folder: Path) -> list[Path]:
    """All pictures in a folder and in folders of it, but none whose name begins with a dot.

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


def wanted(
    root: Path, listed: Sequence[Listed], size: int | None = None, subset: str = ""
) -> list[decoded.Wanted]:
    """The files of the training and the test list, by the names under which they are kept."""
    return [
        decoded.Wanted([path for path, _ in each], root, f"{part} {subset} {size}")
        for each, part in zip(listed, ("train", "test"), strict=True)
    ]


def read(
    files: Sequence[decoded.Wanted], listed: Sequence[Listed], classes: int, size: int | None
) -> list[Split]:
    """The pictures of each list, cut to a square of `size` pixels where one is named.

    Raises:
      UserError: damaged images, all of them named.
      SettingError: images of several sizes, and no `size`.
    """
    loaded = decoded.read_all(files, lambda path: _image(path, size), _check_sizes)
    splits = []
    for each, of_files, kept in zip(listed, files, loaded, strict=True):
        labels = np.array([label for _, label in each], np.int32)
        split = checked(
            kept.images, labels, classes, f"{of_files.root}, {of_files.name.split()[0]}"
        )
        mark = fingerprint.of_digests(kept.digests, split.labels)
        splits.append(dataclasses.replace(split, fingerprint=mark))
    return splits


def alike(train: Split, test: Split) -> tuple[Split, Split]:
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


def _image(path: Path, size: int | None) -> tuple[np.ndarray, bytes] | UserError:
    """The image `(h, w, 1 or 3)` uint8 and its file's digest, or why it cannot be read."""
    from PIL.Image import Resampling

    try:
        content = read_bytes(path)
        picture = pictures.decode(content, path, FORMATS)
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
