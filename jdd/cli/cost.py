"""`cost.py RUN`: the same training on all real images and on a stored set, side by side."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DESCRIPTION = (
    "Trains a network on all real images and on a stored set, with the same settings, and measures "
    "what each takes: accuracy on the test images, seconds, FLOPs as XLA counts them, memory. "
    "Compilation and an epoch to warm up are left out of the seconds."
)
REAL_EPOCHS = 20
SIDES = ("real", "synthetic")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper))


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    from jdd import networks

    parser = Parser(prog="cost.py", description=DESCRIPTION)
    add_task_flags(parser, "cost")
    parser.add_argument(
        "--real-epochs",
        type=integer,
        default=REAL_EPOCHS,
        metavar="N",
        help=f"epochs on the real images (default: {REAL_EPOCHS})",
    )
    parser.add_argument(
        "--real-images",
        type=integer,
        default=0,
        metavar="N",
        help="real training images used, as many of each class as may be; 0: all (default: 0)",
    )
    add_recipe_flags(parser)
    parser.epilog = f"networks: {', '.join(networks.names())}."
    given = parser.parse_args(arguments)
    if given.real_epochs < 1:
        raise UserError(f"--real-epochs {given.real_epochs}: at least 1 is needed")
    if given.real_images < 0:
        raise UserError(f"--real-images {given.real_images}: 0 or more are needed")

    from jdd import data, randomness
    from jdd.report import outcome
    from jdd.report.console import Stage, say
    from jdd.runs import pipeline
    from jdd.runs.judging import machine
    from jdd.tasks import real_against_synthetic

    stored, dataset = load_set(given)
    if given.real_images:
        some = data.subset(dataset.train, given.real_images, seed=0)
        dataset = dataclasses.replace(dataset, train=some)
    info = stored.info
    recipe = recipe_of(given, stored)
    if hasattr(given, "learning_rate"):
        stored = dataclasses.replace(stored, learning_rate=None)
    name = recipe.network
    network = networks.create(name, dataset.num_classes, **recipe.options)
    pipeline.check_network(network, dataset)
    directory = task_directory(given)
    seed = info.seed if given.seed is None else given.seed
    say(
        f"{name}: {given.real_epochs} epochs on {len(dataset.train)} real images, then "
        f"{recipe.epochs} on the {stored.images.shape[0]} of {given.set}"
    )
    with contextlib.ExitStack() as stages:

        def progress(title: str) -> Callable[[int, int], None]:
            return stages.enter_context(Stage(f"{title}: epochs")).watched(stopper)

        found = real_against_synthetic.compare(
            network,
            recipe,
            stored,
            dataset,
            randomness.key(seed, "test"),
            recipe.epochs,
            given.real_epochs,
            progress,
        )
    result = {
        "task": "cost",
        "dataset": info.dataset,
        "method": info.method,
        "ipc": info.ipc,
        "seed": seed,
        "network": name,
        "options": dict(recipe.options),
        "real_images": len(dataset.train),
        "recipe": recipe.to_json(),
        **found,
        "machine": machine(),
        "seconds": round(time.monotonic() - began, 2),
    }
    text = page(result)
    picture = drawn(result)
    files = outcome.save(directory, "cost", result, text, picture)
    print(text)
    print("\n".join(["", *(str(file) for file in files)]))
    if given.json:
        print_json(result)


def page(result: Mapping[str, Any]) -> str:
    """The result for a reader, as Markdown."""
    from jdd.report.outcome import percent, table

    sides = [result[side] for side in SIDES]
    rows = [
        ("accuracy, %", *(percent(one["accuracy"]) for one in sides), ""),
        *(
            (f"{title}, %", *(percent(one[key]) for one in sides), "")
            for key, title in (("balanced_accuracy", "balanced accuracy"), ("auc", "AUC"))
            if key in sides[0]
        ),
        ("epochs", *(f"{one['epochs']:,}" for one in sides), ""),
        ("steps", *(f"{one['steps']:,}" for one in sides), ""),
        ("images a step", *(str(one["batch_size"]) for one in sides), ""),
        ("learning rate", *(f"{one['learning_rate']:.4g}" for one in sides), ""),
        _row("seconds", result, "seconds", result["ratio"]["seconds"]),
        _row("seconds to compile", result, "compile_seconds"),
        _row("FLOPs an image", result, "flops_per_image"),
        _row("FLOPs in all", result, "flops_total", result["ratio"]["flops"]),
        _row("FLOPs a second", result, "flops_per_second"),
        ("memory, MiB", *(f"{one['peak_bytes'] / 2**20:,.1f}" for one in sides), ""),
    ]
    head = [f"{result['network']}, {result['dataset']}"]
    head += [_images(result, side) for side in SIDES] + ["real ÷ set"]
    recipe = result["recipe"]
    unlike = [words for field, words in _WORDS.items() if field in result["differs"]]
    return "\n".join(
        [
            f"# Training on all of {result['dataset']} and on {result['method']}'s set",
            "",
            table(head, rows),
            "",
            f"One network of {result['parameters']:,} parameters each, from the same weights, on "
            f"{result['machine']}: SGD with momentum {recipe['momentum']:g}, weight decay "
            f"{recipe['weight_decay']:g}, augmentation {recipe['augmentation']}. What differs "
            f"beside the images: {', '.join(unlike) or 'nothing'}. Seconds are without compilation "
            "and an epoch to warm up.",
        ]
    )


def drawn(result: Mapping[str, Any]) -> "Figure":
    """What the set's training took and reached, in percent of the real images', as bars."""
    from jdd.report import plots

    fields = {
        "accuracy": "accuracy",
        "seconds": "seconds",
        "FLOPs": "flops_total",
        "memory": "peak_bytes",
    }
    shares = {
        name: 100 * result["synthetic"][field] / max(result["real"][field], 1e-9)
        for name, field in fields.items()
    }
    real, of_set = (_images(result, side) for side in SIDES)
    figure = plots.bars(
        {of_set: {name: (share, 0.0) for name, share in shares.items()}},
        "% of the real images' (logarithmic)",
        f"{result['network']} on {result['dataset']}: {of_set}, against {real}",
    )
    (axes,) = figure.axes
    plots.logarithmic(axes)
    axes.axhline(100, color="black", linewidth=1)
    for place, share in enumerate(shares.values()):
        label, at = f"{share:.3g} %", (place, max(share, 100))
        axes.annotate(label, at, (0, 4), textcoords="offset points", ha="center")
    low, high = min(100.0, *shares.values()), max(100.0, *shares.values())
    axes.set_ylim(low / 2, high * 2)
    return figure


_WORDS = {
    "epochs": "the epochs",
    "batch_size": "the images a step (at most as many as there are)",
    "learning_rate": "the learning rate (the set has learned its own)",
}


def _images(result: Mapping[str, Any], side: str) -> str:
    kind = "real" if side == "real" else result["method"]
    return f"{result[side]['images']:,} images, {kind}"


def _row(title: str, result: Mapping[str, Any], key: str, ratio: float | None = None) -> Any:
    values = [f"{result[side][key]:,.3g}" for side in SIDES]
    return title, *values, "" if ratio is None else f"{ratio:,.3g}"
