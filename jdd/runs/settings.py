"""The settings of a run, put together from defaults, preset and what the user says."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jdd import networks
from jdd.difficulty import DifficultySettings
from jdd.errors import UserError, unknown
from jdd.evaluation import EvaluationSettings
from jdd.experts import ExpertSettings, ExpertSpec
from jdd.methods import presets, registry
from jdd.recipe import Recipe
from jdd.settings import flag

PRECISIONS = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}
"""JAX's name of each precision of products"""


@dataclass(frozen=True)
class LoopSettings:
    """How the loop of updates is run."""

    preprocessing: str = flag("standard", "what images are turned into: standard or zca")
    image_size: int = flag(0, "side that images are resized to, in pixels; 0: as they are")
    chunk: int = flag(1, "updates in one compiled call")
    precision: str = flag(
        "tf32",
        "products of an update on accelerators: float32, tf32 (three bfloat16 passes on a TPU) or "
        "bfloat16 (convolutions on a CPU too); experts and sets are always trained with tf32",
    )


@dataclass(frozen=True)
class RunSettings:
    """Everything that determines a run's result; `settings.json` holds it."""

    method: str
    dataset: str
    ipc: int
    init: str
    """real, noise or the path of a stored set"""
    seed: int
    preset: str
    network: str
    options: Mapping[str, Any]
    loop: LoopSettings
    method_settings: Any
    experts: ExpertSettings
    difficulty: DifficultySettings
    evaluation: EvaluationSettings

    @property
    def iterations(self) -> int:
        """Updates of the synthetic set; none where the method chooses real images."""
        return int(getattr(self.method_settings, "iterations", 0))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**dataclasses.asdict(self), "options": dict(self.options)}

    def expert_spec(self, preprocessing: Mapping[str, Any]) -> ExpertSpec:
        """What experts must be made from to serve this run."""
        return ExpertSpec(
            dataset=self.dataset,
            preprocessing=preprocessing,
            network=self.network,
            options=dict(self.options),
            held_out=self.evaluation.held_out,
            settings=self.experts,
            difficulty=self.difficulty if self.experts.schedule == "pad" else None,
        )

    def recipe(self, strategy: str) -> Recipe:
        """How networks are trained on the distilled set."""
        return self.evaluation.recipe(self.network, self.options, strategy)

    def whole_recipe(self) -> Recipe:
        """How a network is trained on all real images, to compare with."""
        return dataclasses.replace(
            self.recipe("none"),
            epochs=self.evaluation.whole_epochs,
            batch_size=128,
            augmentation="none",
            ema=0.0,
        )


def groups(method: str) -> dict[str, type]:
    """The dataclasses whose fields are a run's settings, by what they are about.

    Raises:
      UserError: unknown method; it names the nearest.
    """
    entry = registry.entry(method)
    found: dict[str, type] = {method: entry.settings, "run": LoopSettings}
    if entry.trajectories:
        found |= {"experts": ExpertSettings, "difficulty": DifficultySettings}
    return {**found, "evaluation": EvaluationSettings}


def defaults(
    method: str, dataset: str, ipc: int, network: str, preset: str
) -> dict[str, dict[str, Any]]:
    """By group, each setting's value where the user says nothing; the network's options last."""
    chosen = presets.preset(preset, method, dataset, ipc)
    found = {
        title: {f.name: f.default for f in dataclasses.fields(kind)}
        for title, kind in groups(method).items()
    }
    values = {
        title: {name: chosen.get(name, value) for name, value in group.items()}
        for title, group in found.items()
    }
    options = networks.options(network)
    if network == presets.NETWORK:  # a width that suits a ConvNet says nothing of an MLP's
        options = {name: chosen.get(name, value) for name, value in options.items()}
    return {**values, network: options}


def build(
    method: str,
    dataset: str,
    ipc: int,
    init: str,
    network: str,
    preset: str,
    seed: int,
    said: Mapping[str, Any],
) -> RunSettings:
    """The settings of a run.

    Args:
      method, dataset, ipc, init, network, preset, seed: as on the command line.
      said: what the user sets, by field name; it goes over the preset, and that over the defaults.

    Raises:
      UserError: a name that is not known, or a value out of range.
    """
    values = defaults(method, dataset, ipc, network, preset)
    known = {name for group in values.values() for name in group}
    for name in said:
        if name not in known:
            raise unknown("setting", name, known)
    values = {
        title: {name: said.get(name, value) for name, value in group.items()}
        for title, group in values.items()
    }
    settings = RunSettings(
        method=method,
        dataset=dataset,
        ipc=ipc,
        init=init,
        seed=seed,
        preset=preset,
        network=network,
        options=values[network],
        loop=LoopSettings(**values["run"]),
        method_settings=registry.entry(method).settings(**values[method]),
        experts=ExpertSettings(**values.get("experts", {})),
        difficulty=DifficultySettings(**values.get("difficulty", {})),
        evaluation=EvaluationSettings(**values["evaluation"]),
    )
    settings.evaluation.check()
    if registry.entry(method).chooses and init != "real":
        raise UserError(f"--init {init}: {method} chooses real images, leave --init out")
    if ipc < 1:
        raise UserError(f"--ipc {ipc}: at least 1 image per class is needed")
    if settings.loop.chunk < 1 or settings.loop.image_size < 0:
        raise UserError("--chunk starts at 1, and --image-size at 0 (as they are)")
    if settings.loop.precision not in PRECISIONS:
        raise unknown("--precision", settings.loop.precision, PRECISIONS)
    return settings
