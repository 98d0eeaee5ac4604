"""A synthetic set in formats that other programs read."""

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from jdd import files, preprocessing
from jdd.errors import SettingError, UserError, nearest
from jdd.files import atomic_replace
from jdd.interop import guide
from jdd.preprocessing import Preprocess
from jdd.runs.result import RunResult
from jdd.synthetic import IDENTITY, SyntheticSet

_HALF = 0.5 / 255  # of an 8-bit step


class Format(NamedTuple):
    """A way to write a set."""

    write: Callable[[SyntheticSet, Preprocess | None, Path], None]
    """into a place that does not exist"""
    ending: str
    """of the file; empty: a folder"""


def export(
    synthetic: SyntheticSet,
    preprocess: Preprocess | None,
    path: Path,
    kind: str | None = None,
    result: RunResult | None = None,
) -> Path:
    """Writes the set, how to load and train on it (README.md) and, for PyTorch, `train.py`.

    In a folder, or next to a file under its name. Nothing that exists is replaced.

    Args:
      synthetic: the set.
      preprocess: of its dataset; None: as the set says, and for ZCA whose matrix the user's cache
        directory lacks, pixels are left out.
      path: a file or a folder that does not exist, or an empty folder.
      result: of the run, for the README; the best set's figures are taken.
      kind: one of `FORMATS`; None: by the ending of `path`, without one a folder of PNGs.

    Raises:
      SettingError: the path exists or cannot be written, or is of no format; or the format is
        pixels alone, and ZCA's matrix is not known.
      UserError: the package that writes the format is not installed.
    """
    kind = format_of(path, kind)
    preprocess = preprocess or preprocessing.from_spec(synthetic.info.preprocessing)
    if kind == "png" and preprocess is None:
        raise guide.no_pixels(synthetic)
    entry, cut = FORMATS[kind], None
    if preprocess is not None:
        cut = _cut(synthetic, preprocess)
    texts = guide.texts(synthetic, kind, path.name if entry.ending else "", result, cut)
    if not entry.ending:

        def fill(part: Path) -> None:
            entry.write(synthetic, preprocess, part)
            for name, text in texts.items():
                (part / name).write_text(text, encoding="utf-8")
            # For the README of what is exported from it.
            if kind in ("jdd", "jdd8") and result is not None:
                files.write_json(part / "result.json", {**result.to_json(), "out": ""})

        new_folder(path, fill)
        return path
    alongside = {path.with_name(f"{path.name}.{name}"): text for name, text in texts.items()}
    for place in (path, *alongside):
        if place.exists():
            raise SettingError("to", place, "it exists already, name another file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_replace(path) as part:
            entry.write(synthetic, preprocess, part)
        for place, text in alongside.items():
            place.write_text(text, encoding="utf-8")
    except OSError as error:
        for place in (path, *alongside):  # none of which was there
            place.unlink(missing_ok=True)
        raise _unwritten(path, error) from None
    return path


def format_of(path: Path, kind: str | None = None) -> str:
    """One of `FORMATS`: `kind`, or by the ending of `path`.

    Raises:
      SettingError: there is no such format, or it does not go with the path.
    """
    kind = _kind(path) if kind is None else kind
    if kind not in FORMATS:
        raise SettingError("format", f"'{kind}'", nearest(kind, FORMATS))
    entry = FORMATS[kind]
    if path.suffix != entry.ending and (entry.ending or path.suffix in _ENDINGS):
        wanted = f"a file that ends in {entry.ending}" if entry.ending else "a folder"
        raise SettingError("to", path, f"{kind} is {wanted}")
    return kind


def arrays(
    synthetic: SyntheticSet, preprocess: Preprocess | None
) -> dict[str, np.ndarray[Any, Any]]:
    """What a set is, as NumPy arrays.

    `images` float32 `(n, h, w, c)` as networks see them, `pixels` uint8 of the same shape where the
    preprocessing is known, `labels` int32 `(n,)`, `label_logits` float32 `(n, classes)` where the
    set's labels are soft, and `learning_rate`, the one step size to train with. Where other than
    pixels is stored, `storage`.
    """
    recipe = synthetic.info.recipe
    content = {
        "images": np.asarray(synthetic.images),
        "labels": np.asarray(synthetic.hard_labels(), np.int32),
        "learning_rate": np.asarray(recipe.step_size(synthetic.learning_rate), np.float32),
    }
    if preprocess is not None:
        content["pixels"] = _pixels(synthetic, preprocess)
    if synthetic.labels.ndim == 2:
        content["label_logits"] = np.asarray(synthetic.labels)
    if synthetic.decoder != IDENTITY:
        content["storage"] = np.asarray(synthetic.storage)
    return content


def _npz(synthetic: SyntheticSet, preprocess: Preprocess | None, path: Path) -> None:
    """The arrays, and the descriptions of set and decoder as JSON text."""
    content: dict[str, Any] = arrays(synthetic, preprocess)
    content |= {name: np.array(text) for name, text in _described(synthetic).items()}
    with path.open("wb") as file:
        np.savez_compressed(file, **content)


def _safetensors(synthetic: SyntheticSet, preprocess: Preprocess | None, path: Path) -> None:
    """The arrays; the descriptions are the file's metadata."""
    save = guide.imported("safetensors.numpy", "safetensors").save
    plain = {k: np.ascontiguousarray(v) for k, v in arrays(synthetic, preprocess).items()}
    path.write_bytes(save(plain, metadata=_described(synthetic)))


def _png(synthetic: SyntheticSet, preprocess: Preprocess | None, path: Path) -> None:
    """One PNG an image in a folder for each class, `labels.csv` and `info.json`.

    `labels.csv` has a row for each image: its file, its class, and the probability that its label
    gives each class, 0 or 1 where labels are hard.
    """
    assert preprocess is not None
    names = synthetic.info.class_names
    pixels, labels = _pixels(synthetic, preprocess), np.asarray(synthetic.hard_labels())
    probabilities = (
        np.asarray(jax.nn.softmax(synthetic.labels))
        if synthetic.labels.ndim == 2
        else np.eye(len(names))[labels]
    )
    with (path / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "class", *names])
        for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            folder = f"{label:03d}-{re.sub(r'[^A-Za-z0-9]+', '-', names[label])}"
            (path / folder).mkdir(exist_ok=True)
            name = f"{folder}/{i:05d}.png"
            (path / name).write_bytes(_encoded(image))
            table.writerow([name, names[label], *(f"{p:.6g}" for p in probabilities[i])])
    if synthetic.decoder != IDENTITY:
        decoder = np.array(_described(synthetic)["decoder"])
        stored = np.asarray(synthetic.storage)
        np.savez_compressed(path / "storage.npz", storage=stored, decoder=decoder)
    (path / "info.json").write_text(json.dumps(synthetic.info.to_json(), indent=2) + "\n")


