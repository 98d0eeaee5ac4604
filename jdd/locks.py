"""One writer per directory: another process waits for it, or is told whose turn it is.

Where several processes run as one, the primary alone locks; see `jdd.distributed`.
"""

import contextlib
import fcntl
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from jdd.distributed import is_primary
from jdd.errors import Interrupted, SettingError

_WAIT_SECONDS = 0.2  # from one look at a lock to the next
_NAMING_SECONDS = 0.5  # a lock whose owner is not named after these has none that can be
_UNNAMED = "another process"


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
        except OSError as error:  # a file system without locks
            text = (
                f"{directory} cannot be locked ({error.strerror}): let no other command write there"
            )
            return print(text, file=sys.stderr, flush=True)
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
    except OSError:  # a file system without locks
        return None
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
        os.pwrite(handle, owner.encode(errors="replace"), 0)


def _me() -> str:
    """This process in words, for others that find a directory taken."""
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    began = time.strftime("%Y-%m-%d %H:%M:%S")
    return f"process {os.getpid()} on {socket.gethostname()} since {began} ({command[:300]})"
