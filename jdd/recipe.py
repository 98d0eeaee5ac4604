"""How to train a network on a set: written on each set, so that its figure can be reproduced."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from jdd.errors import UserError
from jdd.settings import flag


@dataclass(frozen=True)
class Recipe:
    """Network and training of one classifier.

    The published recipe for evaluating a distilled set: 1,000 epochs with augmentation (300
    without), SGD with momentum 0.9 and weight decay 5e-4, rate × 0.1 after half, batches of 256.
    """

    network: str = flag("ConvNet", "name of the network")
    options: Mapping[str, Any] = field(default_factory=dict)
    """that network's options"""
    epochs: int = flag(1000, "passes over the set")
    batch_size: int = flag(256, "images a step, at most")
    learning_rate: float = flag(0.01, "of SGD, in place of the step size that a set has learned")
    momentum: float = flag(0.9, "of SGD")
    weight_decay: float = flag(5e-4, "of SGD, added to the gradient before the momentum")
    decay_after: float = flag(0.5, "share of the epochs before the rate falls to a tenth; 1: never")
    augmentation: str = flag(
        "none",
        "DSA strategy, its kinds joined by _; each_crop_scale_rotate as DC on MNIST; or none",
    )
    ema: float = flag(0.0, "decay of the averaged weights that are tested; 0: no average")

    def check(self) -> None:
        """Raises `UserError` for values out of range."""
        for name in ("epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"--{name.replace('_', '-')} {getattr(self, name)}: at least 1 is needed"
                )
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"--learning-rate {self.learning_rate}: it must be above 0")
        for name in ("momentum", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"--{name} {getattr(self, name)}: from 0 to below 1")
        if not 0 <= self.weight_decay < math.inf or not 0 <= self.decay_after <= 1:
            raise UserError("--weight-decay may not be negative, --decay-after is a share of 1")

    def __hash__(self) -> int:
        return hash(json.dumps(asdict(self), sort_keys=True))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "options": dict(self.options)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Recipe":
        """The inverse of `to_json`."""
        return cls(**value)
