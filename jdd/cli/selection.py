"""The flags that name a run, and its settings from them."""

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jdd.cli import flags
from jdd.cli.parser import Parser, add_settings, chosen, integer, seed, seeds
from jdd.errors import SettingError, UserError

if TYPE_CHECKING:
    from jdd.runs import RunSettings, Selection

# Flags that say how a run goes, not what it makes; and where things are.
_SAME_RUN = (
    *("--json", "--resume", "--overwrite", "--wait", "--distributed"),
    *("--divide-data", "--no-compilation-cache", "--quiet", "--tensorboard"),
)
_SELECTED = {
    **dict.fromkeys(("method", "dataset", "init", "network", "preset"), str),
    **dict.fromkeys(("ipc", "seed"), int),
}
_PLACES = ("--out", "--data-dir", "--experts", "--devices", "--seeds", "--listener")
_OF_RESUMING = {*_SAME_RUN, *_PLACES} - {"--overwrite"}  # none says which run


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """What is distilled, how, and from where."""
    parser.add_argument(
        "--method", default="mtt", metavar="NAME", help="one of those listed below (default: mtt)"
    )
    words = (
        "one of those listed below, or your own: folder:PATH, arrays:FILE.npz (docs/own-data.md); "
        "digits needs no files (default: mnist)"
    )
    parser.add_argument("--dataset", default="mnist", metavar="NAME", help=words)
    parser.add_argument("--ipc", type=integer, metavar="N", help="images per class (default: 1)")
    parser.add_argument(
        "--init",
        default="real",
        metavar="real|noise|PATH",
        help="start from real images (default), noise, or a stored set",
    )
    parser.add_argument(
        "--network",
        default="ConvNet",
        metavar="NAME",
        help="one of those listed below (default: ConvNet)",
    )
    parser.add_argument(
        "--seed", type=seed, default=0, metavar="N", help="of all random numbers (default: 0)"
    )
    parser.add_argument(
        "--preset",
        metavar="quick|paper|released",
        help="the settings below for two CPU cores (quick), as published (paper), or as the "
        "method's released code has them (released; datadam, dc, dsa and pad differ from their "
        "papers) (default: quick on a CPU, else paper)",
    )
    flags.add_data_dir(parser)
    flags.add_device_flags(parser)
    parser.add_argument(
        "--experts",
        metavar="DIR",
        help="the experts' directory, made if it does not exist (default: in experts/ alongside "
        "--out, one directory for each way of training them)",
    )
    flags.add_wait(parser)
    flags.add_plugins(parser)
    flags.add_json(parser)


def add_directory_flags(parser: argparse.ArgumentParser) -> None:
    """Which runs there are, where each is written, and what becomes of one that exists."""
    parser.add_argument(
        "--seeds",
        type=seeds,
        metavar="N-M",
        help="several runs that differ in their seed alone, as 0-7 or 0,3,5: their updates are one "
        "program, and each has its directory, seed<s>/ in --out (without --out, its default)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="the run's directory (default: checkpoints/<dataset>/<method>-ipc<n>-seed<s>/)",
    )
    existing = parser.add_mutually_exclusive_group()
    for flag, words in (("--resume", "resume"), ("--overwrite", "replace")):
        help_words = f"{words} the run in --out, if it exists"
        existing.add_argument(flag, action="store_true", help=help_words)


