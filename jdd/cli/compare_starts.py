"""`compare_starts.py`: every method from real images and from noise, side by side."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jdd.cli.arguments import Parser, integer, seed, tune_xla
from jdd.cli.common import add_data_dir, add_json, default_preset
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import UserError, unknown

NAME = "compare_starts"
STARTS = ("real", "noise")
DESCRIPTION = (
    "Distils a data set by one method after another, each from real images and from noise, and "
    "compares what comes of the two starts. Runs that are finished are not made again, a run that "
    "was stopped goes on."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper), "the same command")


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    parser = Parser(prog="compare_starts.py", description=DESCRIPTION)
    parser.add_argument("--dataset", default="digits", metavar="NAME", help="default: digits")
    parser.add_argument(
        "--methods",
        default="dc,dm,mtt",
        metavar="NAME,NAME",
        help="default: dc,dm,mtt; all: every method that makes images",
    )
    parser.add_argument(
        "--ipc", type=integer, default=1, metavar="N", help="images per class (default: 1)"
    )
    parser.add_argument("--network", default="ConvNet", metavar="NAME", help="default: ConvNet")
    parser.add_argument(
        "--image-size",
        type=integer,
        default=0,
        metavar="N",
        help="side that images are resized to, in pixels (default: as they are)",
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--preset", metavar="quick|paper", help="default: quick on a CPU, else paper"
    )
    parser.add_argument(
        "--iterations",
        type=integer,
        metavar="N",
        help="default: the preset's for each method; half of them for quick",
    )
    parser.add_argument(
        "--repeats",
        type=integer,
        default=3,
        metavar="N",
        help="fresh networks behind every accuracy (default: 3)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="where the runs and the comparison go (default: "
        "checkpoints/<dataset>/starts-ipc<n>-seed<s>/)",
    )
    add_data_dir(parser)
    add_json(parser)
    given = parser.parse_args(arguments)

    from jdd import data
    from jdd.report import outcome, plots
    from jdd.runs import run
    from jdd.runs import settings as run_settings

    if given.dataset not in data.NAMES:
        raise unknown("data set", given.dataset, data.NAMES)
    methods = _methods(given.methods)
    preset = given.preset or default_preset()
    if given.iterations is not None and given.iterations < 1:
        raise UserError(f"--iterations {given.iterations}: at least 1 is needed")
    settings = {}
    for method in methods:
        said = {
            "eval_networks": given.repeats,
            "eval_random": False,
            "whole_epochs": 0,
            "image_size": given.image_size,
        }
        if given.iterations is not None:
            said |= {"iterations": given.iterations}
        elif preset == "quick":
            values = run_settings.defaults(method, given.dataset, given.ipc, given.network, preset)[
                method
            ]
            said |= {"iterations": max(1, values["iterations"] // 2)}
        for init in STARTS:
            settings[method, init] = run_settings.build(
                method=method,
                dataset=given.dataset,
                ipc=given.ipc,
                init=init,
                network=given.network,
                preset=preset,
                seed=given.seed,
                said=said,
            )
    out = Path(
        given.out or Path("checkpoints") / given.dataset / f"starts-ipc{given.ipc}-seed{given.seed}"
    )
    results: dict[tuple[str, str], Any] = {}
    for (method, init), chosen in settings.items():
        results[method, init] = run(
            chosen,
            out / f"{method}-{init}",
            data_dir=given.data_dir,
            resume=True,
            should_stop=stopper,
            command="",
        )

    names = list(methods)
    rows = []
    for method in names:
        pair = [results[method, init]["best"] for init in STARTS]
        real, noise = (value["accuracy_mean"] for value in pair)
        rows.append(
            [method]
            + [outcome.percent(v["accuracy_mean"], v["accuracy_std"]) for v in pair]
            + [f"{100 * (real - noise):+.1f}"]
            + [f"{results[method, init]['seconds']:.0f}" for init in STARTS]
        )
    head = ["method", "real start, %", "noise start, %", "difference", "s, real", "s, noise"]
    table = outcome.table(head, rows)
    title = f"{given.dataset}, {given.ipc} per class: from real images and from noise"
    words = (
        f"Test accuracy of {given.repeats} fresh networks trained on the set that was best on a "
        f"validation split, mean ± standard deviation; preset {preset}. Seconds are those of the "
        "run's last command, experts included where it trained them. Sets side by side: "
        f"{NAME}-sets.png."
    )
    picture = plots.bars(
        {
            f"from {init}": {
                m: (100 * best["accuracy_mean"], 100 * best["accuracy_std"])
                for m in names
                if (best := results[m, init]["best"])
            }
            for init in STARTS
        },
        "test accuracy, %",
        title,
    )
    result = {
        "task": NAME,
        "dataset": given.dataset,
        "ipc": given.ipc,
        "seed": given.seed,
        "preset": preset,
        "methods": {
            method: {
                init: {
                    "mean": results[method, init]["best"]["accuracy_mean"],
                    "std": results[method, init]["best"]["accuracy_std"],
                    "accuracies": results[method, init]["best"]["accuracies"],
                    "best_iteration": results[method, init]["best"]["iteration"],
                    "iterations": results[method, init]["iterations"],
                    "seconds": results[method, init]["seconds"],
                    "set": str(out / f"{method}-{init}"),
                }
                for init in STARTS
            }
            for method in names
        },
        "seconds": round(time.monotonic() - began, 2),
    }
    panels = {
        f"{method} from {init}": _picture(out / f"{method}-{init}", given.data_dir)
        for method in names
        for init in STARTS
    }
    files = outcome.save(out, NAME, result, f"# {title}\n\n{words}\n\n{table}", picture)
    plots.save(out / f"{NAME}-sets.png", plots.gallery(panels, columns=len(STARTS)))
    print(f"{title}\n{table}")
    print(f"{result['seconds']:.0f} s in all: {', '.join(map(str, files))}")
    if given.json:
        print_json(result)


def _picture(place: Path, data_dir: str | None) -> Any:
    """The set's images; methods of one run may differ in preprocessing."""
    from jdd.report import pictures
    from jdd.runs import pipeline
    from jdd.synthetic import SyntheticSet

    stored = SyntheticSet.load(place)
    return pictures.grid(stored, pipeline.dataset_of(stored, str(place), data_dir).preprocess)


def _methods(text: str) -> list[str]:
    from jdd.methods import registry

    makes = [name for name, entry in registry.METHODS.items() if not entry.chooses]
    names = makes if text == "all" else [name for name in text.split(",") if name]
    for name in names:
        if registry.entry(name).chooses:
            raise UserError(f"--methods {name}: it chooses real images, whatever the start")
    if not names or len(set(names)) < len(names):
        raise UserError(f"--methods '{text}': name each method once, or all")
    return names
