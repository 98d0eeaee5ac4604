"""`score_difficulty.py`: how hard each real training image is."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from jdd.cli import flags
from jdd.cli.parser import Parser, add_settings, chosen, integer
from jdd.cli.platform import tune_xla
from jdd.cli.program import Stopper, print_json, run_script

USAGE = "%(prog)s [--dataset NAME] [--score NAME] [--out DIR] [flags]"
DESCRIPTION = (
    "Scores how hard each real training image is, by EL2N, GraNd or forgetting counts, averaged "
    "over a few short trainings. Leaves the scores, a picture of the easiest and the hardest "
    "images of each class, and a summary in --out. The experts of pad make their own."
)
IMAGES = ("preprocessing", "image_size", "held_out", "real_images")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper))


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset", default="mnist", metavar="NAME", help="default: mnist; digits needs no files"
    )
    parser.add_argument("--network", default="ConvNet", metavar="NAME", help="default: ConvNet")
    parser.add_argument(
        "--preset",
        metavar="quick|paper|released",
        help="pad's settings for two CPU cores, or as published, or as its released code has them "
        "(default: quick on a CPU, else paper)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="where the scores go (default: checkpoints/<dataset>/difficulty/<score>-<hash>/)",
    )
    flags.add_wait(parser)
    flags.add_data_dir(parser)
    flags.add_plugins(parser)
    flags.add_json(parser)


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    first = Parser(add_help=False)
    _add_flags(first)
    first.add_argument("--image-size", type=integer, default=0)  # by which settings are chosen
    named, _ = first.parse_known_args(arguments)
    flags.load_plugins(named)

    from jdd import data, networks
    from jdd.difficulty import DifficultySettings
    from jdd.evaluation import EvaluationSettings
    from jdd.experts import ExpertSettings
    from jdd.report import difficulty as report
    from jdd.runs import Selection, build
    from jdd.runs.difficulty import score_images
    from jdd.runs.settings import LoopSettings, defaults_of
    from jdd.settings import helps

    data.check_name(named.dataset, named.data_dir)
    preset = flags.check_preset(named.preset)
    selection = Selection("pad", named.dataset, 10, "real", named.network, preset)
    traits = data.traits(named.dataset, named.data_dir, named.image_size or None)
    values = {group.name: group.values for group in defaults_of(selection, traits).groups}
    every = {**values["loop"], **values["evaluation"], **values["experts"]}
    images = {name: every[name] for name in IMAGES}
    words = helps(LoopSettings, EvaluationSettings, ExpertSettings)
    words["real_images"] = "score this many real images; 0: all"
    where = f"(preset {preset}, {named.dataset})"
    parser = Parser(prog="score_difficulty.py", usage=USAGE, description=DESCRIPTION)
    _add_flags(parser)
    title = f"difficulty settings {where}"
    add_settings(parser, title, values["difficulty"], helps(DifficultySettings))
    add_settings(parser, f"images {where}", images, words)
    title = f"{named.network} settings {where}"
    add_settings(parser, title, values["network"], networks.OPTION_WORDS)
    args = parser.parse_args(arguments)
    names = [*values["difficulty"], *IMAGES, *values["network"]]
    settings = build(selection, chosen(args, names), traits)
    out = Path(args.out) if args.out else None
    scored = score_images(settings, out, args.data_dir, stopper, wait=args.wait)
    result = {**scored.to_json(), "seconds": round(time.monotonic() - began, 2)}
    report.save(scored.out, result, scored.images, scored.ranks())
    print(report.summary(result))
    if args.json:
        print_json(result)
