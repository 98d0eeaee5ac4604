"""`continual.py RUN`: class-incremental learning with a stored set as memory."""

import argparse
import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jdd.cli.arguments import Parser, add_settings, settings_words, tune_xla
from jdd.cli.common import add_task_flags, default_preset, load_set, task_directory
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import UserError

if TYPE_CHECKING:
    from jdd.recipe import Recipe

DESCRIPTION = (
    "Class-incremental learning: the classes come in parts, and after each one a network is tested "
    "on the test images of all classes seen so far, among which it chooses. The set is its memory "
    "of them; as many real images per class, drawn at random or chosen by herding, are the others."
)
_SEED_MEMORY_EPOCHS = 300
_OF_SEED = ("epochs", "real_batch", "real_lr", "real_momentum")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper))


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    given, said = _parse(arguments)

    from jdd import networks
    from jdd.report import outcome
    from jdd.report.console import Stage, say
    from jdd.tasks import continual

    settings = continual.ContinualSettings(**said["learning"])
    settings.check()
    known = continual.METHODS[settings.protocol]
    methods = given.methods.split(",") if given.methods else list(known)
    for name in _OF_SEED:
        if settings.protocol != "seed" and name in said["learning"]:
            hint = "; --memory-epochs is for the memory" if name == "epochs" else ""
            raise UserError(f"--{name.replace('_', '-')} needs --protocol seed{hint}")

    stored, dataset = load_set(given)
    chosen_seed = stored.info.seed if given.seed is None else given.seed
    recipe = _recipe(stored.info.recipe, settings.protocol, said)
    network = networks.create(recipe.network, dataset.num_classes, **recipe.options)
    features = _features(stored.info.dataset, stored.info.ipc, said["herding"])
    if "learning_rate" in said["recipe"]:
        stored = dataclasses.replace(stored, learning_rate=None)

    directory = task_directory(given)
    say(
        f"{given.set}: {', '.join(methods)} in {settings.steps} steps, by the {settings.protocol} "
        f"protocol, {settings.orders * settings.repeats} times"
    )
    with Stage("images trained on") as stage:
        found = continual.compare(
            settings,
            network,
            recipe,
            stored,
            dataset,
            chosen_seed,
            methods=methods,
            features=features,
            progress=stage.watched(stopper),
        )
    result: dict[str, Any] = {
        "task": "continual",
        "dataset": stored.info.dataset,
        "method": stored.info.method,
        "ipc": stored.info.ipc,
        "seed": chosen_seed,
        "protocol": settings.protocol,
        "methods": found.mean(),
        "std": found.std(),
        "classes": found.seen(),
        "orders": found.orders,
        "repeats": settings.repeats,
        "final": {name: values[-1] for name, values in found.mean().items()},
        "accuracies": {name: values.tolist() for name, values in found.values.items()},
        "test_images": len(dataset.test),
        "settings": dataclasses.asdict(settings),
        "features": dataclasses.asdict(features),
        "recipe": recipe.to_json(),
    }
    result["seconds"] = round(time.monotonic() - began, 2)
    page = _page(result)
    files = outcome.save(directory, "continual", result, page, _picture(result))
    print(page)
    print(f"\nresult, table and plot: {', '.join(map(str, files))}")
    if given.json:
        print_json(result)


def _parse(
    arguments: Sequence[str] | None,
) -> tuple[argparse.Namespace, dict[str, dict[str, Any]]]:
    """The namespace, and what the user sets: by group, then by name."""
    from jdd import networks
    from jdd.methods.coresets import CoresetSettings
    from jdd.recipe import Recipe
    from jdd.tasks.continual import METHODS, ContinualSettings

    parser = Parser(prog="continual.py", description=DESCRIPTION)
    add_task_flags(parser, "continual")
    parser.add_argument(
        "--methods",
        metavar="NAMES",
        help=f"memories, joined by commas (default: all: {', '.join(METHODS['papers'])}; seed "
        "also none, which is tested without a memory)",
    )
    parser.epilog = f"networks: {', '.join(networks.names())}."
    learning = {f.name: f.default for f in dataclasses.fields(ContinualSettings)}
    of_recipe = {f.name: f.default for f in dataclasses.fields(Recipe) if f.name != "options"}
    of_recipe["memory_epochs"] = of_recipe.pop("epochs")
    words = settings_words([ContinualSettings, Recipe, CoresetSettings]) | networks.OPTION_WORDS
    words["memory_epochs"] = (
        f"passes over the memory; seed: {_SEED_MEMORY_EPOCHS}, whatever is written on the set"
    )
    words["epochs"] = settings_words([ContinualSettings])["epochs"]
    groups = {
        "learning": ("what is learned, and how on real images", learning),
        "recipe": (
            "training on a memory, in place of what is written on the set (shown: the published "
            "recipe)",
            of_recipe,
        ),
        "options": (
            "the network's options, in place of what is written on the set (shown: ConvNet's own)",
            networks.options("ConvNet"),
        ),
        "herding": (
            "what herding chooses by (shown: as published; on a CPU as bin/distill.py has it)",
            {f.name: f.default for f in dataclasses.fields(CoresetSettings)},
        ),
    }
    for title, values in groups.values():
        add_settings(parser, title, values, words)
    given = parser.parse_args(arguments)
    said = {
        group: {name: getattr(given, name) for name in values if hasattr(given, name)}
        for group, (_, values) in groups.items()
    }
    return given, said


