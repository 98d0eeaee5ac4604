"""The datasets that come with jdd: classes, constants, and files, which are read here."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from jdd import files
from jdd.data import cifar, class_names, idx, mhist, svhn, tfds, tiny_imagenet
from jdd.data.dataset import Split
from jdd.errors import UserError
from jdd.files import check_path

Splits = tuple[Split, Split]
NamedSplits = tuple[Split, Split, tuple[str, ...]]
MeanStd = tuple[Sequence[float], Sequence[float]]


@dataclasses.dataclass(frozen=True)
class Source:
    """One dataset: its classes, its files' layout, and its constants."""

    class_names: tuple[str, ...]  # empty: the files name them
    # Reads train and test from the first of the given directories that holds the files; pictures
    # are decoded to the given size, what else is read may have another.
    read_files: Callable[[Sequence[Path], int | None], Splits | NamedSplits | None]
    files: str  # what they are called, for the message when they are nowhere
    folders: tuple[str, ...]  # below the data directory, most telling name first
    tfds_name: str | None
    mean_std: MeanStd | None = None  # None: computed from the training images
    image_size: int | None = None  # None: as stored


IMAGENET_MEAN_STD: MeanStd = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# Mean and standard deviation are the constants of the published code (Dataset Condensation's
# and what followed), so that a set distilled here is in the same space as theirs. But trajectory
# matching's code normalises CIFAR-100 by CIFAR-10's where it does not whiten.
SOURCES: dict[str, Source] = {
    "mnist": Source(
        class_names.MNIST,
        lambda places, _: idx.read("mnist", places),
        "IDX files (train-images-idx3-ubyte …)",
        ("mnist", "mnist/raw", "MNIST/raw", "MNIST", "", "raw"),
        "mnist",
        ((0.1307,), (0.3081,)),
    ),
    "fashion_mnist": Source(
        class_names.FASHION_MNIST,
        lambda places, _: idx.read("fashion_mnist", places),
        "IDX files (train-images-idx3-ubyte …)",
        ("fashion_mnist", "fashion_mnist/raw", "FashionMNIST/raw", "FashionMNIST", "", "raw"),
        "fashion_mnist",
        ((0.2861,), (0.3530,)),
    ),
    "svhn": Source(
        class_names.SVHN,
        lambda places, _: svhn.read(places),
        "train_32x32.mat and test_32x32.mat",
        ("svhn", "SVHN", ""),
        "svhn_cropped",
        ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    ),
    "cifar10": Source(
        class_names.CIFAR10,
        lambda places, _: cifar.read("cifar10", places),
        "the binary version (data_batch_1.bin … test_batch.bin)",
        ("cifar10", "cifar10/cifar-10-batches-bin", "cifar-10-batches-bin", ""),
        "cifar10",
        ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    ),
    "cifar100": Source(
        class_names.CIFAR100,
        lambda places, _: cifar.read("cifar100", places),
        "the binary version (train.bin, test.bin)",
        ("cifar100", "cifar100/cifar-100-binary", "cifar-100-binary", ""),
        "cifar100",
        ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    ),
    "mhist": Source(
        class_names.MHIST,
        mhist.read,
        "annotations.csv next to images/",
        ("mhist", "MHIST", ""),
        None,  # MHIST may not be passed on: its users fetch it themselves, so TFDS lacks it
        image_size=128,
    ),
    "tiny_imagenet": Source(
        (),
        lambda places, _: tiny_imagenet.read(places),
        "wnids.txt next to train/ and val/",
        ("tiny_imagenet", "tiny-imagenet-200", ""),
        None,
        IMAGENET_MEAN_STD,
    ),
}


def read(
    name: str,
    source: Source,
    data_dir: str | os.PathLike[str] | None,
    image_size: int | None,
) -> Splits | NamedSplits:
    """A dataset from files, or from TensorFlow Datasets where no directory is named.

    Raises:
      UserError: no such directory, nothing of the dataset in it, or files that are damaged.
    """
    directory = data_dir if data_dir is not None else os.environ.get("JDD_DATA_DIR") or None
    if directory is None:
        if source.tfds_name is None:
            raise UserError(
                f"{name} cannot be downloaded: say where it lies with `data_dir` or JDD_DATA_DIR"
                f" ({source.files})"
            )
        return tfds.read_or_download(name, source.tfds_name, len(source.class_names))
    root = files.expanded(directory)
    check_path(root)
    try:
        if not root.is_dir():
            raise no_directory(root, "JDD_DATA_DIR")
        splits = source.read_files([root / folder for folder in source.folders], image_size)
        if splits is None and source.tfds_name is not None:
            splits = tfds.read_from(root, source.tfds_name, len(source.class_names))
        if splits is None:
            raise UserError(_not_found(name, source, root))
    except PermissionError as error:
        raise UserError(f"{error.filename}: no permission to read it") from error
    return splits


def no_directory(path: str | os.PathLike[str], called: str = "`data_dir`") -> UserError:
    """What is wrong with a path that is no directory."""
    why = "it is a file, name a directory" if Path(path).exists() else "it does not exist"
    return UserError(f"{called} {path}: {why}")


def _not_found(name: str, source: Source, root: Path) -> str:
    empty = " (it is empty)" if not any(root.iterdir()) else ""
    folders = ", ".join(f"{folder or '.'}/" for folder in source.folders)
    tried = f"`data_dir` {root}: no {name} there{empty}, looked for {source.files} in {folders}"
    if source.tfds_name is None:
        return f"{tried}; put them in {root / source.folders[0]}"
    return (
        f"{tried} and for a prepared TFDS set in {source.tfds_name}/; put the files in"
        f" {root / source.folders[0]}, or give no data directory to download them through TFDS"
    )
