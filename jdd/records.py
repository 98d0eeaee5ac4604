"""Dataclasses and named tuples from JSON, each field held against its annotation.

What a file holds has been through other hands: an editor, a full disk, another version. A value of
the wrong kind is refused where it is read, by its name, and not where it is used.
"""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from jdd import files
from jdd.errors import UserError, shortened

T = TypeVar("T")
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def load(path: Path, kind: type[T]) -> T:
    """What a JSON file holds, as `kind`: by its `from_json`, where it has one, else by `build`.

    Raises:
      UserError: the file is missing or is not JSON, or a field is wrong or missing; the message
        names both.
    """
    return parse(files.read_json(path), kind, path)


def parse(value: Any, kind: type[T], where: object) -> T:
    """JSON that came from `where`, as `kind`; see `load`."""
    try:
        if not isinstance(value, Mapping):
            raise ValueError(f"{shortened(repr(value))} where fields are needed")
        made: T = getattr(kind, "from_json", lambda fields: build(kind, fields))(value)
        return made
    except KeyError as error:
        raise UserError(f"{where} is damaged: '{error.args[0]}' is missing") from None
    except (ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise UserError(f"{where} is damaged: {files.first_line(error)}") from None


def build(kind: type[T], value: Mapping[str, Any], at: str = "") -> T:
    """A dataclass or named tuple of these fields.

    Lists become tuples where the annotation says so, and objects the dataclass that it names;
    fields that are left out have their defaults.

    Args:
      kind: what is made.
      value: the fields; some may have been built already.
      at: what the fields are of, for the message.

    Raises:
      ValueError: a field is wrong, missing or not known; the message names it.
    """
    hints, optional = _fields(cast(Any, kind))
    for name in value:
        if name not in hints:
            raise ValueError(f"{shortened(repr(at + name))} is not known")
    for name in hints:
        if name not in value and name not in optional:
            raise ValueError(f"'{at}{name}' is missing")
    return kind(**{name: convert(hints[name], each, at + name) for name, each in value.items()})


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, Any], set[str]]:
    """The annotation of each field, and the fields that have defaults."""
    hints = get_type_hints(kind)
    if not dataclasses.is_dataclass(kind):
        return {name: hints[name] for name in kind._fields}, set(kind._field_defaults)
    missing = dataclasses.MISSING
    fields = [f for f in dataclasses.fields(kind) if f.init]
    with_default = {
        f.name for f in fields if f.default is not missing or f.default_factory is not missing
    }
    return {f.name: hints[f.name] for f in fields}, with_default


def convert(hint: Any, value: Any, at: str) -> Any:
    """A value as its annotation says; raises `ValueError` naming `at` where it is something else.

    Whole numbers pass for numbers, as JSON does not tell 1.0 from 1 in every writer's hands.
    """
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and types.NoneType in args:
            return None
        (hint,) = (each for each in args if each is not types.NoneType)
        return convert(hint, value, at)
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ValueError(f"'{at}' is {shortened(repr(value))}, fields are needed")
        return {name: convert(args[1], each, f"{at}.{name}") for name, each in value.items()}
    if origin is not None and issubclass(origin, Sequence):
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"'{at}' is {shortened(repr(value))}, a list is needed")
        if origin is tuple and Ellipsis not in args and len(value) != len(args):
            raise ValueError(f"'{at}' has {len(value)} entries, {len(args)} are needed")
        kinds = [args[0]] * len(value) if Ellipsis in args or origin is not tuple else args
        return tuple(
            convert(kind, each, f"{at}[{i}]")
            for i, (kind, each) in enumerate(zip(kinds, value, strict=True))
        )
    if hint in _WORDS:
        accepted = (int, float) if hint is float else hint
        if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
            raise ValueError(f"'{at}' is {shortened(repr(value))}, {_WORDS[hint]} is needed")
        return value
    if isinstance(value, hint):
        return value
    if isinstance(value, list) and len(value) <= len(names := getattr(hint, "_fields", ())):
        value = dict(zip(names, value, strict=False))  # a named tuple, which JSON has as a list
    if not isinstance(value, Mapping):
        raise ValueError(f"'{at}' is {shortened(repr(value))}, fields are needed")
    if hasattr(hint, "from_json"):
        return hint.from_json(value)
    return build(hint, value, f"{at}.")
