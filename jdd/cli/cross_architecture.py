"""`cross_architecture.py RUN …`: networks of other kinds, trained on stored sets."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jdd.cli import flags
from jdd.cli.parser import Parser, names
from jdd.cli.platform import tune_xla
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import SettingError

if TYPE_CHECKING:
    from jdd.synthetic import SyntheticSet
    from jdd.training import Recipe

NAME = "cross_architecture"
DESCRIPTION = (
    "Trains fresh networks of every kind on a stored set, each by a quick recipe of its own or by "
    "the recipe that is written on the set, and tests them on the dataset's test images. Several "
    "sets of one dataset (made by other methods, from other starts) are compared with each other."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper))


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    from jdd import networks

    parser = Parser(prog="cross_architecture.py", description=DESCRIPTION)
    flags.add_task_flags(parser, NAME, several=True)
    words = "which (default: all that fit the images)"
    parser.add_argument("--networks", type=names, default=[], metavar="NAME,NAME", help=words)
    flags.add_count(parser, "--repeats", 2, "fresh networks a kind")
    words = "networks other than the set's own learn in few steps of few images (quick), or all by "
    words += "the set's recipe (paper) (default: quick on a CPU, else paper)"
    parser.add_argument("--preset", metavar="quick|paper", help=words)
    flags.add_recipe_flags(parser, without=("network",))
    parser.epilog = f"networks: {', '.join(networks.names())}."
    args = parser.parse_args(arguments)

    from jdd import data, randomness
    from jdd.report import cross_architecture as report
    from jdd.report import outcome
    from jdd.report.console import ProgressBar
    from jdd.tasks import cross_architecture

    first, dataset = flags.load_set(args, args.sets[0])
    loaded, info = cross_architecture.load_sets(args.sets, first, dataset), first.info
    directory = flags.task_directory(args, args.sets[0])
    preset = flags.check_preset(args.preset)
    if preset == "released":
        raise SettingError("preset", preset, "quick or paper")

    def recipe_of(stored: "SyntheticSet") -> "Callable[[str], Recipe]":
        def of(name: str) -> "Recipe":
            recipe, images = flags.recipe_of(args, stored), stored.labels.shape[0]
            if preset != "quick" or name == stored.info.recipe.network:
                return recipe
            values = cross_architecture.quick(name, images, recipe.optimizer)
            return flags.recipe_of(args, stored, values)

        return of

    plans = {
        place: cross_architecture.plan(
            args.networks,
            flags.without_learned_rate(args, stored),
            recipe_of(stored),
            dataset.image_shape,
        )
        for place, stored in loaded.items()
    }
    test = data.to_device(dataset.test, dataset.preprocess)
    seed = info.seed if args.seed is None else args.seed
    key = randomness.key(seed, "test")
    rows = {}
    for place, plan in plans.items():
        with ProgressBar(f"networks on {place}: epochs") as bar:
            rows[place] = cross_architecture.compare(
                plan, test, key, args.repeats, bar.callback(stopper)
            )
    result = {
        **outcome.stamp(NAME, info),
        "seed": seed,
        **cross_architecture.summary(plans, rows, args.repeats),
        "seconds": round(time.monotonic() - began, 2),
    }
    skipped = {name: why for plan in plans.values() for name, why in plan.skipped.items()}
    page = report.page(result, rows, skipped)
    files = outcome.save(directory, NAME, result, page, report.picture(result, rows))
    print(f"{page}\n{result['seconds']:.0f} s in all: {', '.join(map(str, files))}")
    if args.json:
        print_json(result)
