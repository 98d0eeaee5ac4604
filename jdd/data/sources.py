"""The datasets that come with jdd: their classes, where their files are, and their constants."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from jdd.data import cifar, class_names, folder, idx, mhist, svhn
from jdd.data.dataset import Split

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
        lambda places, _: folder.read_tiny_imagenet(places),
        "wnids.txt next to train/ and val/",
        ("tiny_imagenet", "tiny-imagenet-200", ""),
        None,
        IMAGENET_MEAN_STD,
    ),
}
