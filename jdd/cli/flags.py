"""The flags that several scripts share, and what comes of them."""

import argparse
import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jdd.cli.parser import Parser, add_settings, at_least, chosen, integer, seed
from jdd.cli.program import keep_standard_output
from jdd.errors import SettingError
from jdd.settings import helps

if TYPE_CHECKING:
    from jdd.data import Dataset
    from jdd.synthetic import SyntheticSet
    from jdd.training import Recipe

Stop = Callable[[], bool]


def add_data_dir(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Where real data is; `more` to say of it."""
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="where the dataset's files are (default: JDD_DATA_DIR, else TensorFlow Datasets)"
        + more,
    )


def add_wait(parser: argparse.ArgumentParser) -> None:
    """What becomes of a directory that another process writes to."""
    parser.add_argument(
        "--wait",
        action="store_true",
        help="wait for another command that writes to the same directory (default: end, naming it)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """The flag that every script has."""
    parser.add_argument(
        "--json", action="store_true", help="print the result as one JSON object, the last line"
    )


def add_plugins(parser: argparse.ArgumentParser) -> None:
    """Files of the user's own."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE",
        help="a Python file that registers methods, networks or datasets of your own (may be "
        "repeated; docs/own-method.md)",
    )


def load_plugins(args: argparse.Namespace) -> None:
    """Loads what `add_plugins` names, and what installed packages bring."""
    from jdd import plugins

    plugins.load_installed()
    for path in args.plugin:
        plugins.load(path)


def add_device_flags(parser: argparse.ArgumentParser) -> None:
    """What the work is divided over; see `on_devices`."""
    parser.add_argument(
        "--devices",
        type=integer,
        default=0,
        metavar="N",
        help="accelerators (or JAX's host devices) to divide the work over (default: 0, all "
        "of them); the numbers are those of one device, to 1e-5",
    )
    parser.add_argument(
        "--divide-data",
        action="store_true",
        help="divide the real images over these devices, too, however few they are (without it: "
        "where they would take more than a quarter of a device's memory)",
    )
    parser.add_argument(
        "--distributed",
        action="store_true",
        help="run as one with the same command on the other hosts of a TPU slice or SLURM job "
        "(docs/devices.md); all hosts must see the directories that are named",
    )


@contextlib.contextmanager
def on_devices(args: argparse.Namespace, stopper: Stop) -> Iterator[Stop]:
    """Runs what is inside on the devices that `add_device_flags` names.

    Yields:
      `stopper`, for all processes that run as one: true in each once it is in any.

    Raises:
      UserError: fewer devices exist than are asked for, or the other processes do not answer.
    """
    from jdd import distributed, sharding

    if args.distributed:
        connect()
    with sharding.devices(args.devices, args.divide_data):
        yield lambda: distributed.any_process(stopper())


def connect() -> None:
    """Makes this process one of several that run as one."""
    import jax

    from jdd import distributed

    if not jax.distributed.is_initialized():
        keep_standard_output()
        distributed.connect()


