"""The settings of a run, put together from defaults, preset and what the user overrides."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jdd
from jdd import networks, plugins
from jdd.data import Traits
from jdd.data.shapes import MOST_SIDE
from jdd.difficulty import DifficultySettings
from jdd.errors import SettingError, unknown
from jdd.evaluation import EvaluationSettings
from jdd.experts import ExpertSettings, ExpertSpec
from jdd.methods import MethodSettings, registry
from jdd.methods.presets import NETWORK
from jdd.preprocessing import KINDS
from jdd.settings import Settings, defaults, setting
from jdd.synthetic import StorageSettings
from jdd.training import Recipe

PRECISIONS = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}
"""JAX's name of each precision of products"""


@dataclass(frozen=True)
class LoopSettings(Settings):
    """How the loop of updates is run."""

    preprocessing: str = setting(
        "standard",
        "what images are turned into: standard, zca as trajectory matching has it, or "
        "normalize_zca, as FRePo and RCIG have it",
        choices=KINDS,
    )
    image_size: int = setting(
        0, "side that images are resized to, in pixels; 0: as they are", min=0, max=MOST_SIDE
    )
    chunk: int = setting(1, "updates in one compiled call", min=1)
    precision: str = setting(
        "tf32",
        "arithmetic of products and convolutions on accelerators: float32, tf32 (three bfloat16 "
        "passes on a TPU) or bfloat16 (convolutions on a CPU too); experts and networks that "
        "evaluate a set always have tf32",
        choices=PRECISIONS,
    )


class Selection(NamedTuple):
    """What is distilled, by which method and preset: what all other settings depend on."""

    method: str = "mtt"
    dataset: str = "mnist"
    ipc: int = 1
    init: str = "real"
    """real, noise or the path of a stored set"""
    network: str = NETWORK
    preset: str = "quick"
    seed: int = 0


@dataclass(frozen=True)
class RunSettings:
    """Everything that determines a run's result; `settings.json` holds it."""

    method: str
    dataset: str
    ipc: int
    init: str
    network: str
    preset: str
    seed: int
    options: Mapping[str, Any]
    """of the network"""
    loop: LoopSettings
    method_settings: MethodSettings
    experts: ExpertSettings
    difficulty: DifficultySettings
    evaluation: EvaluationSettings
    storage: StorageSettings = field(default_factory=StorageSettings)
    note: str = ""
    """from where the preset borrows these settings, in words"""

    @property
    def iterations(self) -> int:
        """Updates of the synthetic set; none where the method chooses real images."""
        is_coreset = registry.entry(self.method).is_coreset
        return 0 if is_coreset else int(dataclasses.asdict(self.method_settings)["iterations"])

    @property
    def holds_out(self) -> bool:
        """Whether real images are held out, to choose sets by."""
        return self.evaluation.choose == "validation"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON, with jdd's version and the plugins that are loaded."""
        value = {**dataclasses.asdict(self), "options": dict(self.options)}
        del value["note"]
        return {"version": jdd.__version__, **value, "plugins": list(plugins.loaded())}

    def expert_spec(self, preprocessing: Mapping[str, Any], fingerprint: str = "") -> ExpertSpec:
        """What experts must be made from to serve this run, on real images of this fingerprint."""
        return ExpertSpec(
            dataset=self.dataset,
            preprocessing=preprocessing,
            network=self.network,
            options=dict(self.options),
            held_out=self.evaluation.held_out if self.holds_out else 0.0,
            settings=self.experts,
            difficulty=self.difficulty if self.experts.curriculum == "pad" else None,
            fingerprint=fingerprint,
        )

    def recipe(self, strategy: str) -> Recipe:
        """How networks are trained on the distilled set; `strategy` is the dataset's DSA."""
        return self.evaluation.recipe(self.network, self.options, strategy)

    def full_data_recipe(self) -> Recipe:
        """How a network is trained on all real images, to compare with."""
        return self.evaluation.full_data_recipe(self.network, self.options)


@dataclass(frozen=True)
class Group:
    """Settings that belong together; two groups may have fields of one name."""

    name: str
    kind: type[Settings] | None
    """the dataclass; None for the options of a network"""
    values: Mapping[str, Any]
    """of each field, where the user overrides nothing"""


class Defaults(NamedTuple):
    """What a run's settings are before the user overrides any."""

    groups: tuple[Group, ...]
    note: str  # from where the preset borrows them

    def names(self) -> Iterator[tuple[str, Group, str]]:
        """(what a setting is called, its group, its field): a field whose name an earlier group has
        is called by its group too, as in `experts.chunk`."""
        taken: set[str] = set()
        for group in self.groups:
            for each in group.values:
                name = f"{group.name}.{each}" if each in taken else each
                yield name, group, each
                taken.add(each)


def groups_of(method: str) -> dict[str, type[Settings]]:
    """The dataclasses whose fields are a run's settings, by the name of the group.

    Raises:
      UserError: unknown method; it names the nearest.
    """
    entry = registry.entry(method)
    kinds: dict[str, type[Settings]] = {
        "method": entry.settings,
        "storage": StorageSettings,
        "loop": LoopSettings,
    }
    if entry.settings().needs.segments is not None:
        kinds |= {"experts": ExpertSettings, "difficulty": DifficultySettings}
    return {**kinds, "evaluation": EvaluationSettings}