def _recipe(written: "Recipe", protocol: str, said: dict[str, dict[str, Any]]) -> "Recipe":
    values = dict(said["recipe"])
    epochs = _SEED_MEMORY_EPOCHS if protocol == "seed" else written.epochs
    epochs = values.pop("memory_epochs", epochs)
    if epochs < 1:
        raise UserError(f"--memory-epochs {epochs}: at least 1 is needed")
    same = values.get("network", written.network) == written.network
    options = {**(written.options if same else {}), **said["options"]}
    recipe = dataclasses.replace(written, **values, epochs=epochs, options=options)
    recipe.check()
    return recipe


def _features(dataset: str, ipc: int, said: dict[str, Any]) -> Any:
    from jdd.methods import presets
    from jdd.methods.coresets import CoresetSettings

    preset = presets.preset(default_preset(), "herding", dataset, ipc)
    fields = {f.name for f in dataclasses.fields(CoresetSettings)}
    return CoresetSettings(**{k: v for k, v in preset.items() if k in fields} | said)


def _page(result: dict[str, Any]) -> str:
    from jdd.report import outcome

    means, stds, classes = result["methods"], result["std"], result["classes"]
    several = len(result["orders"]) > 1
    rows = []
    for step, seen in enumerate(classes):
        new = seen[len(classes[step - 1]) if step else 0 :]
        came = f"{len(new)}" if several else ", ".join(map(str, new))
        figures = [outcome.percent(means[name][step], stds[name][step]) for name in means]
        rows.append([str(step + 1), came, str(len(seen)), *figures])
    table = outcome.table(["step", "new classes", "classes seen", *means], rows)
    return f"# {_title(result)}\n\n{table}\n\n{_notes(result)}"


def _title(result: dict[str, Any]) -> str:
    whose = {"papers": "the papers' protocol", "seed": "the seed's protocol"}
    return (
        f"Continual learning of {result['dataset']}, {result['ipc']} images per class in memory, "
        f"{whose[result['protocol']]}"
    )


def _notes(result: dict[str, Any]) -> str:
    recipe, how = result["recipe"], result["settings"]
    orders, runs = len(result["orders"]), len(result["orders"]) * result["repeats"]
    fresh = f"{recipe['epochs']} epochs on the memory"
    if result["protocol"] == "papers":
        training = (
            f"at every step a fresh {recipe['network']}, {fresh} ('none' has nothing to be "
            "trained on, and is left out)"
        )
    else:
        training = (
            f"one {recipe['network']}, {how['epochs']} epochs on the real images of each part, "
            f"then {fresh} but for 'none'"
        )
    return (
        f"Accuracy in % on the test images of all classes seen, chosen among these: mean ± std of "
        f"{runs} ({orders} order{'s' * (orders > 1)} of the classes, {result['repeats']} each). "
        f"{training[0].upper()}{training[1:]}. Distilled: by {result['method']}."
    )


def _picture(result: dict[str, Any]) -> Any:
    from jdd.report import plots

    means, stds = result["methods"], result["std"]
    seen = [len(classes) for classes in result["classes"]]
    series = {
        name: (seen, [100 * v for v in means[name]], [100 * v for v in stds[name]])
        for name in means
    }
    return plots.lines(
        series,
        "classes seen",
        "accuracy on the test images of the classes seen (%)",
        _title(result),
        whole_steps=True,
    )
