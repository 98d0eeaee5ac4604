"""A synthetic set as a picture."""

import contextlib
import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jdd.data import Split
from jdd.data.pictures import read as read_picture
from jdd.errors import UserError
from jdd.files import atomic_replace
from jdd.preprocessing import Preprocess
from jdd.synthetic import MultiFormation, SyntheticSet

_SIDE = 96  # pixels of one image in the picture, at least
_GAP = 4
_STRIP = 8  # height of the strip that shows a soft label
_MOST_A_CLASS = 10
_LETTERS, _LINE = 12, 18  # pixels of letters, and of a line of them
_MOST_LEFT = 120  # pixels for the classes' names at the left
_MOST_FRAMES, _FRAME = 50, 500  # of the animation; milliseconds of one


def grid(synthetic: SyntheticSet, preprocess: Preprocess) -> Image.Image:
    """The set's images, enlarged by whole pixels.

    Up to four images per class: one column a class and one row for each image. More: one row a
    class, with the first ten. Soft labels are shown below each image as one field for each class,
    from the first to the last: white is none of the label, black all of it.

    Where more than a hundredth of the values lie beyond either end of [0, 1], as distilled ones do
    after ZCA, the range of the middle 98 % is shown, so that shapes are seen.
    """
    pixels, _ = _scaled_pixels(synthetic, preprocess)
    enlarge = max(1, -(-_SIDE // pixels.shape[1]))
    pixels = pixels.repeat(enlarge, axis=1).repeat(enlarge, axis=2)
    labels = synthetic.classes()
    if synthetic.labels.ndim == 2:
        pixels = np.concatenate([pixels, _label_strips(synthetic.labels, pixels)], axis=1)
    rows = [pixels[labels == c][:_MOST_A_CLASS] for c in range(synthetic.num_classes)]
    return _sheet(rows, across=_across(synthetic))


def _scaled_pixels(synthetic: SyntheticSet, preprocess: Preprocess) -> tuple[np.ndarray, bool]:
    """Pixels `(n, h, w, c)` in [0, 1], and whether another range was scaled to it."""
    pixels = np.asarray(preprocess.unclipped(synthetic.images))
    low, high = np.percentile(pixels, [1, 99])
    low, high = min(low, 0.0), max(high, 1.0)
    return np.clip((pixels - low) / (high - low), 0, 1), bool(low < 0 or high > 1)


def _across(synthetic: SyntheticSet) -> bool:
    """Whether a class is a column of the grid."""
    return int(np.bincount(synthetic.classes()).max()) <= 4


def captioned(synthetic: SyntheticSet, preprocess: Preprocess, words: str) -> Image.Image:
    """`grid` with the classes' names, and a line of words above."""
    picture = grid(synthetic, preprocess)
    names, across = synthetic.info.class_names, _across(synthetic)
    font = _font()
    longest = max(font.getlength(name) for name in names)
    left = 0 if across else min(_MOST_LEFT, int(longest) + 2 * _GAP)
    top = _LINE * (1 + across)
    width = max(left + picture.width, int(font.getlength(words)) + 2 * _GAP)
    sheet = Image.new(picture.mode, (width, top + picture.height), "white")
    sheet.paste(picture, (left, top))
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 1), words, fill="black", font=font)
    each = (picture.width if across else picture.height) - _GAP
    for c, name in enumerate(names):
        place = c * each // len(names) + _GAP
        at = (place, _LINE + 1) if across else (_GAP, top + place)
        room = each // len(names) - _GAP if across else left - _GAP
        draw.text(at, _cut(name, font, room), fill="black", font=font)
    return sheet


@functools.cache
def _font() -> Any:
    """One that has the letters of most languages: matplotlib's, as Pillow's has Latin ones alone.

    Where matplotlib came without fonts, Pillow's.
    """
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    try:
        return ImageFont.truetype(str(path), _LETTERS)
    except OSError:
        return ImageFont.load_default(_LETTERS)


def _cut(name: str, font: Any, room: float) -> str:
    """As much of the name as there is room for."""
    if font.getlength(name) <= room:
        return name
    while name and font.getlength(f"{name}…") > room:
        name = name[:-1]
    return f"{name}…"


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


def save_picture(
    path: Path, synthetic: SyntheticSet, preprocess: Preprocess, words: str = ""
) -> None:
    """Writes the set as a PNG, `words` above it; where several images are stored in one, those
    too, as `-stored`."""
    info = synthetic.info
    scaled = "colors scaled" if _scaled_pixels(synthetic, preprocess)[1] else ""
    title = ", ".join(filter(None, (f"{info.method} on {info.dataset}", words, scaled)))
    _save(captioned(synthetic, preprocess, title), path)
    if isinstance(synthetic.decoder, MultiFormation):
        stored = SyntheticSet.store(synthetic.storage, synthetic.info)
        stored_path = path.with_stem(f"{path.stem}-stored")
        _save(captioned(stored, preprocess, f"{title}, as it is stored"), stored_path)


def save_course(folder: Path) -> None:
    """From a run's pictures at each evaluation: `start-and-best.png` and the animation `set.gif`.

    Neither is made where a picture is damaged or missing, or cannot be replaced: a run's result is
    worth more.

    Args:
      folder: holds `best.png` and one picture for each evaluation, named by its iteration.
    """
    named = (path for path in folder.glob("*.png") if path.stem.isdigit())
    paths = sorted(named, key=lambda path: int(path.stem))
    if paths:
        with contextlib.suppress(UserError, OSError):
            _save_course(folder, paths)


def _save_course(folder: Path, paths: list[Path]) -> None:
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, _MOST_FRAMES).astype(int))]
    *frames, best = (read_picture(path) for path in (*chosen, folder / "best.png"))
    width = max(frame.width for frame in (*frames, best))
    both = Image.new(best.mode, (width, frames[0].height + _GAP + best.height), "white")
    both.paste(frames[0], (0, 0))
    both.paste(best, (0, frames[0].height + _GAP))
    _save(both, folder / "start-and-best.png")
    if len(frames) > 1:
        height = max(frame.height for frame in frames)
        even = [Image.new(frame.mode, (width, height), "white") for frame in frames]
        for sheet, frame in zip(even, frames, strict=True):
            sheet.paste(frame, (0, 0))
        times = [_FRAME] * (len(even) - 1) + [4 * _FRAME]
        with atomic_replace(folder / "set.gif") as part:
            even[0].save(
                part, format="GIF", save_all=True, append_images=even[1:], duration=times, loop=0
            )


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_replace(path) as part:
        picture.save(part, format="PNG")
