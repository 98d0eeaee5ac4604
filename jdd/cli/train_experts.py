"""`train_experts.py`: trains and stores the experts that trajectory methods match."""

import time
from collections.abc import Sequence
from pathlib import Path

from jdd.cli import flags, selection
from jdd.cli.parser import Parser
from jdd.cli.platform import tune_xla
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import SettingError

USAGE = "%(prog)s [--method NAME] [--dataset NAME] [--experts DIR] [flags]"
DESCRIPTION = (
    "Trains networks on the real images and stores the parameters of each epoch. distill.py does "
    "the same by itself where experts are missing. Training that was interrupted resumes."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper), "the same command")


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    parser = Parser(prog="train_experts.py", usage=USAGE, description=DESCRIPTION)
    selection.add_run_flags(parser)
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="the run they are for, kept in experts/ alongside it (default: distill.py's)",
    )
    args, settings = selection.parse(parser, arguments)

    from jdd import distributed, experts
    from jdd.evaluation import evaluated_on
    from jdd.report.console import say
    from jdd.report.run import trained
    from jdd.runs import prepare
    from jdd.runs.experts import ready_experts

    if settings.method_settings.needs.segments is None:
        raise SettingError("method", settings.method, "it needs no experts")
    with flags.on_devices(args, stopper) as should_stop:
        problem = prepare(settings, args.data_dir)
        if settings.note:
            say(settings.note)
        spec = problem.expert_spec
        out = Path(args.out or selection.default_out(settings))
        directory = Path(args.experts) if args.experts else experts.default_directory(out, spec)
        waiting = should_stop if args.wait else None
        store = ready_experts(problem, directory, should_stop, waiting)
    if not distributed.is_primary():
        return
    accuracies = store.accuracies[: settings.experts.num_experts]
    print(trained(directory, accuracies, evaluated_on(settings.evaluation.choose)))
    if args.json:
        result = {
            "experts": str(directory),
            "num_experts": len(accuracies),
            "validation_accuracies": accuracies,
            **spec.to_json(),
            "seconds": round(time.monotonic() - began, 2),
        }
        print_json(result)
