"""An argument parser for settings: flags, help, and errors in one line that name the flag."""

import argparse
import difflib
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from jdd.errors import UserError
from jdd.files import is_utf8
from jdd.settings import RENAMED, SEEDS

_RENAMED_FLAGS = {
    **{f"--{old.replace('_', '-')}": f"--{new.replace('_', '-')}" for old, new in RENAMED.items()},
    "--protocol seed": "--protocol finetune",
    "--protocol papers": "--protocol gdumb",
    "--space seed": "--space sequential",
}
_MOST_SEEDS = 1000
_SETTING = re.compile(r"`([a-z][a-z0-9_.]*)`")


def flag_of(name: str) -> str:
    """The flag of a setting: "lr_img" → "--lr-img", "experts.chunk" → "--experts-chunk"."""
    return "--" + name.replace("_", "-").replace(".", "-")


def in_flags(text: str) -> str:
    """A message in which settings are named between backticks, with their flags instead."""
    return _SETTING.sub(lambda match: flag_of(match[1]), text)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `UserError`s, and which takes no abbreviated flags."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.HelpFormatter(
                prog, max_help_position=34, width=100
            ),
            **options,
        )
        self.explain: Callable[[str], str | None] = lambda flag: None
        """what to say of a flag that is not known; None: nothing in particular"""
        self.add_argument(
            "--no-compilation-cache",
            action=_NoCompilationCache,
            nargs=0,
            dest=argparse.SUPPRESS,
            help="compile anew, and keep nothing of it for later commands",
        )
        self.add_argument(
            "--quiet", action="store_true", help="show warnings, errors and the result alone"
        )

    def error(self, message: str) -> NoReturn:
        """Raises the parser's complaint."""
        raise UserError(f"{message}; --help lists the flags")

    def parse_args(self, *arguments: Any) -> argparse.Namespace:  # type: ignore[override]
        """Parses, naming the flag that one which is not known may stand for."""
        args: argparse.Namespace
        args, rest = self.parse_known_args(*arguments)
        if rest:
            raise UserError(self._unknown(rest[0]))
        from jdd.report import console

        console.set_quiet(args.quiet)
        return args

    def parse_known_args(self, *arguments: Any) -> Any:  # type: ignore[override]
        """Parses what is known; what no value may hold, and no file of ours, is refused at once."""
        for word in (arguments and arguments[0]) or sys.argv[1:]:
            if "\0" in word:
                raise UserError("an argument holds a NUL; --help lists the flags")
            if not is_utf8(word):
                raise UserError(f"the argument {word!a} is not UTF-8")
        return super().parse_known_args(*arguments)

    def _unknown(self, argument: str) -> str:
        if not argument.startswith("-"):
            return f"unexpected argument '{argument}'; --help lists the flags"
        flag = argument.split("=")[0]
        if (new := current_flag(flag)) != flag:
            return f"{flag} has another name since jdd 0.2: {new}"
        if (explained := self.explain(flag)) is not None:
            return explained
        flags = [f for action in self._actions for f in action.option_strings]
        near = difflib.get_close_matches(flag, flags, n=1)
        hint = f"did you mean {near[0]}?" if near else "--help lists the flags"
        return f"unknown argument '{argument}': {hint}"


def current_flag(flag: str) -> str:
    """Today's name of a flag of jdd 0.1; any other word as it is."""
    prefix = "--no-" if flag.startswith("--no-") else "--"
    new = _RENAMED_FLAGS.get("--" + flag.removeprefix(prefix))
    return flag if new is None else prefix + new.removeprefix("--")


def renamed_value(flag: str, value: str) -> None:
    """Raises `UserError` naming today's word where a flag is given one of jdd 0.1's."""
    if (old := f"{flag} {value}") in _RENAMED_FLAGS:
        raise UserError(f"{old} has another name since jdd 0.2: {_RENAMED_FLAGS[old]}")


class _NoCompilationCache(argparse.Action):
    def __call__(self, *_: Any) -> None:
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
        if "jax" in sys.modules:
            import jax

            jax.config.update("jax_enable_compilation_cache", False)


def add_settings(
    parser: argparse.ArgumentParser,
    title: str,
    values: Mapping[str, Any],
    words: Mapping[str, str],
    template: str = "default: {}",
) -> None:
    """A flag for each setting; what the user does not override stays out of the namespace.

    Args:
      parser: where to.
      title: of the group in `--help`.
      values: default by the setting's name; its type is the flag's.
      words: help by name.
      template: of a default in the help.
    """
    group = parser.add_argument_group(title)
    for name, value in values.items():
        text = in_flags(words.get(name, name.replace("_", " "))).replace("%", "%%")
        options: dict[str, Any] = {
            "dest": name,
            "default": argparse.SUPPRESS,
            "help": f"{text} ({template.format(_format_value(value))})",
        }
        if isinstance(value, bool):
            options |= {"action": argparse.BooleanOptionalAction}
        else:
            metavar = {int: "N", float: "X"}.get(type(value), "NAME")
            options |= {"type": _typed(type(value)), "metavar": metavar}
        try:
            group.add_argument(flag_of(name), **options)
        except argparse.ArgumentError:
            raise UserError(
                f"the setting {name} has the name of a flag of the script: choose another"
            ) from None


def chosen(args: argparse.Namespace, names: Any) -> dict[str, Any]:
    """Those of the named settings that the user has set."""
    return {name: getattr(args, name) for name in names if hasattr(args, name)}


def integer(text: str) -> int:
    """A whole number."""
    return int(_typed(int)(text))


def number(text: str) -> float:
    """A number."""
    return float(_typed(float)(text))


def seed(text: str) -> int:
    """A seed: a whole number of 32 bits."""
    value = integer(text)
    if not 0 <= value < SEEDS:
        raise argparse.ArgumentTypeError(f"'{text}' is not from 0 to {SEEDS - 1}")
    return value


def seeds(text: str) -> list[int]:
    """Seeds joined by commas, each once; 0-7 stands for those from 0 to 7."""
    numbers: list[int] = []
    for part in names(text):
        first, dash, last = part.partition("-")
        low, high = seed(first), seed(last if dash else first)
        if high < low or high - low >= _MOST_SEEDS:
            words = f"from a seed up to a larger one, at most {_MOST_SEEDS} in all"
            raise argparse.ArgumentTypeError(f"'{part}': {words}")
        numbers += range(low, high + 1)
    if len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"'{text}': name each once")
    return numbers


def at_least(least: int) -> Callable[[str], int]:
    """A whole number of at least `least`."""

    def convert(text: str) -> int:
        value = integer(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{text}: at least {least} is needed")
        return value

    return convert


def above_zero(text: str) -> float:
    """A finite number above 0."""
    value = number(text)
    if not 0 < value < float("inf"):
        words = "it must be finite" if value > 0 else "it must be above 0"
        raise argparse.ArgumentTypeError(f"{text}: {words}")
    return value


def names(text: str) -> list[str]:
    """Names joined by commas, each once."""
    listed = [name for name in text.split(",") if name]
    if not listed or len(set(listed)) < len(listed):
        raise argparse.ArgumentTypeError(f"'{text}': name each once, joined by commas")
    return listed


def _typed(kind: type) -> Any:
    def convert(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            words = {int: "a whole number", float: "a number"}.get(kind, kind.__name__)
            raise argparse.ArgumentTypeError(f"'{text}' is not {words}") from None

    return convert


def _format_value(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
