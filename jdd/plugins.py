"""A user's own Python files, which register methods, networks or datasets when they are loaded.

A plugin is a file that calls `jdd.methods.register`, `jdd.networks.register` or
`jdd.data.register`; an installed package can name such a module as an entry point of the group
`jdd.plugins`. What was loaded is written on runs and sets, and loaded again with them, but only
where the user has loaded that very file before: a stored set never runs code by itself.
"""

import contextlib
import hashlib
import importlib.metadata
import sys
import traceback
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from jdd import files, records
from jdd.errors import UserError

GROUP = "jdd.plugins"
_LOADED: dict[str, str] = {}  # path → sha256


def load(path: str | Path) -> None:
    """Loads a plugin, and remembers that this user trusts it.

    Raises:
      UserError: there is no such file, or it raises; the message says what.
    """
    files.check_path(Path(path))
    place = Path(path).resolve()
    source = _source(place)
    _run(path, source)
    digest, trusted = _digest(source), _trusted()
    if trusted.get(str(place)) != digest:
        with contextlib.suppress(OSError, UserError):  # without a cache it is not remembered
            _store().parent.mkdir(parents=True, exist_ok=True)
            files.write_json(_store(), {**trusted, str(place): digest})


def function(path: str | Path, name: str) -> Callable[..., Any]:
    """A function or class that a user's file defines; the file is not remembered.

    Args:
      path: of the file.
      name: of the function, and of the setting that names the file.

    Raises:
      UserError: there is no such file, it raises, or defines no such thing.
    """
    try:
        files.check_path(Path(path))
        value = getattr(_module(path, _source(Path(path).resolve())), name, None)
    except UserError as error:
        raise UserError(f"`{name}`: {error}") from error.__cause__
    if not callable(value):
        raise UserError(f"`{name}`: {path} defines no function of that name")
    return cast(Callable[..., Any], value)


@contextlib.contextmanager
def code_of(path: str | Path) -> Iterator[None]:
    """What a user's file raises inside becomes a `UserError` that says in which of its lines."""
    try:
        yield
    except UserError as error:
        raise UserError(f"plugin {path}: {error}") from None
    except Exception as error:  # whatever the user's own code raises
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(Path(path).resolve())]
        line = f", line {lines[-1]}" if lines else ""
        words = f"{type(error).__name__}: {files.first_line(error)}"
        raise UserError(f"plugin {path}{line}: {words}") from error


def _run(path: str | Path, source: bytes) -> None:
    """Runs a plugin, unless it has been."""
    place, digest = str(Path(path).resolve()), _digest(source)
    if _LOADED.get(place) != digest:
        _module(path, source)
        _LOADED[place] = digest


def _module(path: str | Path, source: bytes) -> types.ModuleType:
    """Runs the very bytes that were read; Python's own loader might take a compiled file."""
    place = Path(path).resolve()
    if place.suffix != ".py":
        raise UserError(f"{path} is no Python file: a plugin's name ends in .py")
    module = types.ModuleType(f"jdd_plugin_{place.stem}_{_digest(source)[:8]}")
    module.__file__ = str(place)
    sys.modules[module.__name__] = module
    with code_of(path):
        exec(compile(source, str(place), "exec"), vars(module))
    return module


def load_installed() -> None:
    """Loads what installed packages name as entry points of the group `jdd.plugins`."""
    for point in importlib.metadata.entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:  # whatever the package raises
            raise UserError(f"plugin {point.value}: {type(error).__name__}: {error}") from error


def load_again(plugins: Sequence[Mapping[str, str]]) -> None:
    """Loads the plugins that a run or a set was made with, as `loaded` gave them.

    One whose file name is that of a plugin loaded already is not loaded: the user has named it.

    Raises:
      UserError: one is not there, has changed, or was never loaded by this user.
    """
    try:
        kind = tuple[Mapping[str, str], ...]
        named: tuple[Mapping[str, str], ...] = records.convert(kind, plugins, "plugins")
    except ValueError as error:
        raise UserError(f"what it was made with is damaged: {error}") from None
    for plugin in named:
        path, digest = plugin.get("path", ""), plugin.get("sha256", "")
        if digest in _LOADED.values() or Path(path).name in map(_name, _LOADED):
            continue
        if not Path(path).is_file():
            raise UserError(f"made with the plugin {path}, which is not there: name it by `plugin`")
        source = _source(Path(path))
        if _digest(source) != digest or _trusted().get(path) != digest:
            raise UserError(
                f"made with the plugin {path}, which has changed or was never loaded here: read "
                "it, and name it by `plugin` to run it"
            )
        _run(path, source)


def loaded() -> tuple[dict[str, str], ...]:
    """The plugins loaded from files: `path` and `sha256` of each."""
    return tuple({"path": path, "sha256": digest} for path, digest in _LOADED.items())


def _source(path: Path) -> bytes:
    try:
        return files.read_bytes(path)
    except UserError as error:
        raise UserError(f"plugin {error}") from None


def _digest(source: bytes) -> str:
    return hashlib.sha256(source).hexdigest()


def _name(path: str) -> str:
    return Path(path).name


def _store() -> Path:
    return files.cache_dir() / "plugins.json"


def _trusted() -> dict[str, str]:
    try:
        value: dict[str, str] = records.convert(
            Mapping[str, str], files.read_json(_store()), "plugins"
        )
    except ValueError:  # none, or damaged: nothing is trusted then
        return {}
    return value
