"""`growth.py`: how time and memory of an update grow with its sizes."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from jdd.cli.flags import add_json, check_writable
from jdd.cli.parser import Parser, add_settings, at_least, chosen, integer
from jdd.cli.platform import tune_xla
from jdd.cli.program import Stopper, print_json, run_script

NAME = "growth"
DESCRIPTION = (
    "Measures time and memory of an update along one size at a time, the others staying as at the "
    "base point, and fits a power law to each: time proportional to size^exponent. Images, experts "
    "and weights are random. Run nothing else meanwhile."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper))


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    from jdd import data
    from jdd.benchmarks import growth
    from jdd.report import growth as report
    from jdd.report import outcome
    from jdd.report.console import ProgressBar
    from jdd.runs.result import machine
    from jdd.settings import defaults, helps

    parser = Parser(prog="growth.py", description=DESCRIPTION)
    of_subject = defaults(growth.Subject)
    add_settings(parser, "settings", of_subject, helps(growth.Subject))
    sizes = parser.add_argument_group("sizes to grow along, separated by commas; none: not this")
    base_point = parser.add_argument_group("the others meanwhile: the base point")
    for name, axis in growth.AXES.items():
        words = f"{axis.words} (default: {','.join(map(str, axis.values))})"
        sizes.add_argument(f"--{name}", type=_counts, metavar="N,N", help=words)
        at = growth.Point._field_defaults[name]
        base_point.add_argument(
            f"--base-{name}", type=at_least(1), metavar="N", help=f"default: {at}"
        )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help=f"where {NAME}.json, {NAME}.md and {NAME}.png go, replacing existing ones (default: "
        f"checkpoints/<dataset>/{NAME}-<method>/)",
    )
    add_json(parser)
    args = parser.parse_args(arguments)
    subject = growth.Subject(**chosen(args, of_subject))
    base, axes = growth.plan(
        subject,
        {name: getattr(args, name) for name in growth.AXES},
        {name: getattr(args, f"base_{name}") for name in growth.AXES},
    )
    by_default = f"checkpoints/{data.short_name(subject.dataset)}/{NAME}-{subject.method}"
    out = Path(args.out or by_default)
    check_writable(out)
    with ProgressBar("points") as bar:
        measured = growth.measure_all(subject, base, axes, bar.at, stopper)
    result = {
        **outcome.stamp(NAME),
        **{name: getattr(subject, name) for name in of_subject if name != "most"},
        "ipc": base.ipc,
        "machine": machine(),
        "base": {name: getattr(base, name) for name in subject.axes()},
        "sizes": measured,
        "seconds": round(time.monotonic() - began, 2),
    }
    words_of = {name: axis.words for name, axis in growth.AXES.items()}
    page, picture = report.page(result, words_of), report.picture(result, words_of)
    files = outcome.save(out, NAME, result, page, picture)
    print(f"{page}\n{result['seconds']:.0f} s in all: {', '.join(map(str, files))}")
    if args.json:
        print_json(result)


def _counts(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    values = tuple(integer(part) for part in text.split(","))
    if min(values) < 1 or len(set(values)) < len(values):
        raise argparse.ArgumentTypeError(f"'{text}' is not different numbers from 1 on, or none")
    return tuple(sorted(values))
