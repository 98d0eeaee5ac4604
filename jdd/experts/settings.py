"""How experts are trained, and what must agree for a store of them to be used again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jdd.difficulty import DifficultySettings, DifficultySpec
from jdd.errors import UserError
from jdd.recipe import Recipe
from jdd.settings import flag
from jdd.training import Gsam


@dataclass(frozen=True)
class ExpertSettings:
    """Training of the experts whose trajectories are matched.

    Defaults are the published ones of trajectory matching (Cazenavette et al. 2022, section 4 and
    its repository's `buffer.py`): 100 experts of 50 epochs, SGD 0.01 without momentum.
    """

    num_experts: int = flag(100, "experts to train")
    train_epochs: int = flag(50, "epochs of each expert")
    lr_teacher: float = flag(0.01, "step size of the experts' SGD")
    mom_teacher: float = flag(0.0, "momentum of the experts' SGD")
    batch_train: int = flag(256, "real images an expert's step")
    expert_dsa: bool = flag(True, "DSA on the real images that experts see")
    real_images: int = flag(0, "train experts on this many real images; 0: on all")
    epoch_steps: int = flag(0, "steps of an epoch, whose end is stored; 0: a pass over the images")
    expert_seed: int = flag(0, "seed of the experts, apart from the run's")
    expert_dtype: str = flag("float32", "how parameters are stored: float32 or bfloat16")
    teacher: str = flag("sgd", "the experts' optimiser: sgd, or gsam (two gradients a step)")
    gsam_rho: float = flag(0.01, "GSAM: radius of the perturbation")
    gsam_alpha: float = flag(0.3, "GSAM: weight of the surrogate gap")
    gsam_adaptive: bool = flag(True, "GSAM: a radius that scales with the weights")
    schedule: str = flag(
        "all", "real images an epoch: all, or pad (by difficulty, as the next flags say)"
    )
    easy_share: float = flag(0.75, "schedule pad: share of each class, easiest first, at the start")
    all_from: float = flag(0.2, "schedule pad: share of the epochs after which all are in")
    drop_from: float = flag(0.4, "schedule pad: share of the epochs after which easy ones go")
    drop_more_from: float = flag(0.6, "schedule pad: share of the epochs after which more go")
    drop_easy: float = flag(0.1, "schedule pad: share of each class, easiest first, that goes")
    drop_more: float = flag(0.2, "schedule pad: share of each class that is gone then")

    def recipe(self, network: str, options: Mapping[str, Any], strategy: str) -> Recipe:
        """The same as a `Recipe`; `strategy` is the data set's DSA."""
        return Recipe(
            network=network,
            options=options,
            epochs=self.train_epochs,
            batch_size=self.batch_train,
            learning_rate=self.lr_teacher,
            momentum=self.mom_teacher,
            weight_decay=0.0,
            decay_after=1.0,
            augmentation=strategy if self.expert_dsa else "none",
        )

    def gsam(self) -> Gsam | None:
        """The optimiser's part of these settings; None for plain SGD."""
        if self.teacher == "sgd":
            return None
        return Gsam(self.gsam_rho, self.gsam_alpha, self.gsam_adaptive)

    def eligible(self, ranks: np.ndarray, epoch: int) -> np.ndarray:
        """The images that an epoch is made of, under the schedule "pad".

        As in PAD (Li et al. 2024, section 3.2), its epochs counted from 0 and its stages given as
        shares of all epochs, so that fewer than the paper's 100 go through all of them.

        Args:
          ranks: `jdd.difficulty.ranks`, float `(n,)`.
          epoch: from 0.

        Returns:
          bool `(n,)`.
        """
        stages = (self.all_from, self.drop_from, self.drop_more_from)
        all_in, first, second = (share * self.train_epochs for share in stages)
        if epoch <= all_in:
            grown = epoch / all_in if all_in else 1.0
            return ranks < self.easy_share + (1 - self.easy_share) * grown
        if epoch <= first:
            return np.ones(len(ranks), bool)
        return ranks >= (self.drop_easy if epoch <= second else self.drop_more)

    def check(self) -> None:
        """Raises `UserError` for values out of range."""
        for name in ("num_experts", "train_epochs", "batch_train"):
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} {getattr(self, name)}: at least 1 is needed")
        if self.real_images < 0 or self.epoch_steps < 0:
            raise UserError("--real-images and --epoch-steps may not be negative")
        if not 0 < self.lr_teacher < np.inf:
            raise UserError(f"--lr-teacher {self.lr_teacher}: it must be above 0")
        if not 0 <= self.mom_teacher < 1:
            raise UserError(f"--mom-teacher {self.mom_teacher}: from 0 to below 1")
        if not 0 <= self.expert_seed < 2**32:
            raise UserError(f"--expert-seed {self.expert_seed}: from 0 to {2**32 - 1}")
        choices = {
            "expert_dtype": ("float32", "bfloat16"),
            "teacher": ("sgd", "gsam"),
            "schedule": ("all", "pad"),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} {getattr(self, name)}: choose {' or '.join(known)}")
        for name in ("gsam_rho", "gsam_alpha"):
            if not 0 <= getattr(self, name) < np.inf:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} {getattr(self, name)}: 0 or a number above it")
        if not 0 < self.easy_share <= 1:
            raise UserError(f"--easy-share {self.easy_share}: a share above 0, at most 1")
        for name in ("drop_easy", "drop_more"):
            if not 0 <= getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} {getattr(self, name)}: a share from 0 to below 1")
        if not 0 <= self.all_from <= self.drop_from <= self.drop_more_from <= 1:
            raise UserError(
                f"--all-from {self.all_from}, --drop-from {self.drop_from} and --drop-more-from "
                f"{self.drop_more_from}: shares of the epochs, each at least the one before"
            )


