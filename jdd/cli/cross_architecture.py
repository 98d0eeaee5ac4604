"""`cross_architecture.py RUN …`: networks of other kinds, trained on stored sets."""

import contextlib
import time
from collections.abc import Sequence
from typing import Any

from jdd.cli.arguments import Parser, integer, tune_xla
from jdd.cli.common import (
    add_recipe_flags,
    add_task_flags,
    load_set,
    recipe_of,
    task_directory,
)
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import UserError

NAME = "cross_architecture"
DESCRIPTION = (
    "Trains fresh networks of every kind on a stored set, by the recipe that is written on it, and "
    "tests them on the data set's test images. Several sets of one data set (made by other "
    "methods, from other starts) are compared side by side."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper))


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    from jdd import networks

    parser = Parser(prog="cross_architecture.py", description=DESCRIPTION)
    add_task_flags(parser, NAME, several=True)
    parser.add_argument(
        "--networks",
        default="",
        metavar="NAME,NAME",
        help="which (default: all that fit the images)",
    )
    parser.add_argument(
        "--repeats", type=integer, default=2, metavar="N", help="fresh networks a kind (default: 2)"
    )
    add_recipe_flags(parser, without=("network",))
    parser.epilog = f"networks: {', '.join(networks.names())}."
    given = parser.parse_args(arguments)
    if given.repeats < 1:
        raise UserError(f"--repeats {given.repeats}: at least 1 is needed")

    from jdd import evaluation, randomness
    from jdd.report import outcome, plots
    from jdd.report.console import Stage
    from jdd.synthetic import SyntheticSet
    from jdd.tasks import cross_architecture

    stored, dataset = load_set(given, given.sets[0])
    loaded = {given.sets[0]: stored}
    for further in given.sets[1:]:
        if further in loaded:
            raise UserError(f"{further} is named twice")
        other = SyntheticSet.load(further)
        if other.info.dataset != dataset.name:
            raise UserError(
                f"{further} is a set of '{other.info.dataset}', {given.sets[0]} one of "
                f"'{dataset.name}': sets of one data set can be compared"
            )
        other.check_fits(dataset, further)
        loaded[further] = other
    directory = task_directory(given, given.sets[0])
    names = [name for name in given.networks.split(",") if name]
    plans = {
        place: (
            recipe := recipe_of(given, each),
            *cross_architecture.choose(names, recipe, dataset.num_classes, dataset.image_shape),
        )
        for place, each in loaded.items()
    }
    test = evaluation.real(dataset.test, dataset)
    chosen_seed = stored.info.seed if given.seed is None else given.seed
    found: dict[str, Any] = {}
    skipped: dict[str, str] = {}
    for place, each in loaded.items():
        recipe, chosen, left_out = plans[place]
        skipped |= left_out
        with contextlib.ExitStack() as stages:

            def progress(name: str, place: str = place, stages: Any = stages) -> Any:
                stages.close()
                stage = stages.enter_context(Stage(f"{name} on {place}: epochs"))
                return stage.watched(stopper)

            found[place] = cross_architecture.compare(
                chosen,
                recipe,
                each,
                test,
                randomness.key(chosen_seed, "test"),
                given.repeats,
                None if hasattr(given, "learning_rate") else each.learning_rate,
                progress,
            )

    labels = _labels(loaded)
    kinds = list(dict.fromkeys(name for rows in found.values() for name in rows))
    rows = []
    for name in kinds:
        accuracies = [found[place].get(name) for place in found]
        rows.append(
            [name]
            + ["–" if r is None else str(r.accuracy) for r in accuracies]
            + [f"{sum(r.seconds for r in accuracies if r is not None):.0f}"]
        )
    table = outcome.table(["network", *labels.values(), "seconds"], rows)
    lines = [f"skipped: {name}, which {why}" for name, why in skipped.items()]
    counts = sorted({each.info.ipc for each in loaded.values()})
    title = f"{dataset.name}, {', '.join(map(str, counts))} per class: other networks"
    count = "one fresh network" if given.repeats == 1 else f"{given.repeats} fresh networks"
    spread = ", mean ± standard deviation" if given.repeats > 1 else ""
    words = (
        f"Test accuracy of {count} of each kind{spread}. Seconds are those of all sets, compiling "
        "with them; sets of one size share it."
    )
    page = "\n".join([f"# {title}", "", words, "", table, "", *lines])
    picture = plots.bars(
        {
            labels[place]: {
                name: (100 * row.accuracy.mean, 100 * row.accuracy.std)
                for name, row in rows.items()
            }
            for place, rows in found.items()
        },
        "test accuracy, %",
        title,
    )
    first = _networks(found[given.sets[0]])
    result = {
        "task": NAME,
        "dataset": dataset.name,
        "method": stored.info.method,
        "ipc": stored.info.ipc,
        "seed": chosen_seed,
        "set": given.sets[0],
        "networks": first,
        "sets": [
            {
                "set": place,
                "method": each.info.method,
                "init": each.info.init,
                "ipc": each.info.ipc,
                "networks": _networks(found[place]),
                "recipe": plans[place][0].to_json(),
            }
            for place, each in loaded.items()
        ],
        "skipped": list(skipped),
        "repeats": given.repeats,
        "seconds": round(time.monotonic() - began, 2),
    }
    files = outcome.save(directory, NAME, result, page, picture)
    print(f"{title}\n{table}")
    for line in lines:
        print(line)
    print(f"{result['seconds']:.0f} s in all: {', '.join(map(str, files))}")
    if given.json:
        print_json(result)


def _networks(rows: Any) -> dict[str, Any]:
    return {
        name: {
            "mean": row.accuracy.mean,
            "std": row.accuracy.std,
            "accuracies": list(row.accuracy.values),
            "seconds": round(row.seconds, 2),
        }
        for name, row in rows.items()
    }


def _labels(loaded: dict[str, Any]) -> dict[str, str]:
    """What each set is called: method and start, and what else it takes to tell them apart."""
    plain = {place: f"{s.info.method} from {_start(s.info.init)}" for place, s in loaded.items()}
    counts = {s.info.ipc for s in loaded.values()}
    if len(counts) > 1:
        plain = {p: f"{words}, {loaded[p].info.ipc} per class" for p, words in plain.items()}
    if len(set(plain.values())) == len(plain):
        return plain
    return {place: f"{place} ({words})" for place, words in plain.items()}


def _start(init: str) -> str:
    return init if init in ("real", "noise") else "a stored set"
