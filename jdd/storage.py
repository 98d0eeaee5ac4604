"""Files that survive: Orbax checkpoints, atomic JSON, lines, one writer per directory.

Where several processes run as one (`jax.distributed`), the first alone writes, on a file system
that all of them see, and the others wait for what it writes where they would read it next.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jdd.errors import UserError

FORMAT_VERSION = 1
_CHECKSUMS = "checksums.json"


def writes() -> bool:
    """Whether this process is the one that writes.

    Asks JAX only where several processes may run as one: the question starts JAX's devices, which
    a process that only starts others, as `reproduce.py`, would take away from them.
    """
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def wait_for_all(place: str) -> None:
    """Returns once all processes that run as one are here; `place` is its name to them."""
    if jax.distributed.is_initialized() and jax.process_count() > 1:
        multihost_utils.sync_global_devices(place)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives the file to write in place of `path`, which takes that place once it is whole."""
    if not writes():
        with tempfile.TemporaryDirectory() as nowhere:
            yield Path(nowhere) / path.name
        return
    part = path.with_name(f".{path.name}.part")
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
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """Reads JSON; raises `UserError` naming the file where it is missing or not JSON."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({_first_line(error)})") from None


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Adds one JSON object as a line; JSON has no NaN or infinity, they become null."""
    if not writes():
        return
    plain = {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in value.items()
    }
    with path.open("a") as file:
        file.write(json.dumps(plain, allow_nan=False) + "\n")


def keep_lines(path: Path, keep: Any) -> None:
    """Rewrites a file of JSON lines with those for which `keep(line)` is true; cut-off lines go."""
    if not writes() or not path.exists():
        return
    kept = []
    for text in path.read_text().splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            if keep(json.loads(text)):
                kept.append(text)
    write_text(path, "".join(text + "\n" for text in kept))


def replace_directory(new: Path, target: Path) -> None:
    """Puts the directory `new` in the place of `target`; at every moment one whole copy exists.

    Between the two renames it is `whole_copy` that finds it.
    """
    old = _replaced(target)
    if target.exists():
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
    try:
        new.rename(target)
    except OSError:
        if old.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def whole_copy(path: Path) -> Path:
    """Where the directory `path` is: there, or aside where a replacement of it was cut off."""
    old = _replaced(path)
    return old if not path.exists() and old.exists() else path


