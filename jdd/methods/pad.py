"""Prioritize alignment in dataset distillation (PAD).

Li, Guo, Zhao, Zhang, Cheng, Khaki, Zhang, Sajedi, Plataniotis, Wang, You: "Prioritize Alignment in
Dataset Distillation", 2024; sections 3.2 (which real images experts see) and 3.3 (which parameters
are matched).
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn

from jdd.errors import UserError, unknown
from jdd.losses import drop_shallow_layers, drop_smallest_errors
from jdd.methods.base import Method
from jdd.methods.datm import DatmSettings, soft_trajectories
from jdd.settings import flag

FILTERS = ("depth", "loss", "none")


@dataclass(frozen=True)
class PadSettings(DatmSettings):
    """Settings of PAD; the defaults are the published ones for CIFAR-10, 10 images per class."""

    filter: str = flag(
        "depth",
        "parameters left out of the matching: depth (the shallow layers, as in the paper), loss "
        "(those matched best, the other choice of its released code) or none",
    )
    drop: float = flag(0.5, "share of the parameters that the filter leaves out")


def pad(settings: PadSettings, network: nn.Module) -> Method:
    """DATM that matches a part of the parameters, on experts trained in order of difficulty.

    What experts are trained on is their own setting: `ExpertSettings.schedule` "pad", which the
    presets of this method choose.

    Raises:
      UserError: settings out of range.
    """
    if settings.filter not in FILTERS:
        raise unknown("--filter", settings.filter, FILTERS)
    if not 0 <= settings.drop < 1:
        raise UserError(f"--drop {settings.drop}: a share from 0 to below 1")

    def by_depth(student: Any, target: Any) -> Any:
        del target
        return drop_shallow_layers(student, settings.drop)

    def by_loss(student: Any, target: Any) -> Any:
        return drop_smallest_errors(student, target, settings.drop)

    chosen = {"depth": by_depth, "loss": by_loss, "none": None}[settings.filter]
    return soft_trajectories(settings, network, chosen if settings.drop else None)
