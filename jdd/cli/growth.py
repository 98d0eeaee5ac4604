"""`growth.py`: how time and memory of an update grow with its sizes."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jdd.cli.arguments import Parser, integer, number, seed, tune_xla
from jdd.cli.common import add_json
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import Interrupted, UserError

if TYPE_CHECKING:
    from jdd.benchmarks.growth import Point, PowerLaw

NAME = "growth"
# What each size is, its values, and its value while others grow.
AXES = {
    "ipc": ("images per class", (1, 10, 50), 1),
    "steps": ("student steps", (10, 20, 40, 80, 160), 20),
    "width": ("channels", (32, 64, 128, 256), 32),
    "segments": ("expert segments an update", (1, 2, 4, 8, 16, 32), 1),
}
_SECONDS, _MEMORY = "seconds an update", "peak memory, MiB"
DESCRIPTION = (
    "Measures time and memory of an update along one size at a time, the others staying as at the "
    "base point, and fits a power law to each: time proportional to size^exponent. Images, experts "
    "and weights are random. Leave the machine to it alone."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper))


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    given = _parser().parse_args(arguments)

    from jdd.benchmarks import growth
    from jdd.report import outcome, plots
    from jdd.report.console import Stage
    from jdd.runs.judging import machine

    subject = growth.Subject(
        given.method, given.dataset, given.memory, given.batch_real, given.seed
    )
    subject.check()
    base, axes = _sizes(given, subject.axes())
    if not 0 < given.most < float("inf"):
        raise UserError(f"--most {given.most:g}: it must be above 0")
    along = growth.points(base, axes)
    every = list(dict.fromkeys(point for points in along.values() for point in points))
    found: dict[Any, dict[str, Any]] = {}
    with Stage("points") as stage:
        for done, point in enumerate(every):
            sizes = ", ".join(f"{value} {name}" for name, value in point._asdict().items())
            stage.at(done, len(every), sizes)
            if stopper():
                raise Interrupted
            found[point] = growth.measure(subject, point, given.most)

    measured: dict[str, Any] = {}
    rows = []
    panels: dict[str, dict[str, Any]] = {_SECONDS: {}, _MEMORY: {}}
    for name, points in along.items():
        x = axes[name]
        seconds = [found[point]["seconds"] for point in points]
        mebibytes = [found[point]["peak_bytes"] / 2**20 for point in points]
        laws = [growth.power_law(x, y) for y in (seconds, mebibytes)]
        measured[name] = {
            "values": list(x),
            "seconds": seconds,
            "peak_bytes": [found[point]["peak_bytes"] for point in points],
            "seconds_exponent": laws[0] and laws[0].exponent,
            "peak_bytes_exponent": laws[1] and laws[1].exponent,
        }
        for i, value in enumerate(x):
            rows.append([AXES[name][0] if i == 0 else "", value])
            rows[-1] += [f"{seconds[i]:.3g}", f"{mebibytes[i]:.3g}"]
            rows[-1] += [_exponent(law) if i == 0 else "" for law in laws]
        for kind, y, law in zip(panels, (seconds, mebibytes), laws, strict=True):
            panels[kind][AXES[name][0]] = plots.Growth(
                x, y, law and [law.at(v) for v in x], f"exponent {_exponent(law)}"
            )
    head = ["size", "at", "s an update", "peak, MiB", "exponent of time", "of memory"]
    table = outcome.table(head, rows)
    told = {name: value for name, value in base._asdict().items() if name in subject.axes()}
    title = f"An update of {given.method} on {given.dataset}: time and memory"
    words = (
        f"ConvNet on random images, {machine()}. Base point: "
        f"{', '.join(f'{value} {AXES[name][0]}' for name, value in told.items())}. Exponents "
        "are fitted by least squares to the logarithms."
    )
    result = {
        "task": NAME,
        "dataset": given.dataset,
        "method": given.method,
        "ipc": base.ipc,
        "seed": given.seed,
        "memory": given.memory,
        "batch_real": given.batch_real,
        "machine": machine(),
        "base": told,
        "sizes": measured,
        "seconds": round(time.monotonic() - began, 2),
    }
    out = Path(given.out or Path("checkpoints") / given.dataset / f"{NAME}-{given.method}")
    page = f"# {title}\n\n{words}\n\n{table}"
    files = outcome.save(out, NAME, result, page, plots.growths(panels, title))
    print(f"{title}\n{words}\n{table}")
    print(f"{result['seconds']:.0f} s in all: {', '.join(map(str, files))}")
    if given.json:
        print_json(result)


def _parser() -> Parser:
    parser = Parser(prog="growth.py", description=DESCRIPTION)
    parser.add_argument("--method", default="mtt", metavar="NAME", help="default: mtt")
    parser.add_argument(
        "--dataset",
        default="mnist",
        metavar="NAME",
        help="whose image size: mnist (default), cifar10, digits; no files are read",
    )
    sizes = parser.add_argument_group("sizes to grow along, separated by commas; none: not this")
    base = parser.add_argument_group("the others meanwhile: the base point")
    for name, (words, values, at) in AXES.items():
        shown = ",".join(map(str, values))
        sizes.add_argument(
            f"--{name}", type=_counts, metavar="N,N", help=f"{words} (default: {shown})"
        )
        base.add_argument(f"--base-{name}", type=integer, metavar="N", help=f"default: {at}")
    parser.add_argument(
        "--memory",
        default="auto",
        metavar="NAME",
        help="what is kept of the student's steps: auto (default), all, constant or tesla",
    )
    parser.add_argument(
        "--batch-real",
        type=integer,
        default=64,
        metavar="N",
        help="real images a class, of methods without experts (default: 64)",
    )
    parser.add_argument(
        "--most", type=number, default=3.0, metavar="X", help="seconds a point (default: 3)"
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--out",
        metavar="DIR",
        help=f"where {NAME}.json, {NAME}.md and {NAME}.png go, in place of those there (default: "
        f"checkpoints/<dataset>/{NAME}-<method>/)",
    )
    add_json(parser)
    return parser


def _sizes(given: Any, known: Sequence[str]) -> "tuple[Point, dict[str, tuple[int, ...]]]":
    """The base point, and along which sizes to go from it."""
    from jdd.benchmarks.growth import Point

    base, axes = Point(), {}
    for name, (words, values, at) in AXES.items():
        said, of_base = getattr(given, name), getattr(given, f"base_{name}")
        if name not in known:
            if said is not None or of_base is not None:
                raise UserError(f"--{name}: updates of {given.method} have no {words}")
            continue
        if of_base is not None and of_base < 1:
            raise UserError(f"--base-{name} {of_base}: at least 1 is needed")
        base = base._replace(**{name: at if of_base is None else of_base})
        if chosen := values if said is None else said:
            axes[name] = chosen
    if not axes:
        raise UserError("every size is none: there is nothing to measure")
    return base, axes


def _counts(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    found = tuple(integer(part) for part in text.split(","))
    if min(found) < 1 or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"'{text}' is not different numbers from 1 on, or none")
    return tuple(sorted(found))


def _exponent(law: "PowerLaw | None") -> str:
    return "–" if law is None else f"{law.exponent:.2f}"
