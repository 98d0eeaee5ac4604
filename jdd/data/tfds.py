"""Datasets prepared, or downloaded, by TensorFlow Datasets.

A set prepared in the ArrayRecord format is read without TensorFlow. Downloading and preparing one,
and reading the older TFRecord format, need it: the extra `jdd[tfds]`.
"""

import contextlib
import importlib.util
import io
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from jdd import files
from jdd.data.dataset import Split, checked
from jdd.errors import UserError

_CHUNK = 256  # examples decoded by one thread in one go
_INSTALL = "install TensorFlow (pip install tensorflow)"

# Where TFDS fetches these sets from. Asked only whether there is a network at all, since without
# one TFDS tries again for minutes before it says so.
_HOSTS = (
    "https://storage.googleapis.com",
    "https://www.cs.toronto.edu",
    "http://ufldl.stanford.edu",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
)

_CORE = "tensorflow_datasets.core.features"
_FEATURES = (
    f"{_CORE}.features_dict.FeaturesDict",
    f"{_CORE}.image_feature.Image",
    f"{_CORE}.class_label_feature.ClassLabel",
    f"{_CORE}.text_feature.Text",
    f"{_CORE}.scalar.Scalar",
    f"{_CORE}.tensor_feature.Tensor",
)


def read_from(root: Path, name: str, num_classes: int) -> tuple[Split, Split] | None:
    """Train and test of the TFDS set prepared under `root`; None where none is.

    Raises:
      UserError: it is there but cannot be read.
    """
    if not (root / name).is_dir():  # spares the import of TFDS where there is nothing to find
        return None
    builder = _find_prepared(name, root)
    return None if builder is None else read_prepared(builder, num_classes)


def read_or_download(dataset: str, name: str, num_classes: int) -> tuple[Split, Split]:
    """Train and test from TFDS's default directory, downloaded and prepared first if need be.

    Raises:
      UserError: it is not prepared and cannot be: no TensorFlow, no network, a full disk.
    """
    builder = _find_prepared(name, None)
    if builder is None:
        builder = _download(dataset, name)
    return read_prepared(builder, num_classes)


def read_prepared(builder: Any, num_classes: int) -> tuple[Split, Split]:
    """Train and test of a prepared `tfds.core.DatasetBuilder` with features `image` and `label`.

    Raises:
      UserError: a split is missing, TensorFlow is needed and absent, or the files are damaged.
    """
    origin = f"TFDS set {builder.data_dir}"
    missing = {"train", "test"} - set(builder.info.splits)
    if missing:
        raise UserError(f"{origin}: no split '{sorted(missing)[0]}'")
    needs_tensorflow = builder.info.file_format.value != "array_record"
    if needs_tensorflow and not _has_tensorflow():
        raise UserError(
            f"{origin}: stored as {builder.info.file_format.value}, which TensorFlow reads:"
            f" {_INSTALL}, or prepare the set with file_format='array_record'"
        )
    read = _read_with_tensorflow if needs_tensorflow else _read_array_record
    splits = []
    for split in ("train", "test"):
        try:
            with _quiet():
                images, labels = read(builder, split)
        except Exception as error:  # TFDS, ArrayRecord, Protobuf and Pillow each raise their own
            raise UserError(
                f"{origin}: split '{split}' cannot be read ({files.first_line(error)})"
            ) from error
        splits.append(checked(images, labels, num_classes, f"{origin}, split '{split}'"))
    return splits[0], splits[1]


def _read_array_record(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    source = builder.as_data_source(split=split)
    n = len(source)

    def chunk(start: int) -> list[dict[str, Any]]:
        examples: list[dict[str, Any]] = source.__getitems__(
            list(range(start, min(start + _CHUNK, n)))
        )
        return examples

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        chunks = pool.map(chunk, range(0, n, _CHUNK))
        return _stack((example for examples in chunks for example in examples), n)


def _read_with_tensorflow(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    import tensorflow_datasets as tfds

    _tame_tensorflow()
    examples = tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False))
    return _stack(examples, builder.info.splits[split].num_examples)


