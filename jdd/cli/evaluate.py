"""`evaluate.py RUN`: trains fresh networks on a stored set and tests them on real images."""

import dataclasses
import functools
import time
from collections.abc import Sequence

from jdd.cli import flags
from jdd.cli.parser import Parser, at_least, seed
from jdd.cli.platform import tune_xla
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import SettingError, nearest

DESCRIPTION = (
    "Trains fresh networks on a stored set, by the recipe that is written on it, and tests them on "
    "the dataset's test images."
)
FULL_DATA_EPOCHS = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper))


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    parser = Parser(prog="evaluate.py", description=DESCRIPTION)
    flags.add_set_flags(parser)
    flags.add_device_flags(parser)
    flags.add_count(parser, "--networks", 5, "fresh networks to train")
    parser.add_argument("--seed", type=seed, metavar="N", help="default: the set's own")
    parser.add_argument(
        "--preset",
        metavar="quick|paper",
        help="quick: 300 epochs without augmentation; paper: 1,000 with DSA (default: neither, but "
        "the recipe that is written on the set)",
    )
    parser.add_argument(
        "--measures",
        action="store_true",
        help="also train on hard labels, without augmentation, on random real images and on all of "
        "them, for the label- and the augmentation-robust score",
    )
    words = f"with --measures, epochs on all real images (default: {FULL_DATA_EPOCHS})"
    parser.add_argument("--full-data-epochs", type=at_least(1), metavar="N", help=words)
    flags.add_recipe_flags(parser)
    args = parser.parse_args(arguments)
    epochs = args.full_data_epochs
    if epochs is not None and not args.measures:
        raise SettingError("full_data_epochs", epochs, "give `measures` too, which it is a part of")

    from jdd import data, distributed, evaluation, measures, randomness
    from jdd.report import outcome
    from jdd.report.console import ProgressBar
    from jdd.report.run import aligned, evaluated
    from jdd.runs.problem import create_network

    with flags.on_devices(args, stopper) as should_stop, ProgressBar("epochs") as bar:
        stored, dataset = flags.load_set(args)
        preset = _preset(args.preset, dataset.name) if args.preset is not None else None
        recipe = flags.recipe_of(args, stored, preset)
        chosen_seed = stored.info.seed if args.seed is None else args.seed
        network = create_network(recipe.network, dataset, **recipe.options)
        accuracy = evaluation.train_and_test(
            network,
            recipe,
            stored.data(),
            data.to_device(dataset.test, dataset.preprocess),
            randomness.key(chosen_seed, "test"),
            args.networks,
            flags.without_learned_rate(args, stored).learning_rate,
            bar.callback(should_stop),
        )
        measured = None
        if args.measures:
            settings = evaluation.EvaluationSettings(full_data_epochs=epochs or FULL_DATA_EPOCHS)
            measured = measures.measure(
                flags.without_learned_rate(args, stored).replace(
                    info=dataclasses.replace(stored.info, recipe=recipe)
                ),
                dataset,
                network,
                settings.full_data_recipe(recipe.network, recipe.options),
                chosen_seed,
                args.networks,
                functools.partial(bar.callback, should_stop),
            )
    if not distributed.is_primary():
        return
    print(evaluated(args.set, stored, recipe, accuracy, len(dataset.test)))
    if measured is not None:
        print("\n".join(aligned(measures.in_words(measured, recipe.augmentation))))
    if args.json:
        result = {
            **outcome.stamp("evaluate", stored.info),
            "seed": chosen_seed,
            "iterations": stored.info.settings.get("iterations", 0),
            "resumed_from": 0,
            "devices": len(stored.labels.sharding.device_set),
            **accuracy.to_json(),
            "storage": {"numbers": stored.numbers, "labels": stored.label_numbers},
            **({"measures": measured.to_json()} if measured is not None else {}),
            "recipe": recipe.to_json(),
            "seconds": round(time.monotonic() - began, 2),
        }
        print_json(result)


def _preset(name: str, dataset: str) -> dict[str, object]:
    from jdd.augment import strategy_for

    recipes: dict[str, dict[str, object]] = {
        "quick": {"epochs": 300, "augmentation": "none"},
        "paper": {"epochs": 1000, "augmentation": strategy_for(dataset)},
    }
    if name not in recipes:
        raise SettingError("preset", f"'{name}'", nearest(name, recipes))
    return recipes[name]
