"""`nas.py RUN`: searches for an architecture on a stored set."""

import dataclasses
import time
from collections.abc import Sequence

from jdd.cli import flags
from jdd.cli.parser import Parser, add_settings, chosen, renamed_value
from jdd.cli.platform import tune_xla
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import Interrupted

NAME = "nas"
DESCRIPTION = (
    "Draws networks from a search space and ranks them by training each on the stored set, on as "
    "many random real images, and on all real images for as many steps (early stopping). Compares "
    "each ranking with that of training on all real images to the end, by Spearman's rank "
    "correlation, and tests the best network of each. Rankings are made on a validation split of "
    "the training images; on the test images only the best are tested. Every finished training is "
    "a line of nas.jsonl in --out, from which --resume resumes, also with more --candidates, "
    "--sample or --repeats."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper), again="--resume")


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    from jdd.settings import defaults, helps
    from jdd.tasks import nas

    parser = Parser(prog="nas.py", description=DESCRIPTION)
    flags.add_task_flags(parser, NAME)
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="resume from the trainings in --out")
    again.add_argument("--overwrite", action="store_true", help="delete existing ones in --out")
    flags.add_wait(parser)
    values = defaults(nas.NasSettings)
    add_settings(parser, "search settings", values, helps(nas.NasSettings))
    args = parser.parse_args(arguments)
    overrides = chosen(args, values)
    renamed_value("--space", overrides.get("space", ""))
    settings = nas.NasSettings(**overrides)

    from jdd.report import nas as report
    from jdd.report import outcome
    from jdd.report.console import ProgressBar, say

    stored, dataset = flags.load_set(args)
    seed = stored.info.seed if args.seed is None else args.seed
    plan = nas.plan(settings, dataset, seed)
    bench = nas.Bench(settings, stored, dataset, seed)
    directory = flags.task_directory(args)
    if stopper():
        raise Interrupted("nothing was begun")
    store = nas.SearchStore(directory / "nas.jsonl", settings, stored, seed)
    with store.opened(
        resume=args.resume,
        overwrite=args.overwrite,
        wait_until=stopper if args.wait else None,
    ) as trainings:
        skipped = len(plan.skipped)
        say(
            f"{len(plan.candidates)} networks of {settings.space}, {len(plan.sampled)} of them "
            "trained in full" + (f"; {skipped} more do not fit {dataset.name}" if skipped else "")
        )
        with ProgressBar("steps") as bar:
            progress = bar.callback(stopper)
            every = nas.search(bench, plan, settings.repeats, trainings, store.add, progress)
        result = {
            **outcome.stamp(NAME, stored.info),
            "seed": seed,
            **nas.summary(plan, every, seed),
            "classes": dataset.num_classes,
            "compile_seconds": round(bench.compile_seconds, 2),
            "programs": bench.programs,
            "resumed_from": len(trainings),
            "settings": dataclasses.asdict(settings),
            "set": str(args.set),
            "seconds": round(time.monotonic() - began, 2),
        }
        page = report.page(result)
        files = outcome.save(directory, NAME, result, page, report.picture(result))
    print(f"{page}\n{result['seconds']:.0f} s in all: {', '.join(map(str, files))}")
    if args.json:
        print_json(result)
