"""Arguments that the scripts share: settings as flags, help, errors in one line."""

import argparse
import contextlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jdd.errors import UserError

_CACHE_BYTES = 2**29
_X86 = ("x86_64", "amd64")
_PROGRAM, _USED = "-cache", "-atime"  # how the files of JAX's cache end


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
        self.add_argument(
            "--no-compilation-cache",
            action=_NoCompilationCache,
            nargs=0,
            dest=argparse.SUPPRESS,
            help="compile anew, and keep nothing of it for later commands",
        )

    def error(self, message: str) -> NoReturn:
        """Raises the parser's complaint."""
        raise UserError(f"{message}; --help lists the flags")

    def parse_args(self, *arguments: Any) -> argparse.Namespace:  # type: ignore[override]
        """Parses, naming the flag that one which is not known may stand for."""
        found, rest = self.parse_known_args(*arguments)
        if rest:
            if not rest[0].startswith("-"):
                raise UserError(f"unexpected argument '{rest[0]}'; --help lists the flags")
            import difflib

            flags = [f for action in self._actions for f in action.option_strings]
            near = difflib.get_close_matches(rest[0].split("=")[0], flags, n=1)
            hint = f"did you mean {near[0]}?" if near else "--help lists the flags"
            raise UserError(f"unknown argument '{rest[0]}': {hint}")
        return found


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
) -> None:
    """A flag for each setting; what the user does not say stays out of the namespace.

    Args:
      parser: where to.
      title: of the group in `--help`.
      values: default by name; its type is the flag's.
      words: help by name.
    """
    group = parser.add_argument_group(title)
    for name, value in values.items():
        flag = "--" + name.replace("_", "-")
        text = f"{words.get(name, name.replace('_', ' '))} (default: {_shown(value)})"
        options: dict[str, Any] = {"dest": name, "default": argparse.SUPPRESS, "help": text}
        if isinstance(value, bool):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
        else:
            metavar = {int: "N", float: "X"}.get(type(value), "NAME")
            group.add_argument(flag, type=_typed(type(value)), metavar=metavar, **options)


def integer(text: str) -> int:
    """A whole number."""
    return int(_typed(int)(text))


def number(text: str) -> float:
    """A number."""
    return float(_typed(float)(text))


def seed(text: str) -> int:
    """A seed: a whole number of 32 bits."""
    value = integer(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"'{text}' is not from 0 to {2**32 - 1}")
    return value


def _typed(kind: type) -> Any:
    def convert(text: str) -> Any:
        try:
            return kind(text)
        except ValueError:
            words = {int: "a whole number", float: "a number"}.get(kind, kind.__name__)
            raise argparse.ArgumentTypeError(f"'{text}' is not {words}") from None

    return convert


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def settings_words(kinds: Sequence[type]) -> dict[str, str]:
    """The help of every field of settings dataclasses, by name."""
    import dataclasses

    return {
        f.name: f.metadata["help"]
        for kind in kinds
        for f in dataclasses.fields(kind)
        if "help" in f.metadata
    }


def tune_xla() -> None:
    """Chooses XLA's code generation and where compiled programs are kept, before JAX starts.

    What the user has set in the environment stays. On x86 YNNPACK would take convolutions, which
    are faster without it, by a tenth in a training step; sums and matrix products stay with it.
    Without the fusion emitters JAX 0.10 compiles for CPUs in two thirds of the time; JAX 0.11 has
    no such flag, and ends the process where it meets one that it does not know.

    Products are TF32 on GPUs and three bfloat16 passes on TPUs, as PyTorch's convolutions are TF32;
    JAX's own default on a TPU would be a single pass. On a CPU they are float32 either way.

    Compiled programs are kept in the user's cache directory, the least recently used ones going
    when they fill it. Where `JAX_COMPILATION_CACHE_DIR` names another, JAX's own rules hold there.
    """
    version, flags = importlib.metadata.version("jaxlib"), []
    if version.startswith(("0.10.", "0.11.")) and platform.machine().lower() in _X86:
        flags.append("--xla_cpu_experimental_ynn_fusion_type=reduce,individual_dot")
    if version.startswith("0.10."):
        flags.append("--xla_cpu_use_fusion_emitters=false")
    if flags:
        os.environ.setdefault("XLA_FLAGS", " ".join(flags))
    os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "tensorfloat32")
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    programs = Path(caches) / "jdd" / "compiled"
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(programs)
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(_CACHE_BYTES))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    # JAX can add no program any more beside one that was cut off before the time of its use stood
    # beside it.
    with contextlib.suppress(OSError):
        there = {path.name for path in programs.iterdir()}
        for name in there:
            if name.endswith(_PROGRAM) and name.removesuffix(_PROGRAM) + _USED not in there:
                (programs / name).unlink(missing_ok=True)


def say_error(error: UserError) -> None:
    """The error as one line (a few, where the message has them) on standard error."""
    print(f"error: {error}", file=sys.stderr)
