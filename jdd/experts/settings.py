"""How experts are trained, and what must agree for a store of them to be used again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jdd import preprocessing, records
from jdd.data import fingerprint
from jdd.difficulty import DifficultySettings, DifficultySpec
from jdd.errors import SettingError
from jdd.networks import NetworkLike
from jdd.settings import RENAMED, Settings, renamed, seed, setting
from jdd.training import Gsam, Recipe, Trainer


@dataclass(frozen=True)
class ExpertSettings(Settings):
    """Training of the experts whose trajectories are matched.

    Defaults are the published ones of trajectory matching (Cazenavette et al. 2022, section 4 and
    its repository's `buffer.py`): 100 experts of 50 epochs, SGD 0.01 without momentum.
    """

    num_experts: int = setting(100, "experts to train", min=1)
    train_epochs: int = setting(50, "epochs of each expert", min=1)
    lr_teacher: float = setting(0.01, "step size of the experts' SGD", above=0)
    mom_teacher: float = setting(0.0, "momentum of the experts' SGD", min=0, below=1)
    batch_train: int = setting(256, "real images per step of an expert", min=1)
    equal_batches: bool = setting(
        True,
        "experts' batches of one size, the few images left over not seen in that pass; off: full "
        "batches and a smaller last one, as published",
    )
    expert_dsa: bool = setting(True, "DSA on the real images that experts see")
    real_images: int = setting(0, "train experts on this many real images; 0: on all", min=0)
    epoch_steps: int = setting(
        0, "steps of an epoch, whose end is stored; 0: a pass over the images", min=0
    )
    expert_seed: int = seed(0, "seed of the experts, apart from the run's")
    expert_dtype: str = setting(
        "float32",
        "how parameters are stored: float32 or bfloat16",
        choices=("float32", "bfloat16"),
    )
    expert_optimizer: str = setting(
        "sgd",
        "the experts' optimiser: sgd, or gsam (two gradients a step)",
        choices=("sgd", "gsam"),
    )
    gsam_rho: float = setting(0.01, "GSAM: radius of the perturbation", min=0)
    gsam_alpha: float = setting(0.3, "GSAM: weight of the surrogate gap", min=0)
    gsam_adaptive: bool = setting(True, "GSAM: a radius that scales with the weights")
    curriculum: str = setting(
        "all",
        "real images an epoch: all, or pad (by difficulty, as the next settings say)",
        choices=("all", "pad"),
    )
    initial_fraction: float = setting(
        0.75, "curriculum pad: fraction of each class, easiest first, at the start", above=0, max=1
    )
    full_from_epoch: float = setting(
        0.2, "curriculum pad: when all images are in, as a fraction of the epochs", min=0, max=1
    )
    first_drop_epoch: float = setting(
        0.4, "curriculum pad: when easy images go, as a fraction of the epochs", min=0, max=1
    )
    second_drop_epoch: float = setting(
        0.6, "curriculum pad: when more of them go, as a fraction of the epochs", min=0, max=1
    )
    first_drop_fraction: float = setting(
        0.1, "curriculum pad: fraction of each class, easiest first, that goes", min=0, below=1
    )
    second_drop_fraction: float = setting(
        0.2, "curriculum pad: fraction of each class that is gone then", min=0, below=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        stages = (self.full_from_epoch, self.first_drop_epoch, self.second_drop_epoch)
        if list(stages) != sorted(stages):
            raise SettingError(
                "full_from_epoch",
                self.full_from_epoch,
                f"at most `first_drop_epoch` {self.first_drop_epoch}, and that at most "
                f"`second_drop_epoch` {self.second_drop_epoch}",
            )

    def recipe(self, network: str, options: Mapping[str, Any], strategy: str) -> Recipe:
        """The same as a `Recipe`; `strategy` is the dataset's DSA."""
        return Recipe(
            network=network,
            options=options,
            epochs=self.train_epochs,
            batch_size=self.batch_train,
            equal_batches=self.equal_batches,
            learning_rate=self.lr_teacher,
            momentum=self.mom_teacher,
            weight_decay=0.0,
            decay_after=1.0,
            augmentation=strategy if self.expert_dsa else "none",
        )

    def trainer(self, network: NetworkLike, recipe: Recipe, images: int) -> Trainer:
        """What trains experts on so many images, by the recipe that `recipe` gives."""
        trainer = Trainer.of(network, recipe, images, self.epoch_steps)
        return trainer._replace(gsam=self.gsam())

    def gsam(self) -> Gsam | None:
        """The optimiser's part of these settings; None for plain SGD."""
        if self.expert_optimizer == "sgd":
            return None
        return Gsam(self.gsam_rho, self.gsam_alpha, self.gsam_adaptive)

    def eligible(self, ranks: np.ndarray, epoch: int) -> np.ndarray:
        """The images that an epoch is made of, under the curriculum "pad".

        As in PAD (Li et al. 2024, section 3.2), its epochs counted from 0 and its stages given as
        fractions of all epochs, so that fewer than the paper's 100 go through all of them.

        Args:
          ranks: `jdd.difficulty.ranks`, float `(n,)`.
          epoch: from 0.

        Returns:
          bool `(n,)`; never none.
        """
        stages = (self.full_from_epoch, self.first_drop_epoch, self.second_drop_epoch)
        all_in, first, second = (stage * self.train_epochs for stage in stages)
        if epoch <= all_in:
            grown = epoch / all_in if all_in else 1.0
            limit = self.initial_fraction + (1 - self.initial_fraction) * grown
            some: np.ndarray = (ranks < limit) | (ranks == ranks.min())
            return some
        if epoch <= first:
            return np.ones(len(ranks), bool)
        limit = self.first_drop_fraction if epoch <= second else self.second_drop_fraction
        kept: np.ndarray = (ranks >= limit) | (ranks == ranks.max())
        return kept


@dataclass(frozen=True)
class ExpertSpec:
    """What a store of experts was made from."""

    dataset: str
    preprocessing: Mapping[str, Any]
    network: str
    options: Mapping[str, Any]
    held_out: float
    """fraction of the real training images kept for validation, which no expert sees"""
    settings: ExpertSettings
    difficulty: DifficultySettings | None = None
    """how the images' difficulty was found, where the curriculum goes by it"""
    fingerprint: str = ""
    """of the real training images, as `jdd.data.fingerprint` has it; empty: not known"""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "options": dict(self.options)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ExpertSpec":
        """The inverse of `to_json`."""
        settings = records.build(ExpertSettings, renamed(value["settings"]), "settings.")
        spec = records.build(cls, {**value, "settings": settings})
        preprocessing.check_spec(spec.preprocessing)
        return spec

    def difficulty_spec(self) -> DifficultySpec | None:
        """What the scores that the curriculum goes by are made from; None where it does not."""
        if self.difficulty is None:
            return None
        return DifficultySpec(
            dataset=self.dataset,
            preprocessing=self.preprocessing,
            network=self.network,
            options=self.options,
            held_out=self.held_out,
            real_images=self.settings.real_images,
            settings=self.difficulty,
            fingerprint=self.fingerprint,
        )

    def differences(self, stored: "ExpertSpec") -> list[str]:
        """In words, why experts `stored` cannot serve where these are asked for; none: they can.

        More experts than asked for do no harm, and fewer are added to.
        """
        differing = []
        moved = bool(self.fingerprint) and stored.fingerprint == self.fingerprint
        if stored.dataset != self.dataset and not moved:
            differing.append(f"stored for dataset {stored.dataset}, asked for {self.dataset}")
        else:
            # Other images have other statistics, which says less.
            differing += fingerprint.differences(
                stored.fingerprint, self.fingerprint
            ) or preprocessing.differences(stored.preprocessing, self.preprocessing)
        if stored.network != self.network:
            differing.append(f"stored with network {stored.network}, asked for {self.network}")
        else:
            differing += _differing(dict(stored.options), dict(self.options))
        differing += _differing({"held_out": stored.held_out}, {"held_out": self.held_out})
        ours, theirs = (
            {**asdict(spec.settings), **(asdict(spec.difficulty) if spec.difficulty else {})}
            for spec in (self, stored)
        )
        del ours["num_experts"], theirs["num_experts"]
        return differing + _differing(theirs, ours)


def _differing(stored: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    return [
        f"stored with `{name}` {stored.get(name)}, asked for {asked.get(name)}"
        for name in sorted({*stored, *asked})
        if stored.get(name) != asked.get(name)
    ]


def default_directory(out: Path, spec: ExpertSpec) -> Path:
    """Where experts for a run in `out` are kept: next to it, a directory for each way to train."""
    before = {new: old for old, new in RENAMED.items()}  # as jdd 0.1 named them, which is the mark
    value = spec.to_json()
    # Other images by the same name are refused there, and no other place is chosen for them.
    del value["fingerprint"]
    value["preprocessing"] = preprocessing.shortened(spec.preprocessing)
    for group in ("settings", "difficulty"):
        value[group] = value[group] and {
            before.get(k, k): v
            for k, v in value[group].items()
            if k != "num_experts" and (k, v) != ("equal_batches", True)
        }
    mark = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
    return out.parent / "experts" / f"{spec.network}-{spec.preprocessing['kind']}-{mark}"
