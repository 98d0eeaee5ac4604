"""Checkpoints: pytrees of arrays with a JSON header, stored by Orbax and verified when read."""

import errno
import hashlib
import math
import os
import shutil
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jdd import files
from jdd.distributed import barrier, is_primary
from jdd.errors import UserError
from jdd.files import first_line

FORMAT_VERSION = 1
_MOST_BYTES = 2**32  # of a checkpoint's arrays, where nothing else says how many they are
_CHECKSUMS = "checksums.json"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOENT, errno.EACCES, errno.EROFS)
_HEADER = "info/metadata"  # where Orbax puts it


class Damaged(UserError):
    """A checkpoint is not as it was written."""


def replace_directory(new: Path, target: Path) -> None:
    """Replaces the directory `target` by `new`; a complete copy exists at every moment.

    Between the two renames the old copy lies aside, where `resolve_directory` looks for it.
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
    files.flush(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def resolve_directory(path: Path) -> Path:
    """`path`, or the copy aside where a replacement of it was interrupted.

    Raises `UserError` for a path that nothing can lie at.
    """
    files.check_path(path)
    old = _replaced(path)
    return old if not path.exists() and old.exists() else path


def _replaced(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def save_tree(
    path: Path,
    arrays: Any,
    info: Mapping[str, Any],
    before_replacing: Callable[[], None] = lambda: None,
) -> None:
    """Writes arrays and a JSON header as one Orbax checkpoint, in place of an older one.

    The arrays are stored without the devices they lie on, so that they load on any others. In the
    same directory, `checksums.json` lets `load_tree` recognise damage.

    `before_replacing` is called once the new one is whole, and before the older one goes.

    Raises `UserError` where the directory cannot be written; the older one stays then.
    """
    path = Path(path).absolute()
    values = jax.device_get(arrays)
    if is_primary():
        _save_tree(path, values, info, before_replacing)
    barrier(f"saved {path}")


def _save_tree(
    path: Path, values: Any, info: Mapping[str, Any], before_replacing: Callable[[], None]
) -> None:
    from jdd import _orbax

    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(new, ignore_errors=True)
        _orbax.save(new, values, {"format_version": FORMAT_VERSION, **info})
        files.write_json(new / _CHECKSUMS, _checksums(new))
        for written in new.rglob("*"):
            files.flush(written)
        before_replacing()
        replace_directory(new, path)
    except UserError:
        raise
    except Exception as error:  # OSError; of a full disk TensorStore makes a ValueError
        raise UserError(f"{path} cannot be written ({why(error)})") from None
    finally:  # what Orbax has not come to rename, too
        for left in path.parent.glob(f"{new.name}*"):
            shutil.rmtree(left, ignore_errors=True)


def why(error: Exception) -> str:
    """In the system's words, where there are any: TensorStore wraps them in a page of its own."""
    number = getattr(error, "errno", None)
    codes = [number] if number else [code for code in _FULL if os.strerror(code) in str(error)]
    return os.strerror(codes[0]) if codes else first_line(error)


def load_tree(path: Path, like: Any = None) -> tuple[Any, dict[str, Any]]:
    """Reads what `save_tree` wrote.

    Args:
      path: the checkpoint's directory.
      like: a pytree of arrays whose structure, shapes and types the result has; None gives plain
        dictionaries and lists.

    Returns:
      The arrays, as NumPy's, and the header.

    Raises:
      UserError: no checkpoint, or one of another format version.
      Damaged: it is not as it was written, or its arrays are not as `like` has them.
    """
    from jdd import _orbax

    info = load_info(path)
    path = resolve_directory(Path(path).absolute())
    # Before Orbax opens them: its threads print tracebacks of their own about damaged files.
    _verify(path, "arrays")
    try:
        _check_arrays(_orbax.shapes(path), like)
        target = None if like is None else jax.tree.map(_empty, like)
        arrays = _orbax.restore(path, target)
    except Exception as error:  # Orbax and TensorStore raise many kinds
        raise _damaged(path, error) from None
    return arrays, info


def _check_arrays(stored: Any, like: Any) -> None:
    """Raises `ValueError` where arrays are not as `like` has them, or too large to be read."""

    def kinds(tree: Any) -> list[tuple[tuple[int, ...], np.dtype]]:
        return [(tuple(leaf.shape), np.dtype(leaf.dtype)) for leaf in jax.tree.leaves(tree)]

    if like is None:
        size = sum(math.prod(shape) * dtype.itemsize for shape, dtype in kinds(stored))
        if size > _MOST_BYTES:
            raise ValueError(f"arrays of {size:,} bytes, at most {_MOST_BYTES:,} are read")
    elif sorted(kinds(stored), key=repr) != sorted(kinds(like), key=repr):
        raise ValueError("arrays of other shapes or types")


