"""Plain files that survive: replaced whole, JSON lines, the cache.

Where several processes run as one, the primary alone writes; see `jdd.distributed`.
"""

import contextlib
import json
import math
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jdd.distributed import is_primary
from jdd.errors import UserError, shortened

_MOST_BYTES = 2**28  # of a log, which has some 100 bytes an update
_MOST_JSON = 2**26
_MOST_NESTING = 32


def cache_dir() -> Path:
    """`$JDD_CACHE_DIR`, else `$XDG_CACHE_HOME/jdd`, else `~/.cache/jdd`."""
    if named := os.environ.get("JDD_CACHE_DIR"):
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "jdd"


@contextlib.contextmanager
def atomic_replace(path: Path) -> Iterator[Path]:
    """Gives a temporary file to write, which replaces `path` once it is whole.

    Where the block raises, `path` stays as it was; `OSError` becomes `UserError`. Processes other
    than the primary one get a file that is thrown away.
    """
    if not is_primary():
        with tempfile.TemporaryDirectory() as nowhere:
            yield Path(nowhere) / path.name
        return
    part = path.with_name(f".{path.name}.part-{os.getpid()}-{threading.get_ident()}")
    try:
        yield part
        flush(part)
        part.replace(path)
        flush(path.parent)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or first_line(error)})"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def is_part(path: Path) -> bool:
    """Whether it is named like what `atomic_replace` gives, which a killed process leaves."""
    return path.name.startswith(".") and ".part-" in path.name


def is_utf8(text: str) -> bool:
    """Whether JSON files can hold it: not where it came from a name of other bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def flush(path: Path) -> None:
    """Has a file, or the names in a directory, reach the disk, so that no power failure undoes a
    replacement; where the file system knows no such thing, nothing."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON so that `path` holds either its old or its new content, never a part."""
    write_text(path, json.dumps(value, indent=2, sort_keys=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes a text so that `path` holds either its old or its new content, never a part."""
    with atomic_replace(path) as part:
        part.write_text(text, encoding="utf-8")


def check_path(path: Path) -> None:
    """Raises `UserError` for a path that nothing can lie at: a NUL in it, or a name too long."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{shortened(repr(str(path)))} is no path ({why})") from None


def read_bytes(path: Path, most: int = _MOST_BYTES) -> bytes:
    """The content of a file.

    Raises:
      UserError: it is missing, larger than `most` bytes, or cannot be read; or it is a directory, a
        pipe or a device, of which the last two might never end.
    """
    try:
        # A pipe would wait for who writes into it.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except OSError as error:
        check_path(path)
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from None
    except ValueError:  # a NUL in the name
        raise UserError(f"{shortened(repr(str(path)))} is no path") from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path} is a directory, a pipe or a device: a file is needed")
        if status.st_size > most:
            raise UserError(f"{path} has {status.st_size:,} bytes, at most {most:,} are read")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(status.st_size)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from None
    finally:
        os.close(handle)


def read_json(path: Path) -> Any:
    """Reads JSON; raises `UserError` naming the file where it is missing or not JSON of ours."""
    content = read_bytes(path, _MOST_JSON)
    try:
        return _parsed(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({first_line(error)})") from None


def read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Each whole JSON line of a file, as text and value; damaged ones and such as were cut off are
    passed over. Raises `UserError` as `read_bytes` does."""
    for text in read_bytes(path).decode("utf-8", errors="replace").split("\n"):
        with contextlib.suppress(ValueError, RecursionError):
            yield text, _parsed(text)


def _parsed(text: str) -> Any:
    """JSON, nested no deeper than code that walks through it can follow, its texts printable."""
    value = json.loads(text, parse_int=_whole)
    level = [value]
    for _ in range(_MOST_NESTING):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, str):
                each.encode()  # raises for half a surrogate, which no text of ours has
                if "\0" in each:
                    raise ValueError("a text with a NUL")
            elif isinstance(each, dict):
                inner += [*each, *each.values()]
            elif isinstance(each, list):
                inner += each
        if not inner:
            return value
        level = inner
    raise ValueError(f"nested more than {_MOST_NESTING} deep")


def _whole(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Adds one JSON object as a line; JSON has no NaN or infinity, they become null."""
    if not is_primary():
        return
    plain = {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in value.items()
    }
    before = path.stat().st_size if path.exists() else 0
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain, allow_nan=False) + "\n")
    except OSError as error:
        with contextlib.suppress(OSError):
            os.truncate(path, before)
        raise UserError(f"{path} cannot be written ({error.strerror})") from None


def filter_lines(path: Path, keep: Callable[[Any], bool]) -> None:
    """Keeps the JSON lines for which `keep(line)` is true; damaged ones and such as were cut off
    go.
    """
    if not is_primary() or not path.exists():
        return
    lines = []
    for text, value in read_lines(path):
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            if keep(value):
                lines.append(text)
    write_text(path, "".join(text + "\n" for text in lines))


def expanded(path: str | os.PathLike[str]) -> Path:
    """With `~` in the place of which the home directory comes, where there is one."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # of a user who does not exist
        return Path(path)


def first_line(error: BaseException) -> str:
    """What an error says, cut to a line that fits into another message."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:160]
