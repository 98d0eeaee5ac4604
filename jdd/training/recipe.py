"""How to train a network on a set: written on each set, so that its figure can be reproduced."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from jdd import records
from jdd.settings import Settings, setting

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("step", "cosine")


@dataclass(frozen=True)
class Recipe(Settings):
    """Network and training of one classifier.

    The published recipe for evaluating a distilled set: 1,000 epochs with augmentation (300
    without), SGD with momentum 0.9 and weight decay 5e-4, rate × 0.1 after half, batches of 256.
    The released code trains for one epoch more, lowers the rate two epochs later, and forgets the
    momentum there.
    """

    network: str = setting("ConvNet", "name of the network")
    options: Mapping[str, Any] = field(default_factory=dict)
    """that network's options"""
    epochs: int = setting(1000, "passes over the set", min=1)
    batch_size: int = setting(256, "images per step, at most", min=1)
    equal_batches: bool = setting(
        True,
        "batches of one size, the few images left over not seen in that pass; off: full batches "
        "and a smaller last one, as published",
    )
    learning_rate: float = setting(
        0.01, "in place of the step size that a set has learned, which is of SGD alone", above=0
    )
    learned_rate: bool = setting(
        True, "the step size that a set has learned is used; off: `learning_rate` on every set"
    )
    momentum: float = setting(0.9, "of SGD", min=0, below=1)
    weight_decay: float = setting(
        5e-4,
        "of SGD, added to the gradient before the momentum; of AdamW, apart from its moments",
        min=0,
    )
    decay_after: float = setting(
        0.5, "fraction of the epochs before the rate falls to a tenth; 1: never", min=0, max=1
    )
    optimizer: str = setting("sgd", "sgd, or adamw, with Adam's own constants", choices=OPTIMIZERS)
    rate_schedule: str = setting(
        "step",
        "step, or cosine: the rate falls to 0 along half a wave, whatever `decay_after`",
        choices=SCHEDULES,
    )
    cutmix: float = setting(
        0.0, "probability that a batch is mixed by CutMix, one box of each image", min=0, max=1
    )
    cutmix_beta: float = setting(
        1.0, "of the beta distribution that the area outside the box is drawn from", above=0
    )
    augmentation: str = setting(
        "none",
        "DSA strategy, its kinds joined by _, one drawn for a batch; the same after stacked_, on "
        "top of each other as in IDC; each_crop_scale_rotate as DC on MNIST; or none",
    )
    ema: float = setting(
        0.0,
        "decay a step of the averaged weights that are tested, in which the first weights keep a "
        "share of decay^steps; 0: no average",
        min=0,
        below=1,
    )

    def __hash__(self) -> int:
        return hash(json.dumps(asdict(self), sort_keys=True))

    def step_size(self, learned: Any = None) -> Any:
        """The step size on a set that has learned this one, for SGD, or none."""
        follows = self.learned_rate and self.optimizer == "sgd"
        return learned if follows and learned is not None else self.learning_rate

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "options": dict(self.options)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Recipe":
        """The inverse of `to_json`; raises `ValueError` for what it would not give."""
        return records.build(cls, value, "recipe.")
