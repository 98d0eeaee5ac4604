"""`forecast.py`: compiles a run's programs for an accelerator that is not there, and counts."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jdd.cli import selection
from jdd.cli.flags import check_file
from jdd.cli.parser import Parser
from jdd.cli.parser import names as listed
from jdd.cli.platform import tune_xla
from jdd.cli.program import Stopper, print_json, run_script

if TYPE_CHECKING:
    from jdd.runs import RunSettings

TARGET = "--target"
USAGE = "%(prog)s --target v5e:2x2|h200|… [--method NAME] [--dataset NAME] [--ipc N] [flags]"
DESCRIPTION = (
    "Compiles the programs of a run for a TPU or a GPU that need not be there, and says of each: "
    "compile time, memory, arithmetic, kernels, host round trips, collectives, and a time by a "
    "model. Runs nothing, and reads no files of the datasets that come with jdd. Takes the flags "
    "of distill.py."
)
TARGET_WORDS = (
    "chips to compile for: v5e or v6e with the shape of a slice (v5e:2x2, v6e:4x8), h100, h200, or "
    "several of these (h200x8); needs pip install 'jdd[forecast-tpu]' or 'jdd[forecast-cuda]'"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    compile_only()
    tune_xla()
    return run_script(lambda stopper: _work(words, stopper))


def compile_only() -> None:
    """Keeps JAX, before it is loaded, on the CPU, and from taking programs that are stored."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"


def is_wanted(words: Sequence[str]) -> bool:
    """Whether a command line has a target."""
    return any(word.partition("=")[0] == TARGET for word in words)


def _work(words: Sequence[str], stopper: Stopper) -> None:
    del stopper  # a compilation cannot be stopped half-way
    parser = Parser(prog="forecast.py", usage=USAGE, description=DESCRIPTION)
    selection.add_run_flags(parser)
    parser.add_argument(TARGET, metavar="NAME", help=TARGET_WORDS, required=True)
    parser.add_argument(
        "--programs",
        type=listed,
        default=[],
        metavar="NAME,NAME",
        help="update, expert epoch, evaluation, test (default: all that the run has)",
    )
    parser.add_argument("--out", metavar="FILE", help="where the result goes as JSON, too")
    args, settings = selection.parse(parser, words, preset="paper")
    if args.out:
        check_file("out", args.out)
    show(args, settings, args.programs, args.out, _kept(words))


def _kept(words: Sequence[str]) -> list[str]:
    """The flags without those that say where the result goes."""
    kept, rest = [], iter(words)
    for word in rest:
        if word == "--out":
            next(rest)
        elif word != "--json" and not word.startswith("--out="):
            kept.append(word)
    return kept


def show(
    args: argparse.Namespace,
    settings: "RunSettings",
    only: Sequence[str],
    out: str | None = None,
    flags: Sequence[str] = (),
) -> None:
    """Prints the forecast of a run, and keeps it in the file `out` with the `flags` that made it.

    Raises:
      UserError: see `jdd.benchmarks.forecast.forecast`.
    """
    from jdd import files
    from jdd.benchmarks import forecast
    from jdd.report.console import say
    from jdd.report.forecast import page

    result: dict[str, Any] = forecast.forecast(
        settings,
        forecast.target(args.target),
        args.data_dir,
        args.devices,
        args.divide_data,
        only,
        lambda name: say(f"compiling for {args.target}: {name}"),
    )
    print(page(result))
    if out is not None:
        files.write_json(Path(out), {"flags": list(flags), **result})
    if args.json:
        print_json(result)