def _stack(examples: Iterable[dict[str, Any]], n: int) -> tuple[np.ndarray, np.ndarray]:
    images: np.ndarray | None = None
    labels = np.empty(n, np.int64)
    for i, example in enumerate(examples):
        if images is None:
            images = np.empty((n, *example["image"].shape), np.uint8)
        images[i], labels[i] = example["image"], example["label"]
    return np.empty((0, 0, 0, 0), np.uint8) if images is None else images, labels


def _find_prepared(name: str, root: Path | None) -> Any | None:
    with _quiet():
        import tensorflow_datasets as tfds
        from tensorflow_datasets.core import constants, read_only_builder

        _check_files((Path(constants.DATA_DIR) if root is None else root) / name)
        where = {} if root is None else {"data_dir": str(root)}
        try:
            return read_only_builder.builder_from_files(name, **where)
        except tfds.core.DatasetNotFoundError:
            return None
        except (
            Exception
        ) as error:  # of JSON, Protobuf, TFDS: whatever damaged files make them raise
            place = name if root is None else root / name
            raise UserError(
                f"TFDS set {place} cannot be opened ({files.first_line(error)})"
            ) from error


def _check_files(place: Path) -> None:
    """Raises `UserError` for a set whose metadata name other classes than our sets have, or of
    which a file is none.

    TFDS imports what they name: a module from wherever Python finds one, whose code would run. And
    it would wait for a pipe.
    """
    entries = sorted(place.expanduser().rglob("*"))
    for path in entries:
        if not (path.is_file() or path.is_dir()):
            raise UserError(f"{path} is a pipe, a device or a link to nowhere: a file is needed")
    for path in (entry for entry in entries if entry.name == "features.json"):
        stack: list[Any] = [files.read_json(path)]
        while stack:
            value = stack.pop()
            if isinstance(value, dict):
                stack.extend(value.values())
                name = value.get("pythonClassName", _FEATURES[0])
            elif isinstance(value, list):
                stack.extend(value)
                continue
            else:
                continue
            if name not in _FEATURES:
                raise UserError(f"{path} names the class {str(name)[:80]!r}, which no set here has")


def _download(dataset: str, name: str) -> Any:
    import tensorflow_datasets as tfds

    with _quiet():
        builder = tfds.builder(name, file_format="array_record")
    tried = (
        f"no {dataset}: no data directory was given and TFDS has none prepared in"
        f" {builder.data_dir}; downloading it"
    )
    instead = "or give a directory that holds its files with `data_dir` or JDD_DATA_DIR"
    if not _has_tensorflow():
        raise UserError(f"{tried} through TFDS needs TensorFlow: {_INSTALL}, {instead}")
    if not _online():
        raise UserError(f"{tried} needs a network, and there is none: connect, {instead}")
    _tame_tensorflow()
    print(f"downloading {dataset} through TFDS: {builder.data_dir}", file=sys.stderr, flush=True)
    try:
        with _quiet():
            builder.download_and_prepare()
    except Exception as error:  # whatever the network, the disk or TensorFlow raise
        raise UserError(
            f"{tried} failed ({files.first_line(error)}); try again, {instead}"
        ) from error
    return builder


def _online() -> bool:
    import requests  # a dependency of TFDS, and as it does, it goes through the user's proxy

    for host in _HOSTS:
        with contextlib.suppress(requests.RequestException):
            requests.head(host, timeout=10)
            return True
    return False


def _has_tensorflow() -> bool:
    return importlib.util.find_spec("tensorflow") is not None


def _tame_tensorflow() -> None:
    tensorflow = importlib.import_module("tensorflow")
    # It would take all of the accelerator's memory, which JAX needs.
    with contextlib.suppress(RuntimeError):  # it is already running, in the caller's own way
        tensorflow.config.set_visible_devices([], "GPU")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS's progress bars, banners and advice out of the terminal."""
    # TFDS imports TensorFlow, where there is one, as soon as it is used; its compiled part reads
    # this then.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow_datasets as tfds

    loggers = [logging.getLogger(name) for name in ("absl", "urllib3")]
    levels = [logger.level for logger in loggers]
    tfds.disable_progress_bar()
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