def parse(
    parser: Parser, arguments: Sequence[str] | None, preset: str | None = None
) -> "tuple[argparse.Namespace, RunSettings]":
    """Parses in two steps, as the flags and defaults depend on method, dataset and preset.

    Args:
      parser: has the flags of `add_run_flags`; the settings' are added.
      arguments: of the command line.
      preset: that of a command which names none; None: as suits the machine.

    Raises:
      UserError: a name or flag that is not known, or a value out of range.
    """
    first = Parser(add_help=False)
    add_run_flags(first)
    add_directory_flags(first)
    first.add_argument("--image-size", type=integer, default=0)  # by which settings are chosen
    named, _ = first.parse_known_args(arguments)
    every = sys.argv[1:] if arguments is None else arguments
    words = {word.partition("=")[0] for word in every if word[:2] == "--"}
    if stored := _stored_settings(named):
        for each in (first, parser):
            each.set_defaults(**_named_by(stored, but="seed" if named.seeds else ""))
        named, _ = first.parse_known_args(arguments)
    elif named.resume and named.out and words <= _OF_RESUMING:
        raise SettingError("out", named.out, "no run has begun there: give its method and dataset")
    named.preset = named.preset or preset
    if named.distributed:  # before anything asks JAX for its devices
        if named.dataset != "digits" and not (named.data_dir or os.environ.get("JDD_DATA_DIR")):
            raise UserError("`distributed`: give `data_dir`, as not every process can download")
        if named.wait:  # the others would not know what the first of them waits for
            raise UserError("`wait` and `distributed` do not go together: leave `wait` out")
        flags.connect()
    if named.seeds is not None:
        if "--seed" in words:
            raise UserError("`seed` and `seeds`: give one of the two")
        named.seed = named.seeds[0]
    flags.load_plugins(named)

    from jdd import data, networks, plugins
    from jdd.methods import registry
    from jdd.runs import settings as run_settings

    plugins.load_again(stored.get("plugins", ()))
    _settle_start(named)
    data.check_name(named.dataset, named.data_dir)
    registry.entry(named.method)
    selection = _selection(named)
    traits = data.traits(named.dataset, named.data_dir, max(named.image_size, 0) or None)
    defaults = run_settings.defaults_of(selection, traits)
    _add_settings(parser, defaults, selection)
    parser.epilog = (
        f"methods: {', '.join(registry.names())}. datasets: {', '.join(data.names())}, "
        f"folder:PATH, arrays:FILE.npz. networks: {', '.join(networks.names())}."
    )
    parser.explain = lambda flag: _whose(flag, selection)
    args = parser.parse_args(arguments)
    overrides = run_settings.stored_values(stored, defaults)
    overrides |= chosen(args, [name for name, _, _ in defaults.names()])
    args.before = stored.get("command", "") if stored else None
    return args, run_settings.build(selection, overrides, traits)


def outs(args: argparse.Namespace, settings: "argparse.Namespace | RunSettings") -> dict[int, Path]:
    """Each seed's directory."""
    if args.seeds is None:
        return {settings.seed: Path(args.out or default_out(settings))}
    if args.out:
        return {number: Path(args.out) / f"seed{number}" for number in args.seeds}
    return {number: default_out(settings, number) for number in args.seeds}


def default_out(named: "argparse.Namespace | RunSettings", seed: int | None = None) -> Path:
    """Where a run is written by default, under the current directory; `seed` replaces its own."""
    from jdd import data

    number = named.seed if seed is None else seed
    name = f"{named.method}-ipc{named.ipc}-seed{number}"
    return Path("checkpoints") / data.short_name(named.dataset) / name


def command(
    arguments: Sequence[str], preset: str, before: str | None = None, seed: int | None = None
) -> str:
    """What makes the same run on another machine: without the flags that say where things are.

    Args:
      arguments: of this command.
      preset: of the run.
      before: the command that began the run, which this one resumes; it need not repeat its flags.
        Empty: none did, and none makes the same run.
      seed: of the run, where `--seeds` gave several.
    """
    if before == "":
        return ""
    kept = shlex.split(before or "")[2:]
    remaining = iter(arguments)
    for argument in remaining:
        name, assigned, _ = argument.partition("=")
        if name in _PLACES:
            if not assigned:
                next(remaining)
        elif name not in _SAME_RUN:
            kept.append(argument)
    if not any(argument.partition("=")[0] == "--preset" for argument in kept):
        kept += ["--preset", preset]  # the default depends on the machine
    if seed is not None:
        kept += ["--seed", str(seed)]
    return shlex.join(["python", "bin/distill.py", *_each_once(kept)])


