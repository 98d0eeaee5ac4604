"""Numeric arrays of MATLAB's files of level 5, read within bounds.

MathWorks, "MAT-File Format", chapter 1. Every length is held against what is there before anything
is taken, so that a damaged or hostile file raises `ValueError` and nothing else.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_HEADER = 128
_MOST_BYTES = 2**28  # of one array, unpacked
_MATRIX, _COMPRESSED = 14, 15
_DTYPES = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
_NUMERIC_CLASSES = range(6, 16)  # double, single and the integers
_COMPLEX = 0x0800
_MOST_DIMENSIONS = 8


class _Element(NamedTuple):
    """A data element: its type, and its bytes without the padding."""

    kind: int
    data: memoryview


def read_arrays(content: bytes | bytearray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """The arrays of these names.

    Args:
      content: of the file.
      names: of the variables; others are passed over.

    Raises:
      ValueError: a variable is missing, or is no real numeric array, or the file is damaged.
    """
    order = {b"IM": "<", b"MI": ">"}.get(bytes(content[_HEADER - 2 : _HEADER]))
    if order is None:
        raise ValueError("no MATLAB file of level 5")
    arrays: dict[str, np.ndarray] = {}
    for element in _elements(memoryview(content)[_HEADER:], order):
        if element.kind == _COMPRESSED:
            element = next(_elements(memoryview(_unpacked(element.data, order)), order))
        if element.kind == _MATRIX:
            name, parts = _name_and_parts(element.data, order)
            if name in names:
                arrays[name] = _array(parts, order)
    missing = [name for name in names if name not in arrays]
    if missing:
        raise ValueError(f"no array '{missing[0]}'")
    return arrays


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise ValueError("an element is cut off")
        kind, size = struct.unpack_from(f"{order}II", data, at)
        first = at + 8
        if kind >> 16:  # up to four bytes, in the tag itself
            kind, size, first = kind & 0xFFFF, kind >> 16, at + 4
            if size > 4:
                raise ValueError("an element is longer than its place")
            at += 8
        else:
            padding = 0 if kind == _COMPRESSED else -size % 8
            at = first + size + padding
        if first + size > len(data):
            raise ValueError("an element is cut off")
        yield _Element(kind, data[first : first + size])


def _unpacked(data: memoryview, order: str) -> bytes:
    unpack = zlib.decompressobj()
    try:
        tag = unpack.decompress(data, 8)
        if len(tag) < 8:
            raise ValueError("a compressed element is cut off")
        kind, size = struct.unpack(f"{order}II", tag)
        if kind != _MATRIX or size > _MOST_BYTES:
            raise ValueError("a compressed element is no array, or too large")
        rest = unpack.decompress(unpack.unconsumed_tail, size) if size else b""
    except zlib.error as error:
        raise ValueError(f"a compressed element is damaged ({error})") from None
    if len(rest) != size:
        raise ValueError("a compressed element is cut off")
    return tag + rest


def _name_and_parts(data: memoryview, order: str) -> tuple[str, list[_Element]]:
    """An array's name, and its flags, dimensions, name and real part, as far as they are there."""
    parts: list[_Element] = []
    for element in _elements(data, order):
        parts.append(element)
        if len(parts) == 4:
            break
    name = bytes(parts[2].data).decode("latin-1") if len(parts) > 2 else ""
    return name, parts


def _array(parts: list[_Element], order: str) -> np.ndarray:
    if len(parts) < 4 or len(parts[0].data) < 8 or parts[0].kind != 6 or parts[1].kind != 5:
        raise ValueError("an array is incomplete")
    (flags,) = struct.unpack_from(f"{order}I", parts[0].data)
    if flags & 0xFF not in _NUMERIC_CLASSES or flags & _COMPLEX or parts[3].kind not in _DTYPES:
        raise ValueError("an array is not one of real numbers")
    shape = np.frombuffer(parts[1].data[: 4 * (len(parts[1].data) // 4)], f"{order}i4").tolist()
    dtype, data = np.dtype(order + _DTYPES[parts[3].kind]), parts[3].data
    if not 2 <= len(shape) <= _MOST_DIMENSIONS or min(shape) < 0:
        raise ValueError("an array has no sensible shape")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"an array of shape {tuple(shape)} has {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F")
