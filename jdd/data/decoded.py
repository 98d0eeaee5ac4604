"""Pictures in files, decoded and kept: a second command maps what the first one decoded.

A file in the user's cache directory holds the pixels of one list of pictures, with what tells
whether any picture has changed since, and a checksum of the whole.
"""

import contextlib
import hashlib
import json
import math
import mmap
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jdd import files
from jdd.data import fingerprint
from jdd.errors import UserError

MOST_BYTES = 2**35  # of all that is kept; what was used longest ago goes first
_VERSION = 1
_DIGEST = 32  # bytes, of all that follows them
_START = 4096  # of the pixels; the description lies before them
_FREE = 2**30  # bytes that are left on the disk
_STALE = 86_400.0  # seconds after which a file that is being written is nobody's
_PATTERN = "images-*.u8"

Decode = Callable[[Path], tuple[np.ndarray, bytes] | UserError]
"""a picture `(h, w, 1 or 3)` uint8 with the digest of its file, or why it cannot be read"""

Check = Callable[[Sequence[Path], list[np.ndarray]], None]
"""of files and the pictures in them"""


class Pictures(NamedTuple):
    """What decoding a list of files gives."""

    images: np.ndarray
    """(n, h, w, c) uint8, read-only where it is mapped"""
    digests: tuple[bytes, ...]
    """`jdd.data.fingerprint.digest` of each file"""


class Wanted(NamedTuple):
    """A list of pictures by the name that it is kept under."""

    paths: Sequence[Path]
    root: Path
    """the directory that they lie below"""
    name: str
    """which of those there, and how they are decoded"""

    @property
    def path(self) -> Path:
        """Where they are kept."""
        name = f"{self.root.resolve()}\0{self.name}".encode("utf-8", "surrogateescape")
        return files.cache_dir() / _PATTERN.replace("*", hashlib.sha256(name).hexdigest()[:32])


def read_all(wanted: Sequence[Wanted], decode: Decode, check: Check) -> list[Pictures]:
    """Each list's pictures, mapped where they are kept, else decoded and then kept.

    Images have one channel where all of their list are grey, else three.

    Args:
      wanted: the lists.
      decode: reads one picture.
      check: raises where the pictures of a list do not go together.

    Raises:
      UserError: pictures cannot be read; it names all of them, in all lists.
    """
    marks = [_mark(each) for each in wanted]
    pictures = [_kept(each, mark) for each, mark in zip(wanted, marks, strict=True)]
    missing = [i for i, each in enumerate(pictures) if each is None]
    paths = [path for i in missing for path in wanted[i].paths]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(decode, paths))
    failures = (str(result) for result in results if isinstance(result, UserError))
    damaged = list(dict.fromkeys(failures))
    if len(damaged) == 1:
        raise UserError(damaged[0])
    if damaged:
        root = str(Path(os.path.commonpath([each.root for each in wanted])))
        named = "; ".join(words.removeprefix(root + os.sep) for words in damaged)
        raise UserError(f"{root}: {len(damaged)} of {len(paths)} images cannot be read: {named}")
    for i in missing:
        part, results = results[: len(wanted[i].paths)], results[len(wanted[i].paths) :]
        images = [result[0] for result in part if isinstance(result, tuple)]
        check(wanted[i].paths, images)
        digests = tuple(result[1] for result in part if isinstance(result, tuple))
        made = Pictures(_stacked(images), digests)
        pictures[i] = _keep(wanted[i], marks[i], made) or made
    return [each for each in pictures if each is not None]


def _stacked(images: list[np.ndarray]) -> np.ndarray:
    if not images:
        return np.zeros((0, 1, 1, 3), np.uint8)
    shape = (*images[0].shape[:2], max(image.shape[-1] for image in images))
    stacked = np.empty((len(images), *shape), np.uint8)
    for row, image in zip(stacked, images, strict=True):
        row[...] = image
    return stacked


def _mark(wanted: Wanted) -> str:
    """Of the files as they are: their names, sizes, and times of change; empty: one is missing."""
    rows: list[Any] = [_VERSION, wanted.name]
    start = len(str(wanted.root))
    try:
        for path in wanted.paths:
            status = path.stat()
            rows.append([str(path)[start:], status.st_size, status.st_mtime_ns, status.st_ctime_ns])
    except OSError:
        return ""
    return hashlib.sha256(json.dumps(rows).encode("utf-8", "surrogateescape")).hexdigest()


