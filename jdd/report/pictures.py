"""A synthetic set as a picture."""

from pathlib import Path

import numpy as np
from PIL import Image

from jdd.preprocessing import Preprocess
from jdd.synthetic import SyntheticSet

_SIDE = 64  # pixels of one image in the picture, at least
_GAP = 4
_MOST_A_CLASS = 10


def grid(synthetic: SyntheticSet, preprocess: Preprocess) -> Image.Image:
    """The set's images, enlarged by whole pixels.

    Up to three images per class: one column a class and one row for each image. More: one row a
    class, with the first ten.
    """
    pixels = np.asarray(preprocess.invert(synthetic.images))
    labels = np.asarray(synthetic.hard_labels())
    rows = [pixels[labels == c][:_MOST_A_CLASS] for c in range(synthetic.num_classes)]
    columns = max(len(row) for row in rows)
    cells = np.ones((len(rows), columns, *pixels.shape[1:]), np.float32)
    for c, row in enumerate(rows):
        cells[c, : len(row)] = row
    if columns <= 3:
        cells = cells.swapaxes(0, 1)
    enlarge = max(1, -(-_SIDE // pixels.shape[1]))
    cells = cells.repeat(enlarge, axis=2).repeat(enlarge, axis=3)
    margins = [(0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0)]
    cells = np.pad(cells, margins, constant_values=1.0)
    r, k, h, w, channels = cells.shape
    sheet = cells.transpose(0, 2, 1, 3, 4).reshape(r * h, k * w, channels)
    sheet = np.pad(sheet, [(_GAP, 0), (_GAP, 0), (0, 0)], constant_values=1.0)
    levels = np.rint(sheet * 255).astype(np.uint8)
    return Image.fromarray(levels[..., 0] if channels == 1 else levels)


def save_picture(path: Path, synthetic: SyntheticSet, preprocess: Preprocess) -> None:
    """Writes `grid` as a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}")
    grid(synthetic, preprocess).save(part, format="PNG")
    part.replace(path)
