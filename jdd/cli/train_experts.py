"""`train_experts.py`: trains and stores the experts that trajectory methods match."""

from collections.abc import Sequence
from pathlib import Path

from jdd.cli.arguments import Parser, tune_xla
from jdd.cli.program import Stopper, print_json, run_script

DESCRIPTION = (
    "Trains networks on the real images and stores the parameters of each epoch. distill.py does "
    "the same by itself where experts are missing. Training that was interrupted goes on."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper), "the same command")


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    import time

    from jdd.cli import common

    began = time.monotonic()
    parser = Parser(prog="train_experts.py", description=DESCRIPTION)
    common.add_run_flags(parser)
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="the run they are for, kept in experts/ beside it (default: distill.py's)",
    )
    given, said = common.parse(parser, arguments)

    from jdd import data, experts, storage
    from jdd.errors import UserError
    from jdd.methods import registry
    from jdd.runs import pipeline as runs

    if not registry.entry(given.method).trajectories:
        raise UserError(f"--method {given.method} needs no experts")
    settings = common.settings_of(given, said)
    dataset = data.load(
        given.dataset, given.data_dir, settings.loop.image_size or None, settings.loop.preprocessing
    )
    train, validation = runs.split(settings, dataset)
    network = runs.fitting_network(settings, dataset)
    spec = settings.expert_spec(dataset.preprocess.spec())
    out = Path(given.out or common.default_out(given.dataset, given.method, given.ipc, given.seed))
    directory = Path(given.experts) if given.experts else experts.default_directory(out, spec)
    experts.fitting(directory, spec)
    runs.expert_images(settings, train)
    with common.on_devices(given, stopper) as should_stop:
        store = runs.ready_experts(
            settings, directory, spec, network, dataset, train, validation, should_stop
        )
    if not storage.writes():
        return
    wanted = settings.experts.num_experts
    accuracies = store.accuracies[:wanted]
    print(f"{wanted} experts in {directory}")
    print(f"  accuracy on validation {100 * sum(accuracies) / wanted:.1f} %")
    if given.json:
        print_json(
            {
                "experts": str(directory),
                "num_experts": wanted,
                "validation_accuracies": accuracies,
                **spec.to_json(),
                "seconds": round(time.monotonic() - began, 2),
            }
        )