def _huggingface(synthetic: SyntheticSet, preprocess: Preprocess | None, path: Path) -> None:
    """A folder for `datasets.load_dataset`: one Parquet file.

    Columns: `image` where the preprocessing is known, `label` and, as the pictures are cut to 8
    bits, `values`, the image as networks see it, row by row; `label_logits` where labels are soft.
    """
    arrow, parquet = (guide.imported(f"pyarrow{x}", "pyarrow") for x in ("", ".parquet"))
    content, names = arrays(synthetic, preprocess), list(synthetic.info.class_names)
    features: dict[str, Any] = {"label": {"names": names, "_type": "ClassLabel"}}
    columns = {"label": arrow.array(content["labels"].astype(np.int64))}
    if "pixels" in content:
        encoded = [{"bytes": _encoded(image), "path": None} for image in content["pixels"]]
        picture = arrow.struct({"bytes": arrow.binary(), "path": arrow.string()})
        features = {"image": {"_type": "Image"}, **features}
        columns = {"image": arrow.array(encoded, picture), **columns}
    for column, name in (("values", "images"), ("label_logits", "label_logits")):
        if name in content:
            rows = content[name].reshape(len(content["labels"]), -1).tolist()
            columns[column] = arrow.array(rows, arrow.list_(arrow.float32()))
            features[column] = {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "List"}
    table = arrow.table(columns).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}}), **_described(synthetic)}
    )
    (path / "data").mkdir()
    parquet.write_table(table, path / "data" / "train-00000-of-00001.parquet")