def kept_shape(wanted: Wanted) -> tuple[int, ...] | None:
    """`(h, w, c)` of the pictures, where they are kept; the pixels are not looked at."""
    content = _mapped(wanted.path)
    shape = None if content is None else _shape(content, _mark(wanted), len(wanted.paths))
    return None if shape is None else shape[1:]


def _kept(wanted: Wanted, mark: str) -> Pictures | None:
    """The pictures as they are kept; None where they are not, or of others, or damaged."""
    content = _mapped(wanted.path)
    shape = None if content is None else _shape(content, mark, len(wanted.paths))
    if content is None or shape is None or _checksum(content[_DIGEST:]) != content[:_DIGEST]:
        return None
    with contextlib.suppress(OSError):
        os.utime(wanted.path)  # used now
    pixels, size = math.prod(shape), fingerprint.DIGEST
    digests = content[_START + pixels :]
    return Pictures(
        np.frombuffer(content, np.uint8, pixels, _START).reshape(shape),
        tuple(bytes(digests[i : i + size]) for i in range(0, len(digests), size)),
    )


def _mapped(path: Path) -> memoryview | None:
    """The content of a file; None where there is none that could hold pictures."""
    try:
        # A pipe would wait for who writes into it.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size < _START:
            return None
        return memoryview(mmap.mmap(handle, status.st_size, access=mmap.ACCESS_READ))
    except (OSError, ValueError):
        return None
    finally:
        os.close(handle)


def _shape(content: memoryview, mark: str, count: int) -> tuple[int, ...] | None:
    """The pictures' shape `(n, h, w, c)` by a file's description, where it is of this mark."""
    try:
        header = json.loads(bytes(content[_DIGEST:_START]).rstrip(b"\0"))
        shape = tuple(header["shape"])
        if header["mark"] != mark or len(shape) != 4 or shape[0] != count:
            return None
        if not all(type(side) is int and side > 0 for side in shape):
            return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    length = _START + math.prod(shape) + count * fingerprint.DIGEST
    return shape if len(content) == length else None


def _keep(wanted: Wanted, mark: str, made: Pictures) -> Pictures | None:
    """Keeps pictures, and gives them back mapped; None where they cannot be kept."""
    # A picture that changed while it was read is not what its file's time says.
    if not mark or not made.images.size or _mark(wanted) != mark:
        return None
    # A cache that cannot be written costs the next command its decoding; no reason to stop.
    with contextlib.suppress(OSError):
        if _make_room(wanted.path, made.images.nbytes):
            _write(wanted.path, mark, made)
            return _kept(wanted, mark)
    return None


def _write(path: Path, mark: str, made: Pictures) -> None:
    head = json.dumps({"mark": mark, "shape": made.images.shape}).encode()
    head = head.ljust(_START - _DIGEST, b"\0")
    parts = (head, np.ascontiguousarray(made.images).data, b"".join(made.digests))
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_checksum(*parts))
            for part in parts:
                file.write(part)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _checksum(*parts: Any) -> bytes:
    checksum = hashlib.blake2b(digest_size=_DIGEST)
    for part in parts:
        checksum.update(part)
    return checksum.digest()


def _make_room(path: Path, needed: int) -> bool:
    """Whether so many bytes may be kept; what was used longest ago is removed for them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    others = []
    for other in path.parent.glob("images-*"):
        with contextlib.suppress(OSError):
            status = other.stat()
            if other.suffix == ".tmp" and time.time() - status.st_mtime > _STALE:
                other.unlink()
            elif other.match(_PATTERN) and other != path:
                others.append((status.st_mtime, status.st_size, other))
    total = needed + sum(size for _, size, _ in others)
    if needed > MOST_BYTES or needed + _FREE > shutil.disk_usage(path.parent).free:
        return False
    for _, size, other in sorted(others):
        if total <= MOST_BYTES:
            break
        other.unlink(missing_ok=True)
        total -= size
    return True
