"""`continual.py RUN`: class-incremental learning with a stored set as memory."""

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jdd.cli import flags
from jdd.cli.parser import Parser, add_settings, at_least, chosen, names, renamed_value
from jdd.cli.platform import tune_xla
from jdd.cli.program import Stopper, print_json, run_script

if TYPE_CHECKING:
    from jdd.tasks.continual import ContinualSettings

NAME = "continual"
DESCRIPTION = (
    "Class-incremental learning: the classes come in parts, and after each one a network is tested "
    "on the test images of all classes seen so far, among which it chooses. The set is its memory "
    "of them; as many real images per class, drawn at random or chosen by herding, are the others."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper))


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    args, settings = _parse(arguments)

    from jdd.methods import CoresetSettings
    from jdd.report import continual as report
    from jdd.report import outcome
    from jdd.report.console import ProgressBar, say
    from jdd.runs.problem import create_network
    from jdd.settings import defaults
    from jdd.tasks import continual

    stored, dataset = flags.load_set(args)
    finetune = {"epochs": continual.FINETUNE_EPOCHS} if settings.protocol == "finetune" else {}
    epochs = {"epochs": args.memory_epochs} if args.memory_epochs else finetune
    recipe = flags.recipe_of(args, stored, epochs)
    herding = chosen(args, defaults(CoresetSettings))
    comparison = continual.Comparison(
        settings,
        create_network(recipe.network, dataset, **recipe.options),
        recipe,
        flags.without_learned_rate(args, stored),
        dataset,
        tuple(args.methods),
        continual.herding_settings(flags.check_preset(None), stored.info, herding),
    )
    directory = flags.task_directory(args)
    seed = stored.info.seed if args.seed is None else args.seed
    say(f"{args.set}: {', '.join(comparison.methods)} in {settings.steps} steps")
    with ProgressBar("images trained on") as bar:
        learned = comparison.run(seed, bar.callback(stopper))
    result = {
        **outcome.stamp(NAME, stored.info),
        "seed": seed,
        **comparison.summary(learned),
        "seconds": round(time.monotonic() - began, 2),
    }
    page = report.page(result)
    files = outcome.save(directory, NAME, result, page, report.picture(result))
    print(f"{page}\n{result['seconds']:.0f} s in all: {', '.join(map(str, files))}")
    if args.json:
        print_json(result)


def _parse(arguments: Sequence[str] | None) -> "tuple[argparse.Namespace, ContinualSettings]":
    from jdd import networks
    from jdd.methods import CoresetSettings
    from jdd.settings import defaults, helps
    from jdd.tasks.continual import FINETUNE_EPOCHS, METHODS, ContinualSettings, build

    parser = Parser(prog="continual.py", description=DESCRIPTION)
    flags.add_task_flags(parser, NAME)
    words = f"memories (default: {', '.join(METHODS['gdumb'])}; finetune also none)"
    parser.add_argument("--methods", type=names, default=[], metavar="NAME,NAME", help=words)
    words = f"passes over the memory (default: as on the set; finetune: {FINETUNE_EPOCHS})"
    parser.add_argument("--memory-epochs", type=at_least(1), metavar="N", help=words)
    of_learning, of_herding = defaults(ContinualSettings), defaults(CoresetSettings)
    title = "what is learned, and how on real images"
    add_settings(parser, title, of_learning, helps(ContinualSettings))
    flags.add_recipe_flags(parser, without=("epochs",))
    title = "what herding chooses by (shown: as published; on a CPU as bin/distill.py has it)"
    add_settings(parser, title, of_herding, helps(CoresetSettings))
    parser.epilog = f"networks: {', '.join(networks.names())}."
    args = parser.parse_args(arguments)
    learning = chosen(args, of_learning)
    vars(args).pop("epochs", None)  # the recipe's, for `recipe_of`, whose flag is --memory-epochs
    renamed_value("--protocol", learning.get("protocol", ""))
    return args, build(learning)