def _checksums(path: Path, folders: Sequence[str] = ("arrays", "info")) -> dict[str, str]:
    digests = {}
    roots = [path / folder for folder in folders]
    for file in sorted(entry for root in roots for entry in (root, *root.rglob("*"))):
        mode = file.lstat().st_mode
        if stat.S_ISDIR(mode):
            continue
        name = file.relative_to(path).as_posix()
        if not stat.S_ISREG(mode):
            raise _damaged(path, f"{name} is a link, a pipe or a device")
        with file.open("rb") as opened:
            digests[name] = hashlib.file_digest(opened, "sha256").hexdigest()
    return digests


def _verify(path: Path, folder: str) -> None:
    """Raises `Damaged` where a file of the folder is not as it was written."""
    if not (path / _CHECKSUMS).exists():
        raise _damaged(path, f"{_CHECKSUMS} is missing")
    stored = files.read_json(path / _CHECKSUMS)
    if not isinstance(stored, dict) or any(
        not name.startswith(("arrays/", "info/")) for name in stored
    ):
        raise _damaged(path, f"{_CHECKSUMS} is not as it was written")
    stored = {name: digest for name, digest in stored.items() if name.startswith(f"{folder}/")}
    actual = _checksums(path, [folder])
    if folder == "info" and not stored:
        return  # jdd 0.1 has none of the description
    for name in sorted({*stored, *actual}):
        if stored.get(name) != actual.get(name):
            raise _damaged(path, f"{name[:80]!r} is not as it was written")


def _empty(leaf: Any) -> np.ndarray:
    return np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape)


def load_info(path: Path) -> dict[str, Any]:
    """The JSON header of what `save_tree` wrote.

    Raises:
      UserError: see `load_tree`.
    """
    path = resolve_directory(Path(path).absolute())
    if not path.is_dir():
        why = "is a file" if path.exists() else "does not exist"
        raise UserError(f"{path} {why}: give a run's directory or its synthetic/ folder")
    if not (path / "info").is_dir() or not (path / "arrays").is_dir():
        raise UserError(
            f"{path} holds no checkpoint, or one that was cut off: name a run's directory, or make "
            "it again"
        )
    try:
        info = files.read_json(path / _HEADER)
    except UserError as error:
        raise _damaged(path, error) from None
    version = info.get("format_version") if isinstance(info, dict) else None
    if isinstance(version, int) and version != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {version}, this jdd reads version {FORMAT_VERSION}: "
            "load it with the jdd that wrote it, or make it again"
        )
    _verify(path, "info")
    if version != FORMAT_VERSION:
        raise _damaged(path, f"{_HEADER} has no format version")
    return dict(info)


class StateCheckpoints:
    """The newest two states of a run, in `directory/<iteration>/`; each is complete or absent."""

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory).absolute()

    def save(self, iteration: int, arrays: Any, info: Mapping[str, Any]) -> None:
        """Writes the state of `iteration`, then removes all but the newest two."""
        if is_primary():
            for unfinished in self.directory.glob(".*"):  # left by a process that was killed
                shutil.rmtree(unfinished, ignore_errors=True)
        save_tree(self.directory / str(iteration), arrays, {"iteration": iteration, **info})
        if is_primary():
            for stale in self.iterations()[:-2]:
                shutil.rmtree(self.directory / str(stale), ignore_errors=True)

    def iterations(self) -> list[int]:
        """The iterations that a state is stored of, ascending."""
        if not self.directory.is_dir():
            return []
        return sorted(int(p.name) for p in self.directory.iterdir() if p.name.isdecimal())

    def newest(
        self, like: Any, having: Mapping[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]] | None:
        """The newest state that can be read, or None where none is stored.

        Args:
          like: see `load_tree`.
          having: only states whose header holds these values.

        Raises:
          UserError: states are stored, but none can be read.
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
        if is_primary():
            shutil.rmtree(self.directory, ignore_errors=True)
        barrier(f"cleared {self.directory}")


def _damaged(path: Path, why: BaseException | str) -> Damaged:
    what = why if isinstance(why, str) else first_line(why)
    return Damaged(f"{path} is damaged or was cut off while being written ({what}): make it again")
