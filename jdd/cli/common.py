"""The flags that name a run, and the run's settings from them."""

import argparse
import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jdd.cli.arguments import Parser, add_settings, integer, seed, settings_words
from jdd.cli.program import keep_standard_output
from jdd.errors import UserError, unknown

if TYPE_CHECKING:
    from jdd.data import Dataset
    from jdd.recipe import Recipe
    from jdd.runs import RunSettings
    from jdd.synthetic import SyntheticSet

Stop = Callable[[], bool]


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """What is distilled, how, and from where."""
    parser.add_argument("--method", default="mtt", metavar="NAME", help="default: mtt")
    parser.add_argument(
        "--dataset", default="mnist", metavar="NAME", help="default: mnist; digits needs no files"
    )
    parser.add_argument("--ipc", type=integer, metavar="N", help="images per class (default: 1)")
    parser.add_argument(
        "--init",
        default="real",
        metavar="real|noise|PATH",
        help="start from real images (default), noise, or a stored set",
    )
    parser.add_argument("--network", default="ConvNet", metavar="NAME", help="default: ConvNet")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--preset",
        metavar="quick|paper|released",
        help="settings for two CPU cores, or as published (default: quick on a CPU, else paper); "
        "released: as paper, but what released code has where it differs (datadam, dc, dsa, pad)",
    )
    add_data_dir(parser)
    add_device_flags(parser)
    parser.add_argument(
        "--experts",
        metavar="DIR",
        help="the experts' store, made where there is none (default: a directory in experts/ "
        "beside --out, one for each way of training them)",
    )
    add_json(parser)


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """Where real data is."""
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="where the data set's files are (default: JDD_DATA_DIR, else TensorFlow Datasets)",
    )


def add_device_flags(parser: argparse.ArgumentParser) -> None:
    """What the work is spread over; see `on_devices`."""
    parser.add_argument(
        "--devices",
        type=integer,
        default=0,
        metavar="N",
        help="accelerators (or JAX's host devices) to spread the work over (default: 0, all there "
        "are); the result hardly depends on it",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="run as one with the same command on the other hosts of a TPU slice or SLURM job "
        "(docs/tpu.md); directories are to be on a file system that all hosts see",
    )


@contextlib.contextmanager
def on_devices(given: argparse.Namespace, stopper: Callable[[], bool]) -> Iterator[Stop]:
    """Runs what is inside on the devices that `add_device_flags` names.

    Yields:
      `stopper`, for all processes that run as one: true in each once it is in any.

    Raises:
      UserError: there are not as many devices; or the other processes do not answer.
    """
    from jdd import sharding

    if given.distributed:
        _connect()
    with sharding.devices(given.devices):
        yield lambda: sharding.any_process(stopper())


def _connect() -> None:
    import jax

    if jax.distributed.is_initialized():
        return
    from jdd import sharding

    keep_standard_output()
    sharding.connect()


def add_json(parser: argparse.ArgumentParser) -> None:
    """The flag that every script has."""
    parser.add_argument(
        "--json", action="store_true", help="print the result as one JSON object, the last line"
    )


