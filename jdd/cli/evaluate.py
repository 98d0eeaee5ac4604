"""`evaluate.py RUN`: trains fresh networks on a stored set and tests them on real images."""

import time
from collections.abc import Sequence
from typing import Any

from jdd.cli.arguments import Parser, integer, seed, tune_xla
from jdd.cli.common import (
    add_device_flags,
    add_recipe_flags,
    add_set_flags,
    load_set,
    on_devices,
    recipe_of,
)
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import UserError, unknown

DESCRIPTION = (
    "Trains fresh networks on a stored set, by the recipe that is written on it, and tests them on "
    "the data set's test images."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper))


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    parser = Parser(prog="evaluate.py", description=DESCRIPTION)
    add_set_flags(parser)
    add_device_flags(parser)
    parser.add_argument("--networks", type=integer, default=5, metavar="N", help="default: 5")
    parser.add_argument("--seed", type=seed, metavar="N", help="default: the set's own")
    parser.add_argument(
        "--preset",
        metavar="quick|paper",
        help="quick: 300 epochs without augmentation; paper: 1,000 with DSA (default: neither, but "
        "the recipe that is written on the set)",
    )

    add_recipe_flags(parser)
    given = parser.parse_args(arguments)
    if given.networks < 1:
        raise UserError(f"--networks {given.networks}: at least 1 is needed")

    from jdd import evaluation, networks, randomness, storage
    from jdd.report.console import Stage
    from jdd.training import TrainingData

    with on_devices(given, stopper) as should_stop, Stage("epochs") as stage:
        stored, dataset = load_set(given)
        chosen_seed = stored.info.seed if given.seed is None else given.seed
        preset = _preset(given.preset, stored.info.dataset) if given.preset is not None else None
        recipe = recipe_of(given, stored, preset)
        network = networks.create(recipe.network, dataset.num_classes, **recipe.options)
        accuracy = evaluation.evaluate(
            network,
            recipe,
            TrainingData(stored.images, stored.labels),
            evaluation.real(dataset.test, dataset),
            randomness.key(chosen_seed, "test"),
            given.networks,
            None if hasattr(given, "learning_rate") else stored.learning_rate,
            stage.watched(should_stop),
        )
    if not storage.writes():
        return
    print(
        f"{given.set}: {stored.info.method} on {stored.info.dataset}, {stored.info.ipc} per class"
    )
    print(f"  {accuracy} of {len(dataset.test)} test images, {given.networks} {recipe.network}s")
    if given.json:
        print_json(
            {
                "method": stored.info.method,
                "dataset": stored.info.dataset,
                "ipc": stored.info.ipc,
                "seed": chosen_seed,
                "iterations": stored.info.settings.get("iterations", 0),
                "resumed_from": 0,
                "devices": len(stored.images.sharding.device_set),
                **accuracy.to_json(),
                "recipe": recipe.to_json(),
                "seconds": round(time.monotonic() - began, 2),
            }
        )


def _preset(name: str, dataset: str) -> dict[str, Any]:
    from jdd.augment import strategy_for

    recipes = {
        "quick": {"epochs": 300, "augmentation": "none"},
        "paper": {"epochs": 1000, "augmentation": strategy_for(dataset)},
    }
    if name not in recipes:
        raise unknown("preset", name, recipes)
    return recipes[name]
