"""How experts are trained, and what must agree for a store of them to be used again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jdd.recipe import Recipe
from jdd.settings import flag


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

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "options": dict(self.options)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ExpertSpec":
        """The inverse of `to_json`."""
        return cls(**{**value, "settings": ExpertSettings(**value["settings"])})

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
        ours, theirs = asdict(self.settings), asdict(stored.settings)
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
