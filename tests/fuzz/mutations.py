"""Changes to the files of a directory, drawn by Hypothesis, and how they are made and undone."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

_ODD_VALUES: list[Any] = [
    *(None, True, -1, 0, 1, 2**31, 2**63, 2**70, 10**400, 0.5, 1e999, -1e999, float("nan")),
    *("", "x", "\0", "../../etc/passwd", "a" * 300, "\n", "\x1b[31m", "é"),
    *([], {}, [[]], [1, "x", None], {"a": {"b": []}}, [[[[[[[[[[[]]]]]]]]]]]),
]
_ODD_NUMBERS = [0, 1, 0x7F, 0x80, 0xFF, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40]
_ODD_NUMBERS += [2**63 - 1, 2**63, 2**64 - 1]
_ODD_FILES = ("missing", "empty", "directory", "pipe", "link out", "link to itself", "another file")

Change = tuple[str, bytes | str]
"""the file's path, and its new content, or one of `_ODD_FILES`"""


def changes(files: dict[str, bytes]) -> st.SearchStrategy[Change]:
    """A change of one of these files."""
    return st.one_of([_change_of(name, content) for name, content in sorted(files.items())])


def _change_of(name: str, content: bytes) -> st.SearchStrategy[Change]:
    ways: list[st.SearchStrategy[Any]] = [st.lists(_edit(len(content)), min_size=1, max_size=4)]
    contents: list[st.SearchStrategy[Any]] = [ways[0].map(lambda edits: _edited(content, edits))]
    with contextlib.suppress(ValueError, RecursionError):
        text = content.decode()
        lines = text.splitlines() if name.endswith(".jsonl") else [text]
        values = [json.loads(line) for line in lines]
        if any(isinstance(value, (dict, list)) for value in values):
            contents += [_json_edit(values)] * 2
    kinds = [each.map(lambda new: (name, new)) for each in contents * 4]
    return st.one_of(*kinds, st.sampled_from(_ODD_FILES).map(lambda kind: (name, kind)))


def _edit(length: int) -> st.SearchStrategy[tuple[Any, ...]]:
    at = st.integers(0, max(length - 1, 0))
    number = st.sampled_from(_ODD_NUMBERS)
    return st.one_of(
        st.tuples(st.just("byte"), at, st.integers(0, 255)),
        st.tuples(st.just("flip"), at, st.integers(0, 7)),
        st.tuples(st.just("cut"), at),
        st.tuples(st.just("insert"), at, st.binary(min_size=1, max_size=24)),
        st.tuples(st.just("delete"), at, st.integers(1, 64)),
        st.tuples(st.just("repeat"), at, st.integers(1, 64), st.integers(1, 200)),
        st.tuples(st.just("swap"), at, at, st.integers(1, 32)),
        st.tuples(st.just("number"), at, number, st.sampled_from([1, 2, 4, 8]), st.booleans()),
    )


def _edited(content: bytes, edits: list[tuple[Any, ...]]) -> bytes:
    new = bytearray(content)
    for kind, at, *more in edits:
        if kind == "byte" and at < len(new):
            new[at] = more[0]
        elif kind == "flip" and at < len(new):
            new[at] ^= 1 << more[0]
        elif kind == "cut":
            del new[at:]
        elif kind == "insert":
            new[at:at] = more[0]
        elif kind == "delete":
            del new[at : at + more[0]]
        elif kind == "repeat":
            new[at:at] = new[at : at + more[0]] * more[1]
        elif kind == "swap":
            other, size = more
            a, b = new[at : at + size], new[other : other + size]
            if len(a) == len(b):
                new[at : at + size], new[other : other + size] = b, a
        elif kind == "number":
            number, size, big = more
            order = "big" if big else "little"
            new[at : at + size] = (number % 2 ** (8 * size)).to_bytes(size, order)
    return bytes(new)


def _json_edit(values: list[Any]) -> st.SearchStrategy[bytes]:
    """A value somewhere in JSON, or lines of it: replaced, taken out, renamed, repeated, nested."""
    places = [(i, place) for i, value in enumerate(values) for place in _places(value)]

    def edited(drawn: tuple[tuple[int, tuple[Any, ...]], str, Any]) -> bytes:
        (line, place), edit, odd = drawn
        new = json.loads(json.dumps(values))
        parent, key = new, line
        for step in place:
            parent, key = parent[key], step
        if edit == "replace":
            parent[key] = odd
        elif edit == "remove":
            del parent[key]
        elif edit == "rename" and isinstance(parent, dict):
            parent[str(odd)] = parent.pop(key)
        elif edit == "repeat" and isinstance(parent, list):
            parent.insert(key, parent[key])
        elif edit == "nest":
            for _ in range(500):
                parent[key] = [parent[key]]
        return "\n".join(json.dumps(value) for value in new).encode()

    edits = st.sampled_from(["replace"] * 6 + ["remove", "rename", "repeat", "nest"])
    return st.tuples(st.sampled_from(places), edits, st.sampled_from(_ODD_VALUES)).map(edited)


def _places(value: Any) -> Iterator[tuple[Any, ...]]:
    yield ()
    if not isinstance(value, (dict, list)):
        return
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in inner:
        yield from ((key, *rest) for rest in _places(each))


def files_of(place: Path) -> dict[str, bytes]:
    """The content of each file below a directory, by its path there."""
    return {
        path.relative_to(place).as_posix(): path.read_bytes()
        for path in sorted(place.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@contextlib.contextmanager
def changed(place: Path, change: Change, files: dict[str, bytes]) -> Iterator[None]:
    """The directory with a change, put back afterwards to the `files` that it held."""
    name, new = change
    path = place / name
    try:
        put(path, new, files)
        yield
    finally:
        _restore(place, files)


def put(path: Path, new: bytes | str, files: dict[str, bytes]) -> None:
    """Makes a change to the file at `path`, one of `files`."""
    if isinstance(new, bytes):
        path.write_bytes(new)
        return
    path.unlink()
    ways: dict[str, Callable[[], Any]] = {
        "missing": lambda: None,
        "empty": lambda: path.write_bytes(b""),
        "directory": path.mkdir,
        "pipe": lambda: os.mkfifo(path),
        "link out": lambda: path.symlink_to("/etc/passwd"),
        "link to itself": lambda: path.symlink_to(path),
        "another file": lambda: path.write_bytes(files[sorted(files)[len(path.name) % len(files)]]),
    }
    ways[new]()


def _restore(place: Path, files: dict[str, bytes]) -> None:
    """Readers may write too: caches are made again, logs cleaned of damaged lines."""
    for path in sorted(place.rglob("*"), reverse=True):
        name = path.relative_to(place).as_posix()
        if path.is_symlink() or not path.is_dir():
            if name not in files or path.is_symlink() or not path.is_file():
                path.unlink()
        elif not any(other.startswith(f"{name}/") for other in files):
            shutil.rmtree(path)
    for name, content in files.items():
        path = place / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
