"""`benchmark.py`: how long a step of each method takes, and alongside it the same in PyTorch."""

import argparse
import textwrap
import time
from collections.abc import Sequence
from typing import Any

from jdd.cli.flags import add_json
from jdd.cli.parser import Parser, add_settings, chosen, names
from jdd.cli.platform import tune_xla
from jdd.cli.program import Stopper, print_json, run_script

NAME = "benchmark"
DESCRIPTION = (
    "Times one step after another on random images: an update of a method, a training step, a "
    "test, with a ConvNet-3 and the papers' settings. One step beforehand warms up; medians are "
    "printed. Run nothing else meanwhile: all cores of the machine are used."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper))


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    from jdd.benchmarks import cases, measure
    from jdd.report import benchmark as report
    from jdd.report.console import ProgressBar, say
    from jdd.runs.result import machine
    from jdd.settings import defaults, helps

    parser = Parser(prog="benchmark.py", description=textwrap.fill(DESCRIPTION, 100))
    # One case a line, and none broken at a hyphen.
    parser.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(
        prog, max_help_position=34, width=100
    )
    parser.epilog = "\n".join(
        ["cases:", *(f"  {name:22}{case.words()}" for name, case in cases.CASES.items())]
    )
    parser.add_argument(
        "--case",
        type=names,
        default=["all"],
        metavar="NAME,NAME",
        help="what to measure, listed below (default: all)",
    )
    of_settings = defaults(measure.BenchmarkSettings)
    add_settings(parser, "settings", of_settings, helps(measure.BenchmarkSettings))
    add_json(parser)
    args = parser.parse_args(arguments)
    settings = measure.BenchmarkSettings(**chosen(args, of_settings))
    wanted = cases.CASES if args.case == ["all"] else {n: cases.case(n) for n in args.case}
    measured: dict[str, dict[str, Any]] = {}
    try:
        measure.prepare_peer(settings)
        for name, case in wanted.items():
            say(f"{name}: {case.words()}")
            with ProgressBar(f"{name}: rounds") as bar:
                measured[name] = measure.measure(case, settings, bar.callback(stopper))
    finally:  # also where it is stopped, the cases that are done
        if measured:
            print(report.page(settings.width, machine(), measured))
    if args.json:
        only = next(iter(measured.values())) if len(measured) == 1 else {}
        result = {**only, "task": NAME, **measure.circumstances(settings), "cases": measured}
        print_json({**result, "seconds": round(time.monotonic() - began, 2)})