def _each_once(words: Sequence[str]) -> list[str]:
    """The words of a command, of each flag those that come last."""
    groups: dict[str, list[str]] = {}
    flag = ""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("--"):
            flag = word.partition("=")[0]
            if flag == "--plugin":  # several may be given
                flag = word if word != flag else f"{flag}={following}"
            groups[flag.replace("--no-", "--", 1)] = [word]
        else:
            groups.setdefault(flag.replace("--no-", "--", 1), []).append(word)
    return [word for group in groups.values() for word in group]


def _selection(named: argparse.Namespace) -> "Selection":
    from jdd.runs import Selection

    preset = flags.check_preset(named.preset)
    return Selection(
        named.method, named.dataset, named.ipc, named.init, named.network, preset, named.seed
    )


def _add_settings(parser: Parser, defaults: Any, selection: "Selection") -> None:
    from jdd import networks
    from jdd.settings import helps

    words: dict[str, Mapping[str, str]] = {
        group.name: networks.OPTION_WORDS if group.kind is None else helps(group.kind)
        for group in defaults.groups
    }
    titles = {"method": selection.method, "experts": "expert", "network": selection.network}
    by_group: dict[str, dict[str, str]] = {group.name: {} for group in defaults.groups}
    for name, group, field in defaults.names():
        by_group[group.name][name] = field
    for group in defaults.groups:
        fields = by_group[group.name]
        add_settings(
            parser,
            f"{titles.get(group.name, group.name)} settings (preset {selection.preset}, "
            f"{selection.dataset}, {selection.ipc} per class)",
            {name: group.values[field] for name, field in fields.items()},
            {name: words[group.name].get(field, field) for name, field in fields.items()},
        )


def _whose(flag: str, chosen: "Selection") -> str | None:
    from jdd import networks
    from jdd.runs.settings import whose

    name = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
    if owners := whose(name):
        return f"{flag} is a setting of {', '.join(owners)}, not of {chosen.method}"
    if owners := [network for network in networks.names() if name in networks.options(network)]:
        return f"{flag} is an option of {', '.join(owners)}, not of {chosen.network}"
    return None


def _settle_start(named: argparse.Namespace) -> None:
    """Settles what depends on a stored set to start from: its place, images per class."""
    named.init = _place_of(named.init)
    named.ipc = _ipc_of(named.init) if named.ipc is None else named.ipc


def _ipc_of(init: str) -> int:
    """The images per class of a run that is not told any."""
    from jdd.synthetic import described

    return 1 if init in ("real", "noise") else described(_place_of(init)).ipc


def _place_of(init: str) -> str:
    """Of a stored set, the same from any current directory; `real` and `noise` are none."""
    from jdd.synthetic import ready

    if init in ("real", "noise"):
        return init
    place = ready.resolve(init)
    if not place.is_dir():
        raise SettingError("init", init, "choose real, noise, or the path or name of a stored set")
    return str(place.resolve())


def _stored_settings(named: argparse.Namespace) -> Mapping[str, Any]:
    """The settings of a run that is to be resumed, which flags need not repeat; else none."""
    from jdd.runs import directory

    if not named.resume:
        return {}
    filled = argparse.Namespace(**{**vars(named), "ipc": named.ipc or _ipc_of(named.init)})
    path = next(iter(outs(filled, filled).values())) / "settings.json"
    value = directory.read_settings(path) if path.exists() else {}
    return value if "version" in value else {}  # jdd 0.1's: refused where the directory is checked


def _named_by(stored: Mapping[str, Any], but: str = "") -> dict[str, Any]:
    """What a run's settings say in the place of flags: what is distilled, and where things are."""
    kinds = {n: kind for n, kind in _SELECTED.items() if n != but}
    named = {n: stored[n] for n, kind in kinds.items() if type(stored.get(n)) is kind}
    loop, places = stored.get("loop"), stored.get("places")
    if isinstance(loop, Mapping) and type(loop.get("image_size")) is int:
        named["image_size"] = loop["image_size"]
    if isinstance(places, Mapping):
        paths = {name: place for name, place in places.items() if isinstance(place, str)}
        named |= {n: paths[n] for n in ("data_dir", "experts") if Path(paths.get(n, "/-")).is_dir()}
    return named
