"""The readers of datasets, and of what is kept of them."""

import contextlib
import io
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from jdd.errors import UserError
from tests.fuzz.reader import DIRECTORIES, Reader


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _pixels(*shape: int) -> np.ndarray:
    return _rng().integers(0, 256, shape, dtype=np.uint8)


def _splits(result: Any) -> Any:
    """What every reader of a dataset promises: uint8 images, as many int32 labels."""
    if result is None:
        return None
    for split in result[:2]:
        assert split.images.dtype == np.uint8 and split.images.ndim == 4
        assert split.labels.dtype == np.int32 and len(split.images) == len(split.labels) > 0
    return [split.images.shape for split in result[:2]]


def _make_idx(place: Path) -> None:
    import gzip
    import struct

    for part, n in (("train", 12), ("t10k", 5)):
        images = struct.pack(">IIII", 0x803, n, 4, 4) + _pixels(n, 4, 4).tobytes()
        labels = struct.pack(">II", 0x801, n) + bytes(i % 10 for i in range(n))
        (place / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images, mtime=0))
        (place / f"{part}-labels-idx1-ubyte").write_bytes(labels)


def _read_idx(place: Path) -> Any:
    from jdd.data import idx

    return _splits(idx.read("mnist", [place]))


def _make_cifar(place: Path) -> None:
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        (place / name).write_bytes(bytes([3]) + _pixels(3072).tobytes())


def _read_cifar(place: Path) -> Any:
    from jdd.data import cifar

    return _splits(cifar.read("cifar10", [place]))


def _make_svhn(place: Path) -> None:
    from scipy.io import savemat

    for name, compressed in (("train_32x32.mat", False), ("test_32x32.mat", True)):
        arrays = {"X": _pixels(32, 32, 3, 2), "y": np.array([[10], [3]], np.uint8)}
        savemat(place / name, arrays, do_compression=compressed)


def _read_svhn(place: Path) -> Any:
    from jdd.data import svhn

    return _splits(svhn.read([place]))


def picture(path: Path, kind: str) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_pixels(6, 6, 3)).save(path, kind)


def _make_mhist(place: Path) -> None:
    rows = ["Image Name,Majority Vote Label,Number of Annotators who Selected SSA,Partition"]
    for i, (label, part) in enumerate((("HP", "train"), ("SSA", "train"), ("HP", "test"))):
        rows.append(f"{i}.png,{label},3,{part}")
        picture(place / "images" / f"{i}.png", "PNG")
    (place / "annotations.csv").write_text("\n".join(rows) + "\n")


def _read_mhist(place: Path) -> Any:
    from jdd.data import mhist

    with _nothing_kept():
        return _splits(mhist.read([place]))


def _make_folder(place: Path) -> None:
    for part in ("train", "test"):
        picture(place / part / "cat" / "0.png", "PNG")
        picture(place / part / "dog" / "1.jpg", "JPEG")


def _read_folder(place: Path) -> Any:
    from jdd.data import folder

    with _nothing_kept():
        with contextlib.suppress(UserError):  # it may be what is to be read that is refused
            folder.traits(place, None)
        return _splits(folder.read(place, None))


def _nothing_kept() -> Any:
    """Pictures are decoded every time."""
    return mock.patch.dict("os.environ", JDD_CACHE_DIR="/dev/null/nowhere")


def _decoded(place: Path) -> Any:
    from jdd.data import decoded

    wanted = decoded.Wanted([Path("a.png"), Path("b.png")], Path("/nowhere"), "train")
    with mock.patch.dict("os.environ", JDD_CACHE_DIR=str(place)):
        return wanted, wanted.path


def _make_decoded(place: Path) -> None:
    from jdd.data import decoded

    made = decoded.Pictures(_pixels(2, 4, 4, 3), (bytes(16), bytes(16)))
    decoded._write(_decoded(place)[1], "mark", made)


def _read_decoded(place: Path) -> Any:
    """As they were kept, or not at all: they are decoded again then."""
    from jdd.data import decoded

    wanted = _decoded(place)[0]
    with mock.patch.dict("os.environ", JDD_CACHE_DIR=str(place)):
        loaded = decoded._kept(wanted, "mark")
    return None if loaded is None else (loaded.images.tobytes(), loaded.digests)


def _make_tiny_imagenet(place: Path) -> None:
    (place / "wnids.txt").write_text("n01\nn02\n")
    (place / "words.txt").write_text("n01\tgoldfish, carp\nn02\ttailed frog\n")
    picture(place / "train" / "n01" / "images" / "n01_0.JPEG", "JPEG")
    picture(place / "train" / "n02" / "images" / "n02_0.JPEG", "JPEG")
    picture(place / "val" / "images" / "val_0.JPEG", "JPEG")
    (place / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t9\t9\n")


def _read_tiny_imagenet(place: Path) -> Any:
    from jdd.data import tiny_imagenet

    with _nothing_kept():
        return _splits(tiny_imagenet.read([place]))


def _make_tfds(place: Path) -> None:
    from tests.data.test_tfds import prepare

    with contextlib.redirect_stdout(io.StringIO()):
        prepare(place, splits=(("train", 12), ("test", 5)))


def _read_tfds(place: Path) -> Any:
    from jdd.data import tfds

    return _splits(tfds.read_from(place, "mnist", 10))


def _make_whitening(place: Path) -> None:
    _read_whitening(place)


def _read_whitening(place: Path) -> Any:
    """Damaged or not, the numbers are those of the images."""
    import os

    from jdd import preprocessing

    os.environ["JDD_CACHE_DIR"] = str(place)
    fitted = preprocessing.fit("zca", _pixels(20, 3, 3, 3))
    assert fitted.zca is not None
    return [np.asarray(a).tobytes() for a in (fitted.zca.mean, fitted.zca.unwhiten)]


def _make_arrays(place: Path) -> None:
    labels = np.arange(12) % 3
    np.savez(place / "a.npz", images=_pixels(12, 4, 4), labels=labels, class_names=[*"abc"])
    np.savez_compressed(place / "b.npz", images=_pixels(12, 4, 4, 3), labels=labels)


def _read_arrays(place: Path) -> Any:
    from jdd.data import arrays

    with contextlib.suppress(UserError):
        for name in ("a.npz", "b.npz"):
            arrays.traits(place / name)
    return [_splits(arrays.read(place / name)) for name in ("a.npz", "b.npz")]


READERS = {
    "idx": Reader(_make_idx, _read_idx),
    "cifar": Reader(_make_cifar, _read_cifar),
    "svhn": Reader(_make_svhn, _read_svhn),
    "mhist": Reader(_make_mhist, _read_mhist),
    "folder": Reader(_make_folder, _read_folder),
    "decoded": Reader(_make_decoded, _read_decoded, is_exact=True),
    "tiny_imagenet": Reader(_make_tiny_imagenet, _read_tiny_imagenet),
    "tfds": Reader(_make_tfds, _read_tfds, DIRECTORIES),
    "whitening": Reader(_make_whitening, _read_whitening, is_exact=True),
    "arrays": Reader(_make_arrays, _read_arrays),
}