def _replaced(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def save_tree(path: Path, arrays: Any, info: Mapping[str, Any]) -> None:
    """Writes arrays and a JSON header as one Orbax checkpoint, replacing an old one whole.

    The arrays are stored without the devices they lie on, so that they load on any others. Beside
    Orbax's own files lies `checksums.json`, by which `load_tree` knows a damaged one.

    Raises `UserError` where the directory cannot be written.
    """
    path = Path(path).absolute()
    values = jax.device_get(arrays)
    if writes():
        _save_tree(path, values, info)
    wait_for_all(f"saved {path}")


def _save_tree(path: Path, values: Any, info: Mapping[str, Any]) -> None:
    from jdd import _orbax

    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(new, ignore_errors=True)
        _orbax.save(new, values, {"format_version": FORMAT_VERSION, **info})
        write_json(new / _CHECKSUMS, _checksums(new))
        replace_directory(new, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({_first_line(error)})") from None


def load_tree(path: Path, like: Any = None) -> tuple[Any, dict[str, Any]]:
    """Reads what `save_tree` wrote.

    Args:
      path: the checkpoint's directory.
      like: a pytree of arrays whose structure the result takes; None gives plain dictionaries and
        lists.

    Returns:
      The arrays, as NumPy's, and the header.

    Raises:
      UserError: nothing there, another format version, or a checkpoint that is cut off.
    """
    from jdd import _orbax

    info = load_info(path)
    path = whole_copy(Path(path).absolute())
    # Before Orbax opens them: its threads print tracebacks of their own about damaged files.
    _verify(path)
    try:
        target = None if like is None else jax.tree.map(_empty, like)
        arrays = _orbax.restore(path, target)
    except Exception as error:
        raise _damaged(path, error) from None
    return arrays, info


def _checksums(path: Path) -> dict[str, str]:
    found = {}
    for file in sorted(p for p in (path / "arrays").rglob("*") if p.is_file()):
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        found[file.relative_to(path).as_posix()] = digest
    return found


def _verify(path: Path) -> None:
    if not (path / _CHECKSUMS).exists():
        raise _damaged(path, f"{_CHECKSUMS} is missing")
    stored, found = read_json(path / _CHECKSUMS), _checksums(path)
    if stored != found:
        names = sorted({*stored, *found}) if isinstance(stored, dict) else [_CHECKSUMS]
        wrong = next(
            n for n in names if not isinstance(stored, dict) or stored.get(n) != found.get(n)
        )
        raise _damaged(path, f"{wrong} is not as it was written")


def _empty(leaf: Any) -> np.ndarray:
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def load_info(path: Path) -> dict[str, Any]:
    """The JSON header of what `save_tree` wrote.

    Raises:
      UserError: see `load_tree`.
    """
    from jdd import _orbax

    path = whole_copy(Path(path).absolute())
    if not path.is_dir():
        raise UserError(f"{path} does not exist: give a run's directory or its synthetic/ folder")
    if not (path / "info").is_dir() or not (path / "arrays").is_dir():
        raise UserError(f"{path} holds no checkpoint, or one that was cut off: make it again")
    try:
        info = _orbax.restore_info(path)
    except Exception as error:  # Orbax raises many kinds for a damaged file
        raise _damaged(path, error) from None
    version = info.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version}, this jdd reads version {FORMAT_VERSION}: "
            "load it with the jdd that wrote it, or make it again"
        )
    return info


class StateKeeper:
    """A run's states in `directory/<iteration>/`, the newest two kept; each is whole or absent."""

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory).absolute()

    def save(self, iteration: int, arrays: Any, info: Mapping[str, Any]) -> None:
        """Writes the state of `iteration` and then drops all but the newest two."""
        if writes():
            for unfinished in self.directory.glob(".*"):  # left by a process that was killed
                shutil.rmtree(unfinished, ignore_errors=True)
        save_tree(self.directory / str(iteration), arrays, {"iteration": iteration, **info})
        if writes():
            for stale in self.iterations()[:-2]:
                shutil.rmtree(self.directory / str(stale), ignore_errors=True)

    def iterations(self) -> list[int]:
        """The iterations of which a state is there, ascending."""
        if not self.directory.is_dir():
            return []
        return sorted(int(p.name) for p in self.directory.iterdir() if p.name.isdigit())

    def newest(
        self, like: Any, having: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]] | None:
        """The newest state that is whole, or None where there is none.

        Args:
          like: see `load_tree`.
          having: only states whose header holds these values.


        Raises:
          UserError: there are states, but none can be read.
        """
        failure: UserError | None = None
        for iteration in reversed(self.iterations()):
            path = self.directory / str(iteration)
            try:
                header = load_info(path)
                if all(header.get(name) == value for name, value in (having or {}).items()):
                    return load_tree(path, like)
            except UserError as error:
                failure = failure or error
        if failure is not None:
            raise UserError(f"{failure}, or remove {self.directory} to start afresh")
        return None

    def clear(self) -> None:
        """Removes all states."""
        if writes():
            shutil.rmtree(self.directory, ignore_errors=True)
        wait_for_all(f"cleared {self.directory}")


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Makes the caller the directory's only writer; another process gets a `UserError`."""
    if not writes():
        yield
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory / ".lock", os.O_CREAT | os.O_RDWR)
    except OSError as error:
        raise UserError(f"{directory} cannot be written ({_first_line(error)})") from None
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


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:160]


def _damaged(path: Path, why: BaseException | str) -> UserError:
    what = why if isinstance(why, str) else _first_line(why)
    return UserError(
        f"{path} is damaged or was cut off while being written ({what}): make it again"
    )