def add_set_flags(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """What a script about a stored set takes: the set first, the real data, `--json`.

    With `several`, any number of sets: `sets` in the namespace, not `set`.
    """
    words = "a run's directory, or its synthetic/ folder"
    if several:
        parser.add_argument("sets", metavar="RUN", nargs="+", help=words)
    else:
        parser.add_argument("set", metavar="RUN", help=words)
    add_data_dir(parser)
    add_json(parser)


def add_task_flags(parser: argparse.ArgumentParser, name: str, several: bool = False) -> None:
    """What a script about what a set is for takes: `add_set_flags`, a seed and where to write."""
    add_set_flags(parser, several)
    parser.add_argument("--seed", type=seed, metavar="N", help="default: the set's own")
    parser.add_argument(
        "--out",
        metavar="DIR",
        help=f"where {name}.json, {name}.md and {name}.png go, in place of those there (default: "
        f"tasks/ in the {'first ' * several}run's directory)",
    )


def add_recipe_flags(parser: Parser, without: Sequence[str] = ()) -> None:
    """A flag for each field of the recipe that is written on a set, but those named.

    Where the network may be chosen, its options have flags too: those of ConvNet, whose names all
    networks' options have.
    """
    from jdd.recipe import Recipe

    fields = {f.name: f.default for f in dataclasses.fields(Recipe)}
    add_settings(
        parser,
        "recipe, in place of what is written on the set (shown: the published one)",
        {name: fields[name] for name in fields if name not in ("options", *without)},
        settings_words([Recipe]),
    )
    if "network" not in without:
        from jdd import networks

        title = "options of the network, in place of the set's (shown: those of another ConvNet)"
        add_settings(parser, title, networks.options("ConvNet"), networks.OPTION_WORDS)


def recipe_of(
    given: argparse.Namespace, stored: "SyntheticSet", preset: Mapping[str, Any] | None = None
) -> "Recipe":
    """The set's recipe with what the user said in its place; see `add_recipe_flags`.

    Args:
      given: the parsed arguments.
      stored: the set.
      preset: further values, which what the user said goes over.

    Raises:
      UserError: a value out of range.
    """
    recipe = stored.info.recipe
    names = [f.name for f in dataclasses.fields(recipe)]
    said = {name: getattr(given, name) for name in names if hasattr(given, name)}
    changed = dataclasses.replace(recipe, **{**(preset or {}), **said})
    options = dict(recipe.options) if changed.network == recipe.network else {}
    from jdd import networks

    options |= {n: getattr(given, n) for n in networks.OPTION_WORDS if hasattr(given, n)}
    changed = dataclasses.replace(changed, options=options)
    changed.check()
    return changed


def parse(
    parser: Parser, arguments: Sequence[str] | None
) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Parses in two steps, as the flags and defaults depend on the method, data set and preset.

    Returns:
      The namespace, and the settings that the user gave a value, by field name.

    Raises:
      UserError: a name or flag that is not known, or a value that is no number.
    """
    from jdd import data, networks
    from jdd.methods import registry
    from jdd.runs import settings as run_settings

    first = Parser(add_help=False)
    add_run_flags(first)
    named, _ = first.parse_known_args(arguments)
    if named.dataset not in data.NAMES:
        raise unknown("data set", named.dataset, data.NAMES)
    registry.entry(named.method)
    if named.distributed:
        if named.dataset != "digits" and not (named.data_dir or os.environ.get("JDD_DATA_DIR")):
            raise UserError("--distributed: give --data-dir, as not every process can download")
        _connect()  # before anything asks JAX for its devices
    preset = named.preset or default_preset()
    ipc = named.ipc if named.ipc is not None else _ipc_of(named.init)
    values = run_settings.defaults(named.method, named.dataset, ipc, named.network, preset)
    words = networks.OPTION_WORDS | settings_words(list(run_settings.groups(named.method).values()))
    for title, group in values.items():
        add_settings(
            parser,
            f"{title} settings (preset {preset}, {named.dataset}, {ipc} per class)",
            group,
            words,
        )
    parser.epilog = (
        f"methods: {', '.join(registry.names())}. data sets: {', '.join(data.NAMES)}. "
        f"networks: {', '.join(networks.names())}."
    )
    found = parser.parse_args(arguments)
    found.preset, found.ipc = preset, ipc
    if found.init not in ("real", "noise"):
        found.init = str(Path(found.init).resolve())  # the same run from any current directory
    fields = [name for group in values.values() for name in group]
    return found, {name: getattr(found, name) for name in fields if hasattr(found, name)}


def settings_of(given: argparse.Namespace, said: Mapping[str, Any]) -> "RunSettings":
    """The settings of the run that `parse` has read; raises `UserError` as `build` does."""
    from jdd.runs import settings as run_settings

    names = ("method", "dataset", "ipc", "init", "network", "preset", "seed")
    return run_settings.build(**{name: getattr(given, name) for name in names}, said=said)


def default_preset() -> str:
    """quick on a CPU, paper on an accelerator."""
    import jax

    return "quick" if jax.default_backend() == "cpu" else "paper"


def default_out(dataset: str, method: str, ipc: int, seed: int) -> Path:
    """Where a run is written by default, under the current directory."""
    return Path("checkpoints") / dataset / f"{method}-ipc{ipc}-seed{seed}"


def load_set(given: argparse.Namespace, place: str | None = None) -> "tuple[SyntheticSet, Dataset]":
    """The stored set that `add_set_flags` names, and its data set, preprocessed as it was.

    Args:
      given: the parsed arguments.
      place: which set, where there are several.

    Raises:
      UserError: either cannot be loaded, or they do not fit.
    """
    from jdd.runs import pipeline
    from jdd.synthetic import SyntheticSet

    place = given.set if place is None else place
    stored = SyntheticSet.load(place)
    return stored, pipeline.dataset_of(stored, place, given.data_dir)


def task_directory(given: argparse.Namespace, place: str | None = None) -> Path:
    """Where a task's files go; see `add_task_flags`. Nothing is made yet.

    Raises:
      UserError: nothing can be written there.
    """
    run = Path(given.set if place is None else place)
    run = run.parent if run.resolve().name == "synthetic" else run
    directory = run / "tasks" if given.out is None else Path(given.out)
    there = next(place for place in (directory, *directory.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"{directory} cannot be written: choose another --out")
    return directory


def _ipc_of(init: str) -> int:
    if init in ("real", "noise"):
        return 1
    if not Path(init).exists():
        raise UserError(f"--init {init}: choose real, noise, or the path of a stored set")
    from jdd.synthetic import SyntheticSet

    return SyntheticSet.load(init).info.ipc
