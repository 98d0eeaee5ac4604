"""A synthetic set in formats that other programs read: one NPZ file, or a folder of PNGs."""

import csv
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from jdd.errors import SettingError
from jdd.files import atomic_replace
from jdd.preprocessing import Preprocess
from jdd.synthetic import IDENTITY, SyntheticSet


def to_npz(synthetic: SyntheticSet, preprocess: Preprocess, path: Path) -> Path:
    """Writes one compressed NumPy archive.

    Its arrays: `images` float32 `(n, h, w, c)` as networks see them, `pixels` uint8 of the same
    shape, `labels` int32 `(n,)`, `label_logits` float32 `(n, classes)` where the set's labels are
    soft, `learning_rate` where it has one, and `info`, the set's description as JSON text. Where
    other than pixels is stored: `storage`, and `decoder`, what turns it into images, as JSON text.

    Raises:
      UserError: the file exists, or cannot be written.
    """
    if path.exists():
        raise SettingError("to", path, "it exists already, name another file")
    arrays: dict[str, Any] = {
        "images": np.asarray(synthetic.images),
        "pixels": _pixels(synthetic, preprocess),
        "labels": np.asarray(synthetic.hard_labels(), np.int32),
        "info": np.array(json.dumps(synthetic.info.to_json())),
    }
    if synthetic.labels.ndim == 2:
        arrays["label_logits"] = np.asarray(synthetic.labels)
    if synthetic.learning_rate is not None:
        arrays["learning_rate"] = np.asarray(synthetic.learning_rate)
    if synthetic.decoder != IDENTITY:
        arrays |= _stored(synthetic)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_replace(path) as part, part.open("wb") as file:
            np.savez_compressed(file, **arrays)
    except OSError as error:
        raise SettingError(
            "to", path, f"it cannot be written ({error.strerror}), name another"
        ) from None
    return path


def to_folder(synthetic: SyntheticSet, preprocess: Preprocess, path: Path) -> Path:
    """Writes one PNG an image into a folder for each class, `labels.csv` and `info.json`.

    Where other than pixels is stored, `storage.npz` has it, as `to_npz` does.

    `labels.csv` has a row for each image: its file, its class, and the probability that its label
    gives each class, 0 or 1 where labels are hard. PNGs hold 8 bits and what lies in [0, 1]: values
    outside, which distilled images have, are cut off; `to_npz` keeps them.

    Raises:
      UserError: the folder exists and is not empty, or cannot be written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SettingError("to", path, "it exists already, name another folder")
    names = synthetic.info.class_names
    pixels, labels = _pixels(synthetic, preprocess), np.asarray(synthetic.hard_labels())
    probabilities = (
        np.asarray(jax.nn.softmax(synthetic.labels))
        if synthetic.labels.ndim == 2
        else np.eye(len(names))[labels]
    )
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        part.mkdir(parents=True)
        with (part / "labels.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["file", "class", *names])
            for i, (image, label) in enumerate(zip(pixels, labels, strict=True)):
                folder = f"{label:03d}-{re.sub(r'[^A-Za-z0-9]+', '-', names[label])}"
                (part / folder).mkdir(exist_ok=True)
                name = f"{folder}/{i:05d}.png"
                Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(part / name)
                table.writerow([name, names[label], *(f"{p:.6g}" for p in probabilities[i])])
        if synthetic.decoder != IDENTITY:
            np.savez_compressed(part / "storage.npz", **_stored(synthetic))
        (part / "info.json").write_text(json.dumps(synthetic.info.to_json(), indent=2) + "\n")
        if path.exists():
            path.rmdir()
        part.replace(path)
    except OSError as error:
        raise SettingError(
            "to", path, f"it cannot be written ({error.strerror}), name another"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return path


def _stored(synthetic: SyntheticSet) -> dict[str, Any]:
    """What is stored, where that is not the images, and how it decodes to them."""
    decoder = np.array(json.dumps(synthetic.decoder.to_json()))
    return {"storage": np.asarray(synthetic.storage), "decoder": decoder}


def _pixels(synthetic: SyntheticSet, preprocess: Preprocess) -> np.ndarray:
    levels = np.asarray(preprocess.invert(synthetic.images)) * 255
    return np.asarray(np.rint(np.clip(levels, 0, 255)), np.uint8)
