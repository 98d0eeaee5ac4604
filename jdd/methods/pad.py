"""Prioritize alignment in dataset distillation (PAD).

Li, Guo, Zhao, Zhang, Cheng, Khaki, Zhang, Sajedi, Plataniotis, Wang, You: "Prioritize Alignment in
Dataset Distillation", 2024; sections 3.2 (which real images experts see) and 3.3 (which parameters
are matched).
"""

from dataclasses import dataclass
from typing import Any

from jdd.losses import drop_shallow_layers, drop_smallest_errors
from jdd.methods.base import Method
from jdd.methods.datm import PAPER as DATM_PAPER
from jdd.methods.datm import QUICK as DATM_QUICK
from jdd.methods.datm import DatmSettings, soft_trajectories
from jdd.methods.presets import Preset, Row
from jdd.networks import NetworkLike
from jdd.settings import setting

FILTERS = ("depth", "loss", "none")


@dataclass(frozen=True)
class PadSettings(DatmSettings):
    """Settings of PAD; the defaults are the published ones for CIFAR-10, 10 images per class."""

    filter: str = setting(
        "depth",
        "parameters left out of the matching: depth (the shallow layers, as in the paper), loss "
        "(those matched best, as in its released code of today) or none",
        choices=FILTERS,
    )
    drop: float = setting(
        0.5, "fraction of the parameters that the filter leaves out", min=0, below=1
    )


def pad(settings: PadSettings, network: NetworkLike) -> Method:
    """DATM that matches a part of the parameters, on experts trained in order of difficulty.

    What experts are trained on is their own setting: `ExpertSettings.curriculum` "pad", which the
    presets of this method choose.
    """

    def by_depth(student: Any, target: Any) -> Any:
        del target
        return drop_shallow_layers(student, settings.drop)

    def by_loss(student: Any, target: Any) -> Any:
        return drop_smallest_errors(student, target, settings.drop)

    chosen = {"depth": by_depth, "loss": by_loss, "none": None}[settings.filter]
    return soft_trajectories(settings, network, chosen if settings.drop else None)


def _dropping(preset: Preset, **drops: Row) -> Preset:
    """The preset with a drop for each images per class: `cifar10_1` for 1 on CIFAR-10."""
    rows: dict[str, dict[int, Row]] = {}
    for name, values in drops.items():
        dataset, ipc = name.rsplit("_", 1)
        row = {**preset.rows[dataset][int(ipc)], **values}
        rows.setdefault(dataset, {})[int(ipc)] = row
    return preset.extended(all={"curriculum": "pad"}, rows=rows)


_PAPER = _dropping(
    DATM_PAPER,
    cifar10_1={"drop": 0.0},
    cifar10_50={"drop": 0.25, "expert_epochs": 3, "batch_syn": 1000},
    cifar10_500={
        "initial_max_start_epoch": 60,
        "max_start_epoch": 70,
        "window_expansion_end": 2000,
    },
    cifar100_1={"initial_max_start_epoch": 20, "max_start_epoch": 30},
    cifar100_50={"drop": 0.0},
)
_QUICK = _dropping(
    DATM_QUICK.extended(all={"score_networks": 3, "score_epochs": 2, "score_lr": 0.02}),
    cifar10_1={"drop": 0.0},
    mnist_1={"drop": 0.0, "factor": 2, "iterations": 400},
    mnist_10={"drop": 0.0},
    digits_1={"drop": 0.0},
    digits_10={"drop": 0.25},
)
PRESETS = {
    "quick": _QUICK,
    "paper": _PAPER,
    "released": _PAPER.extended(
        all={"score": "grand_last", "score_epochs": 40, "score_lr": 0.1, "filter": "loss"}
    ),
}
