"""MHIST: histopathology images of colorectal polyps, a CSV of labels and a folder of PNGs."""

import csv
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from jdd.data.class_names import MHIST
from jdd.data.dataset import Split, checked
from jdd.data.pictures import read_rgb
from jdd.errors import UserError
from jdd.files import read_bytes

_IMAGE, _LABEL, _PARTITION = "Image Name", "Majority Vote Label", "Partition"


def read(directories: Sequence[Path]) -> tuple[Split, Split] | None:
    """Train and test at the stored size from the first directory that holds `annotations.csv`.

    Returns None where none does.

    Raises:
      UserError: a column, label or partition that is not MHIST's, or an image that is missing,
        damaged, or of another size than the rest.
    """
    for directory in directories:
        annotations = directory / "annotations.csv"
        if annotations.is_file():
            rows = _rows(annotations)
            return (
                _read_split(annotations, rows, "train"),
                _read_split(annotations, rows, "test"),
            )
    return None


def _rows(annotations: Path) -> list[dict[str, str]]:
    try:
        text = read_bytes(annotations).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        missing = {_IMAGE, _LABEL, _PARTITION} - set(reader.fieldnames or ())
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{annotations}: cannot be read ({error})") from error
    if missing:
        raise UserError(f"{annotations}: no column '{sorted(missing)[0]}'")
    for number, row in enumerate(rows, start=2):
        name = row[_IMAGE] or ""
        if not name or "\0" in name or Path(name).name != name:
            shown = f"{_IMAGE} {name[:80]!r}"
            raise UserError(f"{annotations} line {number}: {shown} is no file's name")
        for column, allowed in ((_LABEL, MHIST), (_PARTITION, ("train", "test"))):
            if row[column] not in allowed:
                raise UserError(
                    f"{annotations} line {number}: {column} '{row[column]}' is neither"
                    f" {allowed[0]} nor {allowed[1]}"
                )
    return rows


def _read_split(annotations: Path, rows: list[dict[str, str]], partition: str) -> Split:
    rows = [row for row in rows if row[_PARTITION] == partition]
    paths = [annotations.parent / "images" / row[_IMAGE] for row in rows]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = list(pool.map(_read_image, paths))
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            raise UserError(
                f"{path}: {image.shape[0]}×{image.shape[1]} pixels, but {paths[0].name} has"
                f" {images[0].shape[0]}×{images[0].shape[1]}"
            )
    labels = np.array([MHIST.index(row[_LABEL]) for row in rows], np.int32)
    stacked = np.stack(images) if images else np.zeros((0, 224, 224, 3), np.uint8)
    return checked(stacked, labels, len(MHIST), f"{annotations}, partition {partition}")


def _read_image(path: Path) -> np.ndarray:
    return np.asarray(read_rgb(path, ["PNG"]))