def defaults_of(selection: Selection, traits: Traits | None = None) -> Defaults:
    """By group, each setting's value where the user overrides nothing; the network's options last.

    Args:
      selection: what is distilled, and how.
      traits: of a dataset of the user's (`jdd.data.traits`), by which its settings are chosen.

    Raises:
      UserError: a name that is not known.
    """
    chosen = (selection.preset, selection.method, selection.dataset, selection.ipc)
    cell = registry.preset(*chosen, traits)
    groups = []
    for name, kind in groups_of(selection.method).items():
        # A method of the user's may have a field whose name means something else to all methods.
        shared = cell.shared if name == "method" else ()
        preset = {n: value for n, value in cell.values.items() if n not in shared}
        values = {n: preset.get(n, value) for n, value in defaults(kind).items()}
        groups.append(Group(name, kind, values))
    options = networks.options(selection.network)
    if selection.network == NETWORK:  # a width that suits a ConvNet says nothing of an MLP's
        options = {name: cell.values.get(name, value) for name, value in options.items()}
    return Defaults((*groups, Group("network", None, options)), cell.note)


def stored_values(stored: Mapping[str, Any], run_defaults: Defaults) -> dict[str, Any]:
    """What a run's `settings.json` has for the settings that `run_defaults` names, by their names.

    A value of another type than the default's is left out, as it is of no run.
    """
    keys = {"method": "method_settings", "network": "options"}
    values = {}
    for name, group, each in run_defaults.names():
        of_group = stored.get(keys.get(group.name, group.name))
        kind = type(group.values[each])
        if isinstance(of_group, Mapping) and each in of_group:
            accepted = (int, float) if kind is float else (kind,)
            if type(of_group[each]) in accepted:
                values[name] = of_group[each]
    return values


def build(
    selection: Selection,
    overrides: Mapping[str, Any] | None = None,
    traits: Traits | None = None,
) -> RunSettings:
    """The settings of a run.

    Args:
      selection: what is distilled, and how.
      overrides: values by the setting's name (`Defaults.names`); they override the preset, which
        overrides the settings' own defaults.
      traits: of a dataset of the user's (`jdd.data.traits`), by which its settings are chosen.

    Raises:
      UserError: a name that is not known, or a value out of range.
    """
    base = defaults_of(selection, traits)
    values = {group.name: dict(group.values) for group in base.groups}
    places = {name: (group.name, field) for name, group, field in base.names()}
    decoder = (overrides or {}).get("decoder", values["storage"]["decoder"])
    if decoder != values["storage"]["decoder"]:  # a preset's numbers are for its own
        values["storage"] = dataclasses.asdict(StorageSettings())
    values["evaluation"] |= _other_augmentation(overrides or {})
    for name, value in (overrides or {}).items():
        if name not in places:
            raise unknown("setting", name, places)
        group, field = places[name]
        values[group][field] = value
    entry = registry.entry(selection.method)
    if entry.is_coreset and selection.init != "real":
        raise SettingError(
            "init", selection.init, f"{selection.method} chooses real images, leave it out"
        )
    storage = StorageSettings(**values["storage"])
    if entry.is_coreset and storage.decoder != "pixels":
        raise SettingError(
            "decoder", storage.decoder, f"{selection.method} chooses real images, leave it out"
        )
    if selection.ipc < 1:
        raise SettingError("ipc", selection.ipc, "at least 1 image per class is needed")
    return RunSettings(
        **selection._asdict(),
        options=values["network"],
        loop=LoopSettings(**values["loop"]),
        method_settings=entry.settings(**values["method"]),
        experts=ExpertSettings(**values.get("experts", {})),
        difficulty=DifficultySettings(**values.get("difficulty", {})),
        evaluation=EvaluationSettings(**values["evaluation"]),
        storage=storage,
        note=_in_force(base, overrides or {}),
    )


_AUGMENTATIONS = ("eval_dsa", "eval_stacked", "eval_augment_per_image")


def _other_augmentation(overrides: Mapping[str, Any]) -> dict[str, bool]:
    """The preset's way of augmenting is off where the user chooses one, or `eval_dsa` off."""
    chosen = any(overrides.get(name) for name in _AUGMENTATIONS)
    off = chosen or overrides.get("eval_dsa") is False
    return dict.fromkeys(_AUGMENTATIONS, False) if off else {}


def _in_force(base: Defaults, overrides: Mapping[str, Any]) -> str:
    """The note without those changes to borrowed settings that the user overrides."""
    whose, mark, words = base.note.partition(registry.SUITED)
    before = {name: group.values[field] for name, group, field in base.names()}
    other = {name for name, value in overrides.items() if before.get(name) != value}
    kept = [word for word in words.split(", ") if word and word.split()[0] not in other]
    return whose + mark + ", ".join(kept) if kept else whose


def whose(field: str) -> list[str]:
    """The methods that have a setting of this name."""
    return [
        name
        for name in registry.names()
        if any(field in defaults(kind) for kind in groups_of(name).values())
    ]
