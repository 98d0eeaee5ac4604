"""MHIST: histopathology images of colorectal polyps, a CSV of labels and a folder of PNGs."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jdd.data import decoded, fingerprint, pictures
from jdd.data.class_names import MHIST
from jdd.data.dataset import Split, checked
from jdd.data.resize import squeezed
from jdd.errors import UserError, shortened
from jdd.files import read_bytes

_IMAGE, _LABEL, _PARTITION = "Image Name", "Majority Vote Label", "Partition"


def read(directories: Sequence[Path], image_size: int | None = None) -> tuple[Split, Split] | None:
    """Train and test from the first directory that holds `annotations.csv`; None where none does.

    Images are squeezed to a square of `image_size` pixels; None: they stay as they are stored.

    Raises:
      UserError: a column, label or partition that is not MHIST's, or an image that is missing,
        damaged, or of another size than the rest.
    """
    for directory in directories:
        annotations = directory / "annotations.csv"
        if annotations.is_file():
            return _read(annotations, _rows(annotations), image_size)
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
            entry = f"{_IMAGE} {name[:80]!r}"
            raise UserError(f"{annotations} line {number}: {entry} is no file's name")
        for column, allowed in ((_LABEL, MHIST), (_PARTITION, ("train", "test"))):
            if row[column] not in allowed:
                raise UserError(
                    f"{annotations} line {number}: {column} '{shortened(row[column])}' is neither"
                    f" {allowed[0]} nor {allowed[1]}"
                )
    return rows


def _read(
    annotations: Path, rows: list[dict[str, str]], image_size: int | None
) -> tuple[Split, Split]:
    parts = [[row for row in rows if row[_PARTITION] == part] for part in ("train", "test")]
    root = annotations.parent
    wanted = [
        decoded.Wanted([root / "images" / row[_IMAGE] for row in part], root, f"mhist {name}")
        for name, part in zip((f"train, {image_size}", f"test, {image_size}"), parts, strict=True)
    ]
    sizes: dict[Path, tuple[int, int]] = {}

    def check(paths: Sequence[Path], _: list[np.ndarray]) -> None:
        for path in paths:
            (width, height), (first_width, first_height) = sizes[path], sizes[paths[0]]
            if sizes[path] != sizes[paths[0]]:
                raise UserError(
                    f"{path}: {height}×{width} pixels, but {paths[0].name} has"
                    f" {first_height}×{first_width}"
                )

    def image(path: Path) -> tuple[np.ndarray, bytes] | UserError:
        try:
            content = read_bytes(path)
            picture = pictures.decode(content, path, ["PNG"]).convert("RGB")
        except UserError as error:
            return error
        sizes[path] = picture.size
        if image_size is not None:
            picture = squeezed(picture, image_size)
        return np.asarray(picture), fingerprint.digest(content)

    loaded = decoded.read_all(wanted, image, check)
    splits = []
    for name, part, kept in zip(("train", "test"), parts, loaded, strict=True):
        labels = np.array([MHIST.index(row[_LABEL]) for row in part], np.int32)
        split = checked(kept.images, labels, len(MHIST), f"{annotations}, partition {name}")
        mark = fingerprint.of_digests(kept.digests, split.labels)
        splits.append(dataclasses.replace(split, fingerprint=mark))
    return splits[0], splits[1]
