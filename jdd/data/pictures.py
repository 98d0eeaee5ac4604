"""Pictures in files: decoded by Pillow, of few formats and within bounds."""

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jdd.errors import UserError
from jdd.files import read_bytes

if TYPE_CHECKING:
    from PIL import Image

_GREY = ("1", "L", "LA")
_DEEP = "I"  # what begins the modes of grey pictures of 16 bits
MOST_PIXELS = 2**26  # of one picture: 8,192 × 8,192


def read(path: Path, formats: Sequence[str] = ("PNG", "JPEG")) -> "Image.Image":
    """The picture, decoded: of mode L where it is grey, else RGB.

    Args:
      path: of the file.
      formats: Pillow's names of those that are opened, whatever the file is called.

    Raises:
      UserError: it is missing, of another format, damaged, or of more than `MOST_PIXELS`; the last
        is known before anything is decoded.
    """
    return decode(read_bytes(path), path, formats)


def head(path: Path, formats: Sequence[str]) -> tuple[bool, int]:
    """Whether a picture has one channel, and the pixels of its shorter side; it is not decoded.

    Raises:
      UserError: see `read`.
    """
    with _opened(read_bytes(path), path, formats) as image:
        return image.mode in _GREY or image.mode.startswith(_DEEP), min(image.size)


def decode(content: bytes, path: Path, formats: Sequence[str]) -> "Image.Image":
    """The picture in a file's content; see `read`."""
    from PIL import Image

    with _opened(content, path, formats) as image:
        if image.mode.startswith(_DEEP):  # Pillow's own conversion cuts off what is above 255
            return Image.fromarray((np.asarray(image).clip(0, 2**16 - 1) >> 8).astype(np.uint8))
        image.info.pop("transparency", None)  # which Pillow warns of, and no pixel here depends on
        return image.convert("L" if image.mode in _GREY else "RGB")


@contextlib.contextmanager
def _opened(content: bytes, path: Path, formats: Sequence[str]) -> "Iterator[Image.Image]":
    """A picture whose size and mode are known; what goes wrong in the block is a `UserError`."""
    from PIL import Image, UnidentifiedImageError

    # Pillow's own bound is wider, and a line on standard error.
    # Filtered once: each new filter makes Python show every other warning again.
    if ("ignore", None, Image.DecompressionBombWarning, None, 0) not in warnings.filters:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    kinds = " or ".join(formats)
    try:
        with Image.open(io.BytesIO(content), formats=list(formats)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise UserError(f"{path}: {image.width}×{image.height} pixels are too many")
            yield image
    except UserError:
        raise
    except UnidentifiedImageError:  # its words are of an object in memory
        raise UserError(f"{path}: not a complete {kinds}") from None
    # A damaged file makes Pillow's decoders raise nearly anything.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not a complete {kinds} ({str(error)[:120]})") from None
    except Image.DecompressionBombError:
        raise UserError(f"{path}: its pixels are too many") from None
