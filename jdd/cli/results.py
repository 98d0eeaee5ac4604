"""`results.py RUN …`: tables of finished runs, from their `result.json`, alongside the papers'."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from jdd.cli import flags
from jdd.cli.parser import Parser, current_flag
from jdd.cli.program import Stopper, print_json, run_script

DESCRIPTION = (
    "Writes tables of finished runs from their result.json: accuracy, what the papers report, and "
    "the commands that make the same runs again."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    return run_script(lambda stopper: _work(arguments, stopper))


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    del stopper
    parser = Parser(prog="results.py", description=DESCRIPTION)
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="a run's directory, a result.json, or a directory to look for them in",
    )
    parser.add_argument(
        "--out", default="RESULTS.md", metavar="FILE", help="default: RESULTS.md; replaced"
    )
    flags.add_json(parser)
    args = parser.parse_args(arguments)

    from jdd import files
    from jdd.report import results
    from jdd.runs import RunResult

    paths = results.find(args.runs)
    runs = []
    for path in paths:
        run = RunResult.load(path)
        words = map(current_flag, run.command.split(" "))  # of a run of jdd 0.1, too
        runs.append(dataclasses.replace(run, command=" ".join(words)))
    files.write_text(Path(args.out), results.page(runs))
    print(f"{len(paths)} runs: {args.out}")
    if args.json:
        print_json({"out": args.out, "runs": [str(path) for path in paths]})
