"""`cost.py RUN`: the same training on all real images and on a stored set, compared."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence

from jdd.cli import flags
from jdd.cli.parser import Parser
from jdd.cli.platform import tune_xla
from jdd.cli.program import Stopper, print_json, run_script

NAME = "cost"
DESCRIPTION = (
    "Trains a network on all real images and on a stored set, with the same settings, and measures "
    "what each takes: accuracy on the test images, seconds, FLOPs as XLA counts them, memory. "
    "Compilation and an epoch to warm up are left out of the seconds."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper))


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    from jdd import networks

    parser = Parser(prog="cost.py", description=DESCRIPTION)
    flags.add_task_flags(parser, NAME)
    flags.add_count(parser, "--real-epochs", 20, "epochs on the real images")
    words = "real training images used, as many of each class as may be; 0: all"
    flags.add_count(parser, "--real-images", 0, words, least=0)
    flags.add_recipe_flags(parser)
    parser.epilog = f"networks: {', '.join(networks.names())}."
    args = parser.parse_args(arguments)

    from jdd import data, randomness
    from jdd.report import cost as report
    from jdd.report import outcome
    from jdd.report.console import ProgressBar, say
    from jdd.runs.problem import create_network
    from jdd.runs.result import machine
    from jdd.tasks import cost

    stored, dataset = flags.load_set(args)
    if args.real_images:
        train = data.subset(dataset.train, args.real_images, seed=0)
        dataset = dataclasses.replace(dataset, train=train)
    recipe = flags.recipe_of(args, stored)
    network = create_network(recipe.network, dataset, **recipe.options)
    directory = flags.task_directory(args)
    seed = stored.info.seed if args.seed is None else args.seed
    say(f"{recipe.network}: on {len(dataset.train)} real images, then on those of {args.set}")
    with contextlib.ExitStack() as bars:

        def progress(title: str) -> Callable[[int, int], None]:
            return bars.enter_context(ProgressBar(f"{title}: epochs")).callback(stopper)

        compared = cost.compare(
            network,
            recipe,
            flags.without_learned_rate(args, stored),
            dataset,
            randomness.key(seed, "test"),
            args.real_epochs,
            progress,
        )
    result = {
        **outcome.stamp(NAME, stored.info),
        "seed": seed,
        "network": recipe.network,
        "options": dict(recipe.options),
        "recipe": recipe.to_json(),
        **compared,
        "machine": machine(),
        "seconds": round(time.monotonic() - began, 2),
    }
    page = report.page(result)
    files = outcome.save(directory, NAME, result, page, report.picture(result))
    print(f"{page}\n{result['seconds']:.0f} s in all: {', '.join(map(str, files))}")
    if args.json:
        print_json(result)
