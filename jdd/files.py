"""Plain files that survive: replaced whole, JSON lines, one writer per directory, the cache.

Where several processes run as one, the primary alone writes; see `jdd.distributed`.
"""

import contextlib
import fcntl
import json
import math
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jdd.distributed import is_primary
from jdd.errors import UserError


def cache_dir() -> Path:
    """`$JDD_CACHE_DIR`, else `$XDG_CACHE_HOME/jdd`, else `~/.cache/jdd`."""
    if named := os.environ.get("JDD_CACHE_DIR"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "jdd"


@contextlib.contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """Gives a temporary file to write, which replaces `path` once it is whole.

    Where the block raises, `path` stays as it was. Processes other than the primary one get a file
    that is thrown away.
    """
    if not is_primary():
        with tempfile.TemporaryDirectory() as nowhere:
            yield Path(nowhere) / path.name
        return
    part = path.with_name(f".{path.name}.part-{os.getpid()}-{threading.get_ident()}")
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Writes JSON so that `path` holds either its old or its new content, never a part."""
    write_text(path, json.dumps(value, indent=2, sort_keys=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text so that `path` holds either its old or its new content, never a part."""
    with atomic_replace(path) as part:
        part.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Reads JSON; raises `UserError` naming the file where it is missing or not JSON."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({first_line(error)})") from None


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Adds one JSON object as a line; JSON has no NaN or infinity, they become null."""
    if not is_primary():
        return
    plain = {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in value.items()
    }
    with path.open("a") as file:
        file.write(json.dumps(plain, allow_nan=False) + "\n")


def filter_lines(path: Path, keep: Callable[[Any], bool]) -> None:
    """Keeps the JSON lines for which `keep(line)` is true; lines that were cut off go."""
    if not is_primary() or not path.exists():
        return
    lines = []
    for text in path.read_text().splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            if keep(json.loads(text)):
                lines.append(text)
    write_text(path, "".join(text + "\n" for text in lines))


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Makes the caller the directory's only writer; another process gets a `UserError`."""
    if not is_primary():
        yield
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory / ".lock", os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise UserError(f"{directory} cannot be written ({first_line(error)})") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{directory} is being written by another process: wait for it or choose another"
            ) from None
        yield
    finally:
        os.close(handle)


def first_line(error: BaseException) -> str:
    """What an error says, cut to a line that fits into another message."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:160]
