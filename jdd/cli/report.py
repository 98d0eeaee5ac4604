"""`report.py RUN …`: runs as an HTML page that needs no network."""

from collections.abc import Sequence
from pathlib import Path

from jdd.cli import flags
from jdd.cli.parser import Parser
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import SettingError, UserError

DESCRIPTION = (
    "Writes a page in HTML, of one file. Of one run: report.html in its directory, with the set as "
    "it grew, curves, settings and where each came from, cost and commands; distill.py leaves it "
    "there, too. Of several runs: a table to sort, accuracy against time and against storage."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    return run_script(lambda stopper: _work(arguments, stopper))


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    del stopper
    parser = Parser(prog="report.py", description=DESCRIPTION)
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="a run's directory; for several, also a result.json, a directory to look in, or a "
        "ready set's name (mnist/dm-ipc1)",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help="of several runs; replaced (default: report.html in the current directory)",
    )
    flags.add_json(parser)
    args = parser.parse_args(arguments)

    from jdd.report import results, several, web
    from jdd.runs import RunResult
    from jdd.synthetic import ready

    places = [str(ready.resolve(run)) for run in args.runs]
    single = Path(places[0])
    if len(places) == 1 and (single / "result.json").is_file():
        if args.out:
            raise SettingError("out", args.out, f"one run's page is {single / web.NAME}")
        if ready.SETS in single.resolve().parents:
            raise UserError(f"{single} is a ready set: name a run, or several to compare")
        path = web.write_run(single)
    else:
        if args.out is None and Path("settings.json").exists():
            raise SettingError("out", web.NAME, "it is this directory's run's own, name another")
        runs = [RunResult.load(path) for path in results.find(places)]
        path = several.write_several(runs, Path(args.out or web.NAME))
    print(path)
    if args.json:
        print_json({"path": str(path)})
