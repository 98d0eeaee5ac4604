"""`measure_methods.py`: the runs behind RESULTS.md, one after another."""

import argparse
import shlex
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jdd.cli import flags
from jdd.cli.parser import Parser, above_zero, at_least, names
from jdd.cli.platform import tune_xla
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import Interrupted, SettingError, UserError

if TYPE_CHECKING:
    from jdd.tasks.table import Cell

DESCRIPTION = (
    "Distils every dataset by every method, with the presets' settings, and keeps each run's "
    "result.json for results.py. First it prints which runs there are and how long each took when "
    "it was last measured. What is done is not done again, what was stopped is resumed. Random "
    "images are drawn five times; a method that takes less than ten minutes runs with further "
    "seeds."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper), "the same command")


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    args = _parser().parse_args(arguments)

    from jdd import locks
    from jdd.methods import registry
    from jdd.report.console import say
    from jdd.tasks import table

    preset = flags.check_preset(args.preset)
    methods = args.methods or sorted(registry.names())
    wanted = table.cells(args.dataset, methods, args.ipc, args.seeds, preset)
    if args.methods is None and preset == "quick":
        skipped = [cell for cell in wanted if table.is_for_accelerators(cell)]
        wanted = [cell for cell in wanted if cell not in skipped]
    else:
        skipped = []
    out, keep, ends = Path(args.out), Path(args.keep), began + 60 * args.minutes
    if keep.is_file():
        raise SettingError("keep", keep, "it is a file, name a directory")
    _list(wanted, skipped, preset, keep)
    if args.list:
        commands = [shlex.join(["bin/distill.py", *table.arguments(c, preset)]) for c in wanted]
        return print_json({"task": "measure_methods", "runs": commands}) if args.json else None
    places = ["--data-dir", args.data_dir] if args.data_dir else []
    with locks.locked(out, wait_until=stopper if args.wait else None):
        outcomes = table.run_all(
            wanted, out, keep, preset, places, lambda: stopper() or time.monotonic() > ends, say
        )
    if stopper():
        raise Interrupted
    counts = Counter(outcomes)
    words = ", ".join(f"{counts[kind]} {kind}" for kind in ("done", "slow", "left", "failed"))
    seconds = round(time.monotonic() - began, 2)
    print(f"runs: {words}; {keep}, {seconds:.0f} s")
    if args.json:
        runs = {str(cell.place): of for cell, of in zip(wanted, outcomes, strict=True)}
        print_json({"task": "measure_methods", "runs": runs, "seconds": seconds})
    if counts["failed"]:
        raise UserError(f"{counts['failed']} runs failed: what they said is above")


def _list(wanted: "Sequence[Cell]", skipped: "Sequence[Cell]", preset: str, keep: Path) -> None:
    """Prints a line for the runs of each method, with the time to expect of one."""
    from jdd.report import results
    from jdd.report.outcome import table as markdown
    from jdd.runs import RunResult
    from jdd.tasks import table

    paths = results.find([str(keep)]) if any(keep.rglob("result.json")) else []
    seconds = table.expected([RunResult.load(path) for path in paths], preset)
    rows, total = [], 0.0
    for cells, preset_name in ((wanted, preset), (skipped, "paper")):
        for cell in cells:
            same = [other for other in cells if other[:3] == cell[:3]]
            if cell is not same[0]:
                continue
            expected = seconds.get(cell[:3])
            count = len(same) if cell.method == "random" or (expected or 0) < table.FAST else 1
            minutes = "not measured" if expected is None else f"{count} × {expected / 60:.1f}"
            if cells is skipped:
                minutes = "for an accelerator"
            total += count * (expected or 0.0)
            rows.append(
                [minutes, shlex.join(["bin/distill.py", *table.arguments(cell, preset_name)])]
            )
    print(markdown(("minutes", "run"), rows))
    print(f"{len(wanted)} runs, {total / 3600:.1f} hours as far as they were measured", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="measure_methods.py", description=DESCRIPTION)
    add = parser.add_argument
    words = "datasets (default: mnist,cifar10)"
    add("--dataset", type=names, default=["mnist", "cifar10"], metavar="NAMES", help=words)
    words = "default: all, but for those that take two cores many hours"
    add("--methods", type=names, metavar="NAMES", help=words)
    words = "images per class (default: 1,10)"
    add("--ipc", type=_counts, default=[1, 10], metavar="N,N", help=words)
    words = "seeds of a method that takes less than ten minutes (default: 3)"
    add("--seeds", type=at_least(1), default=3, metavar="N", help=words)
    words = "stop after so many; the same command resumes (default: no limit)"
    add("--minutes", type=above_zero, default=float("inf"), metavar="X", help=words)
    words = "default: quick on a CPU, else paper"
    add("--preset", metavar="quick|paper|released", help=words)
    words = "where the runs are (default: checkpoints/table)"
    add("--out", default="checkpoints/table", metavar="DIR", help=words)
    words = "where each run's result.json is copied to (default: docs/results)"
    add("--keep", default="docs/results", metavar="DIR", help=words)
    add("--list", action="store_true", help="print the runs, make none")
    flags.add_wait(parser)
    flags.add_data_dir(parser)
    flags.add_json(parser)
    return parser


def _counts(text: str) -> list[int]:
    return [at_least(1)(part) for part in names(text)]
