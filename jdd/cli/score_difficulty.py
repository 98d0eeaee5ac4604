"""`score_difficulty.py`: how hard each real training image is."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jdd.cli.arguments import Parser, add_settings, settings_words, tune_xla
from jdd.cli.program import Stopper, print_json, run_script

DESCRIPTION = (
    "Scores how hard each real training image is, by EL2N, GraNd or forgetting counts, averaged "
    "over a few short trainings. Leaves the scores, a picture of the easiest and the hardest "
    "images of each class, and a summary in --out. The experts of pad make theirs by themselves."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper))


def _flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dataset", default="mnist", metavar="NAME", help="default: mnist; digits needs no files"
    )
    parser.add_argument("--network", default="ConvNet", metavar="NAME", help="default: ConvNet")
    parser.add_argument(
        "--preset",
        metavar="quick|paper",
        help="settings for two CPU cores, or as published (default: quick on a CPU, else paper)",
    )
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="where the data set's files are (default: JDD_DATA_DIR, else TensorFlow Datasets)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="where the scores go (default: checkpoints/<dataset>/difficulty/<score>-<hash>/)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the result as one JSON object, the last line"
    )


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    from jdd import data, networks
    from jdd.cli import common
    from jdd.difficulty import DifficultySettings
    from jdd.errors import unknown
    from jdd.evaluation import EvaluationSettings
    from jdd.experts import ExpertSettings
    from jdd.runs import settings as run_settings

    first = Parser(add_help=False)
    _flags(first)
    named, _ = first.parse_known_args(arguments)
    if named.dataset not in data.NAMES:
        raise unknown("data set", named.dataset, data.NAMES)
    preset = named.preset or common.default_preset()
    values = run_settings.defaults("pad", named.dataset, 10, named.network, preset)
    shown: dict[str, Any] = {
        "preprocessing": values["run"]["preprocessing"],
        "image_size": values["run"]["image_size"],
        "held_out": values["evaluation"]["held_out"],
        "real_images": values["experts"]["real_images"],
    }
    words = settings_words(
        [DifficultySettings, run_settings.LoopSettings, EvaluationSettings, ExpertSettings]
    )
    words |= {"real_images": "score this many real images; 0: all"} | networks.OPTION_WORDS
    parser = Parser(prog="score_difficulty.py", description=DESCRIPTION)
    _flags(parser)
    where = f"(preset {preset}, {named.dataset})"
    add_settings(parser, f"difficulty settings {where}", values["difficulty"], words)
    add_settings(parser, f"images {where}", shown, words)
    add_settings(parser, f"{named.network} settings {where}", values[named.network], words)
    given = parser.parse_args(arguments)
    groups = {"difficulty": values["difficulty"], "images": shown, "net": values[named.network]}
    chosen = {
        title: {name: getattr(given, name, value) for name, value in group.items()}
        for title, group in groups.items()
    }
    _score(given, chosen, stopper, began)


def _score(
    given: argparse.Namespace, chosen: dict[str, dict[str, Any]], stopper: Stopper, began: float
) -> None:
    import numpy as np

    from jdd import data, difficulty, networks, storage
    from jdd.difficulty import DifficultySettings, DifficultySpec
    from jdd.errors import UserError
    from jdd.report import pictures
    from jdd.runs import pipeline

    images = chosen["images"]
    settings = DifficultySettings(**chosen["difficulty"])
    settings.check()
    if not 0 < images["held_out"] < 1:
        raise UserError(f"--held-out {images['held_out']}: a share between 0 and 1")
    dataset = data.load(
        given.dataset, given.data_dir, images["image_size"] or None, images["preprocessing"]
    )
    train, _ = data.hold_out(dataset.train, images["held_out"], seed=0)
    count = images["real_images"]
    if count:
        if not 0 < count <= len(train):
            raise UserError(f"--real-images {count}: from 1 to {len(train)} here")
        train = data.subset(train, count, seed=0)
    network = networks.create(given.network, dataset.num_classes, **chosen["net"])
    pipeline.check_network(network, dataset)
    spec = DifficultySpec(
        dataset=given.dataset,
        preprocessing=dataset.preprocess.spec(),
        network=given.network,
        options=chosen["net"],
        held_out=images["held_out"],
        real_images=count,
        settings=settings,
    )
    default = Path("checkpoints") / given.dataset / "difficulty" / f"{settings.score}-{spec.mark()}"
    out = Path(given.out or default)
    with storage.locked(out):
        scores = pipeline.difficulty_of(out / "scores", spec, network, dataset, train, stopper)
        ranks = difficulty.ranks(scores, train.labels)
        pictures.save_extremes(out / "easiest-and-hardest.png", train, ranks, dataset.num_classes)
        of_class = {
            name: float(np.mean(scores[train.labels == label]))
            for label, name in enumerate(dataset.class_names)
        }
        result = {
            "dataset": given.dataset,
            "score": settings.score,
            "images": len(train),
            "mean": float(scores.mean()),
            "quantiles": np.quantile(scores, [0, 0.25, 0.5, 0.75, 1]).tolist(),
            "mean_of_class": of_class,
            "out": str(out),
            **spec.to_json(),
            "seconds": round(time.monotonic() - began, 2),
        }
        storage.write_json(out / "result.json", result)
    by_mean = sorted(of_class, key=lambda name: of_class[name])
    low, _, middle, _, high = result["quantiles"]
    print(f"{settings.score} of {len(train)} images of {given.dataset}")
    print(f"  from {low:.3f} to {high:.3f}, median {middle:.3f}")
    print(f"  class {by_mean[0]} is the easiest, {by_mean[-1]} the hardest")
    print(f"scores: {out / 'scores'}\npicture: {out / 'easiest-and-hardest.png'}")
    if given.json:
        print_json(result)
