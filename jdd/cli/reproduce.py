"""`reproduce.py`: every task that two course projects set themselves, one after another."""

import itertools
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jdd.cli import flags
from jdd.cli.parser import Parser, above_zero, flag_of, names, seed
from jdd.cli.platform import tune_xla
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import Interrupted, UserError

DESCRIPTION = (
    "Runs every task of the two course projects that this library grew out of, in order, on the "
    "datasets asked for: both starts of gradient and attention matching, trajectory matching and "
    "PAD, cost, other architectures, architecture search, continual learning. What is done is not "
    "done again, what was stopped is resumed. Ends in RESULTS.md and a picture for each task."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper), "the same command")


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    args = _parser().parse_args(arguments)

    from jdd import files, locks
    from jdd.report import outcome
    from jdd.report import reproduction as report
    from jdd.report.console import say
    from jdd.tasks import reproduction

    out, ends = Path(args.out), began + 60 * args.minutes
    further = {"seed": args.seed, "data_dir": args.data_dir}
    quick = flags.check_preset(args.preset) == "quick"
    jobs = reproduction.plan(args.dataset, out, args.preset, further, _arguments, quick)
    if args.list:
        scripts = ((f"bin/{job.step.script}.py", *job.command[1:]) for job in jobs)
        commands = [shlex.join(["python", *command]) for command in scripts]
        print(*commands, sep="\n")
        return print_json({"task": "reproduce", "commands": commands}) if args.json else None
    with locks.locked(out, wait_until=stopper if args.wait else None):
        outcomes = reproduction.run_all(jobs, lambda: stopper() or time.monotonic() > ends, say)
        files.write_text(out / "RESULTS.md", report.page(out, jobs, outcomes))
    if stopper():
        raise Interrupted
    result = {
        **outcome.stamp("reproduce"),
        "datasets": args.dataset,
        "seed": args.seed,
        "tasks": reproduction.by_dataset(jobs, outcomes),
        "results": str(out / "RESULTS.md"),
        "seconds": round(time.monotonic() - began, 2),
    }
    counts = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in ("done", "left", "failed"))
    print(f"tasks: {counts}; {result['results']}, {result['seconds']:.0f} s")
    if args.json:
        print_json(result)
    failed = [job.step.name for job, of in zip(jobs, outcomes, strict=True) if of == "failed"]
    if failed:
        raise UserError(f"{', '.join(failed)} failed: what they said is above")


def _parser() -> Parser:
    parser = Parser(prog="reproduce.py", description=DESCRIPTION)
    words = "of digits, mnist, cifar10, mhist (default: digits)"
    parser.add_argument("--dataset", type=names, default=["digits"], metavar="NAMES", help=words)
    words = "stop after so many; the same command resumes (default: no limit)"
    parser.add_argument("--minutes", type=above_zero, default=float("inf"), metavar="X", help=words)
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    words = "default: quick on a CPU, else paper"
    parser.add_argument("--preset", metavar="quick|paper", help=words)
    words = "default: checkpoints/reproduction"
    parser.add_argument("--out", default="checkpoints/reproduction", metavar="DIR", help=words)
    parser.add_argument("--list", action="store_true", help="print the commands, run nothing")
    flags.add_wait(parser)
    flags.add_data_dir(parser)
    flags.add_json(parser)
    return parser


def _arguments(settings: Mapping[str, Any]) -> list[str]:
    named = {flag_of(name): value for name, value in settings.items() if value is not None}
    pairs = ((flag,) if value is True else (flag, str(value)) for flag, value in named.items())
    return [*itertools.chain(*pairs)]