def _pt(synthetic: SyntheticSet, preprocess: Preprocess | None, path: Path) -> None:
    """`images_best.pt` (n, c, h, w), `labels_best.pt` and `lr_best.pt`, as published code has them.

    Labels are int64 classes or, where soft, float32 logits, as the code of DATM stores them.
    """
    torch = guide.imported("torch", "torch")
    content = arrays(synthetic, preprocess)
    labels = content.get("label_logits", content["labels"].astype(np.int64))
    channels_first = content["images"].transpose(0, 3, 1, 2)
    torch.save(torch.from_numpy(np.array(channels_first)), path / "images_best.pt")
    torch.save(torch.from_numpy(np.array(labels)), path / "labels_best.pt")
    torch.save(torch.tensor(float(content["learning_rate"])), path / "lr_best.pt")
    (path / "info.json").write_text(json.dumps(synthetic.info.to_json(), indent=2) + "\n")


def _jdd(
    synthetic: SyntheticSet, preprocess: Preprocess | None, path: Path, *, eight_bits: bool = False
) -> None:
    """The set as a run stores it, without the rest of the run."""
    del preprocess
    synthetic.save(path, eight_bits=eight_bits)


FORMATS = {
    "jdd": Format(_jdd, ""),
    "jdd8": Format(partial(_jdd, eight_bits=True), ""),
    "npz": Format(_npz, ".npz"),
    "safetensors": Format(_safetensors, ".safetensors"),
    "png": Format(_png, ""),
    "huggingface": Format(_huggingface, ""),
    "pt": Format(_pt, ""),
}
"""The formats by name."""
_ENDINGS = {entry.ending: name for name, entry in FORMATS.items() if entry.ending}


def _kind(path: Path) -> str:
    if path.suffix in _ENDINGS or not path.suffix or path.is_dir():
        return _ENDINGS.get(path.suffix, "png")
    endings = " or ".join(_ENDINGS)
    raise SettingError(
        "to", path, f"a file ends in {endings}, and a new folder's name has no ending"
    )


def new_folder(path: Path, fill: Callable[[Path], Any], setting: str = "to") -> None:
    """Makes a folder whole or not at all.

    Args:
      path: of a folder that does not exist, or is empty.
      fill: writes into the folder that it is given, which becomes `path`.
      setting: which setting names it.

    Raises:
      SettingError: the folder is not empty, or cannot be written.
    """
    if not path.name:
        raise SettingError(setting, path, "name a new folder")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SettingError(setting, path, "it exists already, name another folder")
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        part.mkdir(parents=True)
        fill(part)
        if path.exists():
            path.rmdir()
        part.replace(path)
    except OSError as error:
        raise _unwritten(path, error, setting) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _unwritten(path: Path, error: OSError, setting: str = "to") -> UserError:
    why = f"it cannot be written ({error.strerror}), name another"
    return SettingError(setting, path, why)


def _described(synthetic: SyntheticSet) -> dict[str, str]:
    """The set's description and, where other than pixels is stored, the decoder's, as JSON text."""
    texts = {"info": json.dumps(synthetic.info.to_json())}
    if synthetic.decoder != IDENTITY:
        texts["decoder"] = json.dumps(synthetic.decoder.to_json())
    return texts


def _encoded(image: np.ndarray[Any, Any]) -> bytes:
    """A PNG of (h, w, c) uint8."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, format="PNG")
    return file.getvalue()


def _pixels(synthetic: SyntheticSet, preprocess: Preprocess) -> np.ndarray[Any, Any]:
    levels = np.asarray(preprocess.invert(synthetic.images)) * 255
    return np.asarray(np.rint(np.clip(levels, 0, 255)), np.uint8)


def _cut(synthetic: SyntheticSet, preprocess: Preprocess) -> guide.Cut:
    """What `_pixels` lack."""
    values = np.asarray(preprocess.unclipped(synthetic.images), np.float64)
    outside = (values < -_HALF) | (values > 1 + _HALF)  # what rounds to 0 or 255 is not cut
    change = np.abs(values - _pixels(synthetic, preprocess) / 255.0)
    return guide.Cut(float(outside.mean()), float(change.mean()))
