"""`distill.py`: turns a dataset into a few synthetic images, and says how good they are."""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jdd.cli import flags, forecast, selection
from jdd.cli.parser import Parser, in_flags
from jdd.cli.platform import tune_xla
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import UserError

if TYPE_CHECKING:
    from jdd.runs import MakeListener, RunResult, RunSettings

USAGE = "%(prog)s [--method NAME] [--dataset NAME] [--ipc N] [--out DIR] [flags]"
DESCRIPTION = (
    "Distils a dataset: makes a few synthetic images on which a fresh network trains almost as "
    "well as on all real ones. Leaves the set, its pictures and its accuracy in --out."
)
DRY_RUN, RECOMMEND = "--dry-run", "--recommend"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if forecast.is_wanted(words):
        forecast.compile_only()
    tune_xla()
    again = "" if DRY_RUN in words else "the same command with --resume"
    return run_script(lambda stopper: _work(words, stopper), again)


def _parser() -> Parser:
    parser = Parser(prog="distill.py", usage=USAGE, description=DESCRIPTION)
    selection.add_run_flags(parser)
    selection.add_directory_flags(parser)
    parser.add_argument(
        DRY_RUN,
        action="store_true",
        help="print what the run will take: parameters, memory, time; write nothing",
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write event files for TensorBoard into tensorboard/ in --out: metrics, accuracies, "
        "pictures (needs tensorboardX; a run that is resumed needs the flag again)",
    )
    parser.add_argument(
        "--listener",
        metavar="FILE",
        help="a Python file whose listener(settings, out) returns a listener of your own, which "
        "hears of updates and evaluations (docs/own-method.md)",
    )
    parser.add_argument(
        RECOMMEND,
        action="store_true",
        help="print the command that the measured tables speak for, for this dataset, images per "
        "class and --minutes, with its expected accuracy and time; run nothing",
    )
    parser.add_argument(
        forecast.TARGET, metavar="NAME", help=f"with {DRY_RUN}: {forecast.TARGET_WORDS}"
    )
    return parser


def _work(words: Sequence[str], stopper: Stopper) -> None:
    began = time.monotonic()
    if RECOMMEND in words:
        return _recommend(words)
    parser = _parser()
    preset = "paper" if forecast.is_wanted(words) else None
    args, settings = selection.parse(parser, words, preset)
    if args.dry_run and args.seeds is not None:
        raise UserError(f"`seeds`: {DRY_RUN} is of one run, leave it out")
    if args.dry_run and args.resume:
        raise UserError(f"`resume`: {DRY_RUN} is of a whole run, leave it out")
    if args.target is not None:
        if not args.dry_run:
            raise UserError(f"`target`: nothing can be run there, give {DRY_RUN} too")
        return forecast.show(args, settings, ())
    if args.dry_run:
        _estimate(args, settings, stopper)
        return

    from jdd import distributed
    from jdd.report.run import several, summary
    from jdd.report.web import up_to_date
    from jdd.runs import run_seeds

    outs, listeners = selection.outs(args, settings), _listeners(args)

    def command(seed: int) -> str:
        of_seed = seed if args.seeds else None
        return selection.command(words, settings.preset, args.before, of_seed)

    with flags.on_devices(args, stopper) as should_stop:
        results = run_seeds(
            settings,
            outs,
            data_dir=args.data_dir,
            experts_dir=Path(args.experts) if args.experts else None,
            resume=args.resume,
            overwrite=args.overwrite,
            wait=args.wait,
            should_stop=should_stop,
            began=began,
            command=command,
            listeners=listeners,
        )
    if not distributed.is_primary():
        return
    pages = [up_to_date(out) for out in outs.values()]
    if args.seeds is None:
        print(in_flags(summary(results[0], outs[settings.seed])))
        print(f"report: {pages[0]}")
    else:
        print(several(results))
    if args.json:
        value = results[0].to_json() if args.seeds is None else seeds_as_json(results)
        print_json(value)


def _listeners(args: argparse.Namespace) -> "list[MakeListener]":
    """What makes the listeners that the user asks for."""
    made: list[MakeListener] = []
    if args.tensorboard:
        from jdd.runs.tensorboard import TensorBoard

        made.append(TensorBoard)
    if args.listener is not None:
        from jdd.runs.own_listener import from_file

        made.append(from_file(args.listener))
    return made


def seeds_as_json(results: "Sequence[RunResult]") -> dict[str, Any]:
    """Runs that differ in their seeds, as one object; the mean and deviation are over seeds."""
    from jdd.training import Accuracy

    accuracy = Accuracy(tuple(result.best.accuracy.mean for result in results))
    return {
        "task": "distill",
        "seeds": [result.seed for result in results],
        **accuracy.to_json(),
        "seconds": round(sum(result.seconds for result in results), 2),
        "runs": [result.to_json() for result in results],
    }


def _recommend(words: Sequence[str]) -> None:
    """Prints the command that the measured tables speak for."""
    from jdd.cli.parser import above_zero, at_least

    parser = Parser(prog=f"distill.py {RECOMMEND}", description="Recommends a command.")
    parser.add_argument(RECOMMEND, action="store_true", help="what this is")
    parser.add_argument("--dataset", default="mnist", metavar="NAME", help="default: mnist")
    parser.add_argument("--ipc", type=at_least(1), default=1, metavar="N", help="default: 1")
    words_of_minutes = "most that distilling may take (default: no limit)"
    parser.add_argument(
        "--minutes", type=above_zero, default=float("inf"), metavar="X", help=words_of_minutes
    )
    flags.add_data_dir(parser)
    flags.add_json(parser)
    args = parser.parse_args(words)

    from jdd import data
    from jdd.report import recommendation

    data.check_name(args.dataset, args.data_dir)
    measured = recommendation.stored()
    row = recommendation.recommend(measured, args.dataset, args.ipc, args.minutes)
    if args.data_dir:
        row["command"] += f" --data-dir {shlex.quote(args.data_dir)}"
    print(recommendation.in_words(row))
    if args.json:
        print_json(row)


def _estimate(args: argparse.Namespace, settings: "RunSettings", stopper: Stopper) -> None:
    from jdd import distributed
    from jdd.report.run import expected
    from jdd.runs.dry_run import estimate

    with flags.on_devices(args, stopper):
        costs = estimate(settings, args.data_dir)
    if distributed.is_primary():
        print(expected(costs))
        if args.json:
            print_json(costs)
