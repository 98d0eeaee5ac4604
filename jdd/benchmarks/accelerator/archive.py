"""CIFAR-10 out of an archive of JPEG files, which is small enough to be carried along."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from jdd.data.class_names import CIFAR10
from jdd.errors import UserError

_FOLDER = "cifar-10-batches-bin"
_BATCHES = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
_SIDE, _MOST_BYTES = 32, 2**20  # of a picture


def binary_version(place: Path, work: Path) -> Path:
    """The directory for `jdd.data.load`: `place` itself, or one with its archive unpacked.

    An archive is `*.tar`, `*.tar.gz` or `*.tar.xz`, its name begins with cifar10, and it holds
    `train/CLASS/*.jpg` and `test/CLASS/*.jpg`. It is unpacked once.

    Args:
      place: a directory of data, or an archive.
      work: where an archive is unpacked, as CIFAR-10's binary version.

    Raises:
      UserError: the archive is damaged, or holds something else.
    """
    archives = [place] if place.is_file() else sorted(place.glob("cifar10*.tar*"))
    binary = any((place / folder / "test_batch.bin").exists() for folder in ("", _FOLDER))
    if binary or not archives:
        return place
    target = work / _FOLDER
    if not (target / "test_batch.bin").exists():  # which is written last
        target.mkdir(parents=True, exist_ok=True)
        records = _records(archives[0])
        for split, names in _BATCHES.items():
            for name, part in zip(names, np.array_split(records[split], len(names)), strict=True):
                partial = target / f"{name}.partial"
                part.tofile(partial)
                partial.replace(target / name)
    return work


def _records(archive: Path) -> dict[str, np.ndarray]:
    """Records of train and test, uint8 `(n, 1 + 3 · 32 · 32)`, in the order of the file names."""
    records: dict[str, list[tuple[str, np.ndarray]]] = {"train": [], "test": []}
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                split, _, rest = member.name.removeprefix("./").partition("/")
                label = rest.partition("/")[0]
                if member.isfile() and split in records and label in CIFAR10:
                    pixels = _pixels(tar, member)
                    record = np.append(np.uint8(CIFAR10.index(label)), pixels)
                    # By number first, so that each batch has images of all classes.
                    records[split].append((f"{Path(rest).name} {label}", record))
    except (tarfile.TarError, OSError, EOFError, ValueError, SyntaxError) as error:
        raise UserError(f"{archive}: not a complete archive of pictures ({error})") from None
    if not all(records.values()):
        raise UserError(f"{archive}: it has no train/CLASS/*.jpg and test/CLASS/*.jpg of CIFAR-10")
    return {
        split: np.stack([record for _, record in sorted(of, key=lambda pair: pair[0])])
        for split, of in records.items()
    }


def _pixels(tar: tarfile.TarFile, member: tarfile.TarInfo) -> np.ndarray:
    """All red pixels, then all green, then all blue."""
    content = tar.extractfile(member)
    if content is None or member.size > _MOST_BYTES:
        raise ValueError(f"{member.name} is no picture")
    with Image.open(io.BytesIO(content.read()), formats=["JPEG", "PNG"]) as image:
        if image.size != (_SIDE, _SIDE):
            raise ValueError(f"{member.name} has {image.width}×{image.height} pixels")
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1).reshape(-1)