@dataclass(frozen=True)
class ExpertSpec:
    """What a store of experts was made from."""

    dataset: str
    preprocessing: Mapping[str, Any]
    network: str
    options: Mapping[str, Any]
    held_out: float
    """share of the real training images kept for validation, which no expert sees"""
    settings: ExpertSettings
    difficulty: DifficultySettings | None = None
    """how the images' difficulty was found, where the schedule goes by it"""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "options": dict(self.options)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ExpertSpec":
        """The inverse of `to_json`."""
        difficulty = value.get("difficulty")
        return cls(
            **{
                **value,
                "settings": ExpertSettings(**value["settings"]),
                "difficulty": difficulty and DifficultySettings(**difficulty),
            }
        )

    def difficulty_spec(self) -> DifficultySpec | None:
        """What the scores that the schedule goes by are made from; None where it does not."""
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
        )

    def differences(self, stored: "ExpertSpec") -> list[str]:
        """In words, why experts `stored` cannot serve where these are asked for; none: they can.

        More experts than asked for do no harm, and fewer are added to.
        """
        from jdd import preprocessing

        found = []
        if stored.dataset != self.dataset:
            found.append(f"stored for data set {stored.dataset}, asked for {self.dataset}")
        else:
            found += preprocessing.differences(stored.preprocessing, self.preprocessing)
        if stored.network != self.network:
            found.append(f"stored with network {stored.network}, asked for {self.network}")
        else:
            found += _differing(dict(stored.options), dict(self.options), "")
        found += _differing({"held_out": stored.held_out}, {"held_out": self.held_out}, "")
        ours, theirs = (
            {**asdict(spec.settings), **(asdict(spec.difficulty) if spec.difficulty else {})}
            for spec in (self, stored)
        )
        del ours["num_experts"], theirs["num_experts"]
        return found + _differing(theirs, ours, "--")


def _differing(stored: dict[str, Any], asked: dict[str, Any], mark: str) -> list[str]:
    return [
        f"stored with {mark}{name.replace('_', '-') if mark else name} {stored.get(name)}, "
        f"asked for {asked.get(name)}"
        for name in sorted({*stored, *asked})
        if stored.get(name) != asked.get(name)
    ]


def default_directory(out: Path, spec: ExpertSpec) -> Path:
    """Where experts for a run in `out` are kept: beside it, one directory for each way to train."""
    value = spec.to_json()
    value["settings"] = {k: v for k, v in value["settings"].items() if k != "num_experts"}
    mark = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]
    return out.parent / "experts" / f"{spec.network}-{spec.preprocessing['kind']}-{mark}"