def add_set_flags(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """What a script about a stored set takes: the set first, the real data, plugins, `--json`.

    With `several`, any number of sets: `sets` in the namespace, not `set`.
    """
    words = "a run's directory, or its synthetic/ folder, or a ready set's name (mnist/dm-ipc1)"
    if several:
        parser.add_argument("sets", metavar="RUN", nargs="+", help=words)
    else:
        parser.add_argument("set", metavar="RUN", help=words)
    add_data_dir(parser, "; of a set of folder:PATH or arrays:FILE that has moved, its new folder")
    add_plugins(parser)
    add_json(parser)


def load_set(args: argparse.Namespace, place: str | None = None) -> "tuple[SyntheticSet, Dataset]":
    """The stored set that `add_set_flags` names, and its dataset, preprocessed as it was.

    A folder or file of the user's that has moved is found by `--data-dir`; the set then names its
    new place.

    Args:
      args: the parsed arguments.
      place: which set, where there are several.

    Raises:
      UserError: either cannot be loaded, or they do not fit.
    """
    from jdd.runs.problem import load_set

    load_plugins(args)
    return load_set(args.set if place is None else place, args.data_dir)


def add_task_flags(parser: argparse.ArgumentParser, name: str, several: bool = False) -> None:
    """What a script about what a set is for takes: `add_set_flags`, a seed and where to write."""
    add_set_flags(parser, several)
    parser.add_argument("--seed", type=seed, metavar="N", help="default: the set's own")
    parser.add_argument(
        "--out",
        metavar="DIR",
        help=f"where {name}.json, {name}.md and {name}.png go, replacing existing ones (default: "
        f"tasks/ in the {'first ' * several}run's directory)",
    )


def task_directory(args: argparse.Namespace, place: str | None = None) -> Path:
    """Where a task's files go; see `add_task_flags`. Nothing is made yet.

    Raises:
      UserError: nothing can be written there.
    """
    run = Path(args.set if place is None else place)
    run = run.resolve().parent if run.resolve().name == "synthetic" else run
    if not run.exists():  # a ready set's name
        run = Path("checkpoints") / run
    directory = run / "tasks" if args.out is None else Path(args.out)
    check_writable(directory)
    return directory


def check_file(name: str, place: str) -> None:
    """Raises `SettingError` where `place`, of the setting `name`, can be no new file."""
    if Path(place).is_dir() or not Path(place).absolute().parent.is_dir():
        raise SettingError(name, place, "name a file in a directory that exists")


def check_writable(directory: Path) -> None:
    """Raises `SettingError` where `out` cannot be made or written into; nothing is made yet."""
    existing = next(p for p in (directory, *directory.absolute().parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise SettingError("out", directory, "it cannot be written, name another directory")


def add_count(
    parser: argparse.ArgumentParser, flag: str, default: int, words: str, least: int = 1
) -> None:
    """A flag for a whole number."""
    parser.add_argument(
        flag,
        type=at_least(least),
        default=default,
        metavar="N",
        help=f"{words} (default: {default})",
    )


def add_recipe_flags(
    parser: Parser,
    without: Sequence[str] = (),
    title: str = "recipe, in place of what is written on the set",
    default: str = "the set's; published: ",
) -> None:
    """A flag for each field of the recipe that is written on a set, but those named.

    Where the network may be chosen, its options have flags too: those of ConvNet, whose names all
    networks' options have. `--help` has the group under this title, and `default` before values.
    """
    from jdd.settings import defaults
    from jdd.training import Recipe

    fields = {name: v for name, v in defaults(Recipe).items() if name not in without}
    add_settings(parser, title, fields, helps(Recipe), f"default: {default}{{}}")
    if "network" not in without:
        from jdd import networks

        title = "options of the network, in place of the set's" if default else "its options"
        template = "default: the set's; another ConvNet's: {}" if default else "ConvNet's: {}"
        add_settings(parser, title, networks.options("ConvNet"), networks.OPTION_WORDS, template)


def recipe_of(
    args: argparse.Namespace, stored: "SyntheticSet", preset: Mapping[str, Any] | None = None
) -> "Recipe":
    """The set's recipe with what the user overrides; see `add_recipe_flags`.

    Args:
      args: the parsed arguments.
      stored: the set.
      preset: further values, which the user's own override.

    Raises:
      SettingError: a value out of range.
    """
    from jdd import networks

    recipe = stored.info.recipe
    names = [f.name for f in dataclasses.fields(recipe)]
    changed = dataclasses.replace(recipe, **{**(preset or {}), **chosen(args, names)})
    options = dict(recipe.options) if changed.network == recipe.network else {}
    options |= chosen(args, networks.OPTION_WORDS)
    return dataclasses.replace(changed, options=options)


def without_learned_rate(args: argparse.Namespace, stored: "SyntheticSet") -> "SyntheticSet":
    """The set without its own step size, where the user gave one in its place."""
    return stored.replace(learning_rate=None) if hasattr(args, "learning_rate") else stored


def check_preset(name: str | None) -> str:
    """The preset that a flag names, by default quick on a CPU and paper on an accelerator."""
    from jdd.methods.presets import check_name

    if name is None:
        import jax

        return "quick" if jax.default_backend() == "cpu" else "paper"
    check_name(name)
    return name
