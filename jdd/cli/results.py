"""`results.py RUN …`: tables of finished runs, from their `result.json`, alongside the papers'."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jdd.cli import flags
from jdd.cli.parser import Parser, current_flag
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import SettingError

if TYPE_CHECKING:
    from jdd.runs import RunResult

_OVERVIEW = ("mnist", "cifar10")  # whose methods are drawn in one picture
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
    parser.add_argument(
        "--pictures",
        metavar="DIR",
        help="also draw accuracy against time, a picture for each dataset and images per class, "
        "and one of all methods against storage and minutes",
    )
    parser.add_argument(
        "--peer",
        metavar="FILE",
        help="what benchmark.py --peer torch --json printed: the pictures also have each curve at "
        "PyTorch's speed",
    )
    parser.add_argument(
        "--measured",
        metavar="FILE",
        help="also write each row's accuracy and minutes, which distill.py --recommend reads",
    )
    flags.add_json(parser)
    args = parser.parse_args(arguments)
    _check_places(args)

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
    pictures = _pictures(runs, Path(args.pictures), args.peer) if args.pictures else []
    if args.measured:
        from jdd.report import recommendation

        files.write_json(Path(args.measured), recommendation.rows(runs))
    for picture in pictures:
        print(picture)
    if args.json:
        print_json({"out": args.out, "runs": [*map(str, paths)], "pictures": [*map(str, pictures)]})


def _check_places(args: argparse.Namespace) -> None:
    """Raises `SettingError` for a place that cannot be read or written, before any is."""
    for name, place in (("out", args.out), ("measured", args.measured)):
        if place == "":
            raise SettingError(name, "''", "name a file")
        if place:
            flags.check_file(name, place)
    if args.pictures and Path(args.pictures).is_file():
        raise SettingError("pictures", args.pictures, "it is a file, name a directory")
    if args.peer and not Path(args.peer).is_file():
        raise SettingError("peer", args.peer, "there is no such file, name one that exists")
    if args.peer and not args.pictures:
        raise SettingError("peer", args.peer, "it changes pictures alone, add `pictures`")


def _pictures(runs: "Sequence[RunResult]", place: Path, peer: str | None) -> list[Path]:
    """Draws accuracy against time, and gives back the files."""
    from jdd import data
    from jdd.report import curves, plots

    paths: list[Path] = []
    place.mkdir(parents=True, exist_ok=True)
    for (dataset, ipc), of_cell in curves.cells(runs).items():
        name = f"accuracy-{data.short_name(dataset)}-ipc{ipc}"
        same = sum(path.name.startswith(f"{name}.") for path in paths)  # two folders of one name
        paths.append(place / f"{name}{f'.{same + 1}' if same else ''}.png")
        plots.save(paths[-1], curves.picture(of_cell, _ratios(peer, dataset, ipc)))
    overview = curves.choice([run for run in runs if run.dataset in _OVERVIEW])
    if overview is not None:
        paths.append(place / "methods.png")
        plots.save(paths[-1], overview)
    return paths


def _ratios(peer: str | None, dataset: str, ipc: int) -> dict[str, float]:
    """Method → PyTorch's time / ours, as `benchmark.py` measured it at the nearest size."""
    if peer is None:
        return {}
    from jdd import files
    from jdd.errors import UserError

    ratios: dict[str, tuple[int, float]] = {}
    try:
        for name, case in files.read_json(Path(peer))["cases"].items():
            method, _, rest = name.partition("-")
            of, _, size = rest.partition("-ipc")
            if of == dataset and size and "peer_failed" not in case:
                distance = abs(int(size) - ipc)
                if distance < ratios.get(method, (10**9, 0.0))[0]:
                    ratios[method] = (distance, float(case["peer"]["ratio"]))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{peer} is not what `benchmark.py --peer torch --json` prints") from None
    by_method = {method: ratio for method, (_, ratio) in ratios.items()}
    # The benchmark has no case of its own for these: their steps are those of the others.
    for method, like in (("dsa", "dc"), ("datm", "mtt"), ("pad", "mtt")):
        if like in by_method:
            by_method[method] = by_method[like]
    return by_method
