"""Plain files that survive: replaced whole, JSON lines, one writer per directory, the cache.

Where several processes run as one, the primary alone writes; see `jdd.distributed`.
"""

import contextlib
import fcntl
import json
import math
import os
import shlex
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jdd.distributed import is_primary
from jdd.errors import Interrupted, SettingError, UserError, shortened

_MOST_BYTES = 2**28  # of a log, which has some 100 bytes an update
_MOST_JSON = 2**26
_MOST_NESTING = 32
_WAIT_SECONDS = 0.2  # from one look at a lock to the next
_NAMING_SECONDS = 0.5  # a lock whose owner is not named after these has none that can be
_UNNAMED = "another process"


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
                each.encode()  # raises for half a surrogate, which no file can hold
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


@contextlib.contextmanager
def locked(
    directory: Path, setting: str = "out", wait_until: Callable[[], bool] | None = None
) -> Iterator[None]:
    """Makes the caller the directory's only writer.

    Args:
      directory: is made where it does not exist.
      setting: which setting names it.
      wait_until: asked while another process writes there, which is waited for; true ends the wait.
        None: it is not waited for.

    Raises:
      UserError: another process writes there, which the message names, or nobody can.
      Interrupted: `wait_until()` said so.
    """
    if not is_primary():
        yield
        return
    if directory.exists() and not directory.is_dir():
        raise SettingError(setting, directory, "it is a file, name a directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory / ".lock", os.O_CREAT | os.O_RDWR)
    except OSError as error:
        why = f"it cannot be written ({error.strerror}), name another directory"
        raise SettingError(setting, directory, why) from None
    try:
        _take(handle, directory, setting, wait_until)
        try:
            _name_owner(handle, _me())
            yield
        finally:
            _name_owner(handle, "")
    finally:
        os.close(handle)


def _take(
    handle: int, directory: Path, setting: str, wait_until: Callable[[], bool] | None
) -> None:
    """Takes the lock that is open as `handle`; see `locked`."""
    told, began = False, time.monotonic()
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = _owner(handle)
        if other == _UNNAMED and time.monotonic() - began < _NAMING_SECONDS:
            time.sleep(_NAMING_SECONDS / 10)  # it looks at the lock, or is about to say who it is
            continue
        if wait_until is None:
            raise SettingError(
                setting,
                directory,
                f"{other} is writing there: `wait` for it to end, or name another directory",
            )
        if not told:
            print(f"waiting for {directory}: {other} is writing there", file=sys.stderr, flush=True)
            told = True
        if wait_until():
            raise Interrupted("nothing is stored, as it was another process's turn")
        time.sleep(_WAIT_SECONDS)


def owner(directory: Path) -> str | None:
    """The process that has the directory `locked`, in words; None where none has."""
    try:
        handle = os.open(directory / ".lock", os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _owner(handle)
    finally:
        os.close(handle)


def _owner(handle: int) -> str:
    with contextlib.suppress(OSError):  # a directory, a pipe
        text = os.pread(handle, 1000, 0).decode(errors="replace")
        return "".join(filter(str.isprintable, text)) or _UNNAMED
    return _UNNAMED


def _name_owner(handle: int, owner: str) -> None:
    """Has the lock's file say whose it is; on a full disk it says nothing."""
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, owner.encode(), 0)


def _me() -> str:
    """This process in words, for others that find a directory taken."""
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    began = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"process {os.getpid()} on {socket.gethostname()} since {began} ({command[:300]})"


def first_line(error: BaseException) -> str:
    """What an error says, cut to a line that fits into another message."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:160]
