"""`compare_starts.py`: every method from real images and from noise, compared."""

import argparse
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jdd.cli import flags
from jdd.cli.parser import Parser, at_least, names, seed
from jdd.cli.platform import tune_xla
from jdd.cli.program import Stopper, print_json, run_script

if TYPE_CHECKING:
    from jdd.runs import RunSettings

NAME = "compare_starts"
DESCRIPTION = (
    "Distils a dataset by one method after another, each from real images and from noise, and "
    "compares what comes of the two starts. Runs that are finished are not made again, a run that "
    "was stopped is resumed."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper), "the same command")


def _parser() -> Parser:
    parser = Parser(prog="compare_starts.py", description=DESCRIPTION)
    parser.add_argument("--dataset", default="digits", metavar="NAME", help="default: digits")
    parser.add_argument(
        "--methods",
        type=names,
        default=["dc", "dm", "mtt"],
        metavar="NAME,NAME",
        help="default: dc,dm,mtt; all: every method that makes images",
    )
    flags.add_count(parser, "--ipc", 1, "images per class")
    parser.add_argument("--network", default="ConvNet", metavar="NAME", help="default: ConvNet")
    words = "side that images are resized to, in pixels; 0: as they are"
    flags.add_count(parser, "--image-size", 0, words, least=0)
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    words = "default: quick on a CPU, else paper"
    parser.add_argument("--preset", metavar="quick|paper", help=words)
    words = "default: the preset's for each method"
    parser.add_argument("--iterations", type=at_least(1), metavar="N", help=words)
    flags.add_count(parser, "--repeats", 3, "fresh networks behind every accuracy")
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="where the runs and the comparison go (default: "
        "checkpoints/<dataset>/starts-ipc<n>-seed<s>/)",
    )
    flags.add_wait(parser)
    flags.add_data_dir(parser)
    flags.add_plugins(parser)
    flags.add_json(parser)
    return parser


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    args = _parser().parse_args(arguments)

    from jdd import data
    from jdd.report import outcome, plots
    from jdd.report import starts as report
    from jdd.runs import Selection
    from jdd.tasks import starts

    flags.load_plugins(args)
    data.check_name(args.dataset, args.data_dir)
    methods = starts.methods_of(args.methods)
    preset = flags.check_preset(args.preset)
    selection = Selection("", args.dataset, args.ipc, "", args.network, preset, args.seed)
    overrides = {
        "eval_networks": args.repeats,
        "eval_random": False,
        "full_data_epochs": 0,
        "image_size": args.image_size,
        **({} if args.iterations is None else {"iterations": args.iterations}),
    }
    traits = data.traits(args.dataset, args.data_dir, args.image_size or None)
    runs = starts.plan(methods, selection, overrides, traits)
    by_default = f"checkpoints/{data.short_name(args.dataset)}/starts-ipc{args.ipc}-seed{args.seed}"
    out = Path(args.out or by_default)

    def command(settings: "RunSettings") -> str:
        return _command(args, settings)

    results = starts.run_all(runs, out, args.data_dir, stopper, wait=args.wait, command=command)
    result = {
        **outcome.stamp(NAME),
        "dataset": args.dataset,
        "ipc": args.ipc,
        "seed": args.seed,
        "preset": preset,
        "methods": starts.summary(results, out),
        "seconds": round(time.monotonic() - began, 2),
    }
    sets = out / f"{NAME}-sets.png"
    page = report.page(result, args.repeats, sets.name)
    plots.save(sets, report.gallery(result, args.data_dir))
    files = outcome.save(out, NAME, result, page, report.picture(result))
    print(f"{page}\n{result['seconds']:.0f} s in all: {', '.join(map(str, files))}")
    if args.json:
        print_json(result)


def _command(args: argparse.Namespace, settings: "RunSettings") -> str:
    """What makes one of the runs by itself, on any machine."""
    words = ["python", "bin/distill.py", "--full-data-epochs", "0", "--no-eval-random"]
    for name in ("dataset", "method", "init", "ipc", "network", "preset", "seed", "iterations"):
        words += [f"--{name}", str(getattr(settings, name))]
    words += ["--eval-networks", str(args.repeats)]
    if args.image_size:
        words += ["--image-size", str(args.image_size)]
    for file in args.plugin:
        words += ["--plugin", file]
    return shlex.join(words)
