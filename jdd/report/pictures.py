"""A synthetic set as a picture."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from jdd.data import Split
from jdd.files import atomic_replace
from jdd.preprocessing import Preprocess
from jdd.synthetic import MultiFormation, SyntheticSet

_SIDE = 64  # pixels of one image in the picture, at least
_GAP = 4
_STRIP = 8  # height of the strip that shows a soft label
_MOST_A_CLASS = 10


def grid(synthetic: SyntheticSet, preprocess: Preprocess) -> Image.Image:
    """The set's images, enlarged by whole pixels.

    Up to three images per class: one column a class and one row for each image. More: one row a
    class, with the first ten. Soft labels are shown below each image as one field for each class,
    from the first to the last: white is none of the label, black all of it.
    """
    pixels = np.asarray(preprocess.invert(synthetic.images))
    enlarge = max(1, -(-_SIDE // pixels.shape[1]))
    pixels = pixels.repeat(enlarge, axis=1).repeat(enlarge, axis=2)
    labels = synthetic.classes()
    if synthetic.labels.ndim == 2:
        pixels = np.concatenate([pixels, _label_strips(synthetic.labels, pixels)], axis=1)
    rows = [pixels[labels == c][:_MOST_A_CLASS] for c in range(synthetic.num_classes)]
    return _sheet(rows, across=max(len(row) for row in rows) <= 3)


def _label_strips(logits: Any, pixels: np.ndarray) -> np.ndarray:
    """A strip for each image, as wide as it: `(n, height, w, c)`."""
    fractions = np.asarray(jax.nn.softmax(logits))
    n, _, width, channels = pixels.shape
    field = np.arange(width) * fractions.shape[1] // width
    strip = 1 - fractions[:, field]
    return np.broadcast_to(strip[:, None, :, None], (n, _STRIP, width, channels))


def extremes(split: Split, ranks: np.ndarray, classes: int, each: int = 8) -> Image.Image:
    """The easiest and, behind a gap, the hardest images of each class, one row a class.

    Args:
      split: real images.
      ranks: `jdd.difficulty.ranks` of them.
      classes: how many there are.
      each: easiest, and hardest, images of a class.
    """
    enlarge = max(1, -(-_SIDE // split.images.shape[1]))
    rows = []
    for label in range(classes):
        members = np.flatnonzero(split.labels == label)
        order = members[np.argsort(ranks[members], kind="stable")]
        blank = np.ones((1, *split.images.shape[1:]), np.float32)
        easy, hard = (split.images[at] / np.float32(255) for at in (order[:each], order[-each:]))
        row = np.concatenate([easy, blank, hard])
        rows.append(row.repeat(enlarge, axis=1).repeat(enlarge, axis=2))
    return _sheet(rows, across=False)


def save_extremes(path: Path, split: Split, ranks: np.ndarray, classes: int) -> None:
    """Writes `extremes` as a PNG."""
    _save(extremes(split, ranks, classes), path)


def _sheet(rows: list[np.ndarray], across: bool) -> Image.Image:
    """Rows of images `(k, h, w, c)` in [0, 1] with gaps between; `across` makes them columns."""
    columns = max(len(row) for row in rows)
    cells = np.ones((len(rows), columns, *rows[0].shape[1:]), np.float32)
    for c, row in enumerate(rows):
        cells[c, : len(row)] = row
    if across:
        cells = cells.swapaxes(0, 1)
    margins = [(0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0)]
    cells = np.pad(cells, margins, constant_values=1.0)
    r, k, h, w, channels = cells.shape
    sheet = cells.transpose(0, 2, 1, 3, 4).reshape(r * h, k * w, channels)
    sheet = np.pad(sheet, [(_GAP, 0), (_GAP, 0), (0, 0)], constant_values=1.0)
    levels = np.rint(sheet * 255).astype(np.uint8)
    return Image.fromarray(levels[..., 0] if channels == 1 else levels)


def save_picture(path: Path, synthetic: SyntheticSet, preprocess: Preprocess) -> None:
    """Writes `grid` as a PNG; where several images are stored in one, those too, as `-stored`."""
    _save(grid(synthetic, preprocess), path)
    if isinstance(synthetic.decoder, MultiFormation):
        stored = SyntheticSet.store(synthetic.storage, synthetic.info)
        _save(grid(stored, preprocess), path.with_stem(f"{path.stem}-stored"))


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(path) as part:
        picture.save(part, format="PNG")
