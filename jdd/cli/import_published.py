"""`import_published.py FILE`: a published repository's set or experts, as jdd's."""

import argparse
import dataclasses
import itertools
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jdd.cli import flags
from jdd.cli.import_flags import OF_SETS, make_parser, refuse
from jdd.cli.parser import chosen, flag_of
from jdd.cli.platform import tune_xla
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import SettingError, UserError

if TYPE_CHECKING:
    from jdd.data import Dataset
    from jdd.experts import ExpertSpec
    from jdd.interop.published import FoundExperts, FoundSet
    from jdd.runs import Selection


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper))


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    del stopper
    args = make_parser().parse_args(arguments)
    if ("mean" in args) != ("std" in args):
        raise UserError("`mean` and `std` go together")

    from jdd import data
    from jdd.interop import published
    from jdd.interop.published import FoundExperts

    flags.load_plugins(args)
    data.check_name(args.dataset, args.data_dir)
    if Path(args.out).is_file() or (Path(args.out).is_dir() and any(Path(args.out).iterdir())):
        raise SettingError("out", args.out, "it exists already, name another folder")
    paths = published.find([Path(name) for name in args.files])
    content = published.read(paths[0], getattr(args, "number", 0))
    dataset = data.load(args.dataset, args.data_dir, args.image_size, args.preprocessing)
    if isinstance(content, FoundExperts):
        _experts(args, paths, content, dataset)
    elif len(paths) > 1:
        raise UserError(
            f"{paths[0]} holds a set, of which one is read at a time: leave {paths[1]} out"
        )
    else:
        _set(args, paths[0], content, dataset)


def _set(args: argparse.Namespace, path: Path, content: "FoundSet", dataset: "Dataset") -> None:
    from jdd import networks
    from jdd.experts import ExpertSettings
    from jdd.interop.export import new_folder
    from jdd.interop.importing import import_set, published_recipe
    from jdd.runs.problem import create_network
    from jdd.settings import defaults
    from jdd.training import Recipe

    refuse(args, defaults(ExpertSettings), "the file holds a set, this is of experts")
    values = {**published_recipe(content, dataset), **chosen(args, defaults(Recipe))}
    recipe = Recipe(**values, options=chosen(args, networks.OPTION_WORDS))
    create_network(recipe.network, dataset, **recipe.options)
    made = import_set(
        content,
        dataset,
        recipe,
        method=args.method or "published",
        mean_std=(args.mean, args.std) if "mean" in args else None,
        temperature=getattr(args, "temperature", None),
        factor=getattr(args, "factor", 1),
    )
    new_folder(Path(args.out), made.save, "out")
    count, soft = made.images.shape[0], made.labels.ndim == 2
    which = f" (set {content.number} of {content.sets})" if content.sets > 1 else ""
    print(f"{path}{which}: {count} images of {dataset.name}, {'soft' if soft else 'hard'} labels")
    means = {name: sum(each) / len(each) for name, each in content.accuracies.items()}
    for name, mean in means.items():
        networks_of = len(content.accuracies[name])
        print(f"  in the file: {100 * mean:.1f} % on {networks_of} networks {name}")
    where = f" --data-dir {shlex.quote(args.data_dir)}" if args.data_dir else ""
    print(f"set: {args.out}\ntry: python bin/evaluate.py {shlex.quote(args.out)}{where}")
    if args.json:
        print_json(
            {
                "set": args.out,
                "images": count,
                "number": content.number,
                "sets": content.sets,
                "soft_labels": soft,
                "published_accuracies": means,
                **made.info.to_json(),
            }
        )


def _experts(
    args: argparse.Namespace, paths: Sequence[Path], first: "FoundExperts", dataset: "Dataset"
) -> None:
    from jdd.interop import published
    from jdd.interop.importing import TEST_IMAGES, import_experts
    from jdd.report.console import ProgressBar
    from jdd.runs.problem import create_network
    from jdd.settings import defaults
    from jdd.training import Recipe

    recipe = {*defaults(Recipe)} - {"network", "equal_batches"}
    refuse(args, [*OF_SETS, *recipe], "the file holds experts, this is of a set")
    spec = _spec(args, dataset)
    network = create_network(spec.network, dataset, **spec.options)

    def others() -> Any:
        for path in paths[1:]:
            content = published.read(path)
            if not isinstance(content, published.FoundExperts):
                raise UserError(f"{path} holds a set, {paths[0]} experts: one kind at a time")
            yield content

    with ProgressBar("epochs of a file") as bar:
        buffers = itertools.chain([first], others())
        store = import_experts(buffers, Path(args.out), spec, network, dataset, bar.at)
    mean = sum(store.accuracies) / store.complete
    print(f"{store.complete} experts of {store.spec.settings.train_epochs} epochs: {args.out}")
    tested, chance = min(TEST_IMAGES, len(dataset.test)), 1 / dataset.num_classes
    print(f"  {100 * mean:.1f} % of {tested:,} test images at the last epoch")
    if mean < chance + 0.1 * (1 - chance):
        print("  THAT IS CHANCE: are dataset, preprocessing and network those of the experts?")
    print(f"try: {_command(args, store.spec)}")
    if args.json:
        value = {"experts": args.out, "num_experts": store.complete, "accuracies": store.accuracies}
        print_json({**value, **store.spec.to_json()})


def _spec(args: argparse.Namespace, dataset: "Dataset") -> "ExpertSpec":
    """What the flags say of the experts."""
    from jdd import networks
    from jdd.experts import ExpertSettings, ExpertSpec
    from jdd.methods import registry
    from jdd.runs.settings import build
    from jdd.settings import defaults

    selection = _selection(args)
    if registry.entry(selection.method).settings().needs.segments is None:
        raise SettingError("method", selection.method, "it needs no experts")
    settings = build(selection, chosen(args, {**defaults(ExpertSettings), **networks.OPTION_WORDS}))
    return ExpertSpec(
        dataset=dataset.name,
        preprocessing=dataset.preprocess.spec(),
        network=settings.network,
        options=dict(settings.options),
        held_out=0.0,
        settings=dataclasses.replace(settings.experts, curriculum="all"),
    )


def _selection(args: argparse.Namespace) -> "Selection":
    from jdd.runs import Selection

    network = getattr(args, "network", "ConvNet")
    return Selection(args.method or "mtt", args.dataset, network=network, preset="paper")


def _command(args: argparse.Namespace, spec: "ExpertSpec") -> str:
    """The command that distils with the experts: its settings have to be those of the store."""
    from jdd import data
    from jdd.runs.settings import defaults_of

    selection = _selection(args)
    words = ["--method", selection.method, "--dataset", args.dataset, "--preset", "paper"]
    words += ["--preprocessing", args.preprocessing]  # presets' depend on the images per class
    words += ["--network", spec.network] * (spec.network != "ConvNet")
    stored = {
        "experts": dataclasses.asdict(spec.settings),
        "network": spec.options,
        "loop": {"image_size": args.image_size or 0},
        "evaluation": {"choose": "last"},
    }
    traits = data.traits(args.dataset, args.data_dir, args.image_size or None)
    for name, group, field in defaults_of(selection, traits).names():
        usual = group.values[field]
        value = stored.get(group.name, {}).get(field, usual)
        if isinstance(value, bool) and value != usual:
            words.append(flag_of(name if value else f"no_{name}"))
        elif value != usual:
            words += [flag_of(name), str(value)]
    for plugin in args.plugin or ():
        words += ["--plugin", plugin]
    words += ["--data-dir", args.data_dir] if args.data_dir else []
    return "python bin/distill.py " + shlex.join([*words, "--experts", args.out])
