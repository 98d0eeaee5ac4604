"""Pictures that are no pictures, too large, or of a format that is not read."""

import contextlib
import gzip
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from jdd.data import files
from jdd.data.pictures import read
from jdd.errors import UserError


def content(kind="PNG", side=6):
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue(), pixels


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_picture_is_read_by_what_it_is(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(content()[0])
    np.testing.assert_array_equal(np.asarray(read(path).convert("RGB")), content()[1])
    path.write_bytes(content("GIF")[0])
    with pytest.raises(UserError, match="not a complete PNG or JPEG"):
        read(path)
    path.write_bytes(content("JPEG")[0])
    with pytest.raises(UserError, match=r"not a complete PNG$"):
        read(path, ["PNG"])
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "none.png")


def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    image = Image.fromarray(pixels).convert("P")
    colours = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    image.putpalette(colours.tobytes())
    image.save(tmp_path / "a.png", transparency=bytes(range(256)))
    np.testing.assert_array_equal(np.asarray(read(tmp_path / "a.png")), colours[pixels])


def test_reading_pictures_shows_no_other_warning_again(tmp_path):
    (tmp_path / "a.png").write_bytes(content()[0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            read(tmp_path / "a.png")
            warnings.warn("once", stacklevel=1)
    assert len(caught) == 1


@pytest.mark.parametrize("side", [13_000, 2_000_000])
def test_a_small_file_of_many_pixels_is_not_decoded(tmp_path, side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(10**6), 9)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    with pytest.raises(UserError, match="pixels are too many"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_changed_picture_raises_nothing_else(tmp_path, kind):
    whole, rng = content(kind)[0], np.random.default_rng(1)
    path = tmp_path / "a"
    for _ in range(1500):
        changed = bytearray(whole)
        for place in rng.integers(0, len(whole), rng.integers(1, 6)):
            changed[place] = rng.integers(256)
        path.write_bytes(bytes(changed[: rng.integers(1, len(whole) + 1)]))
        with contextlib.suppress(UserError):
            assert read(path).mode in ("L", "RGB")


def test_a_gzip_file_unpacks_within_bounds(tmp_path, monkeypatch):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(bytes(3000)))
    assert files.read(path) == bytes(3000)
    monkeypatch.setattr(files, "MOST_BYTES", 2999)
    with pytest.raises(UserError, match="unpacks to more than 2,999 bytes"):
        files.read(path)
