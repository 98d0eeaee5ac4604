"""Difficulty-aligned trajectory matching (DATM): learned labels, a window that grows.

Guo, Wang, Cazenavette, Li, Zhang, You: "Towards Lossless Dataset Distillation via
Difficulty-Aligned Trajectory Matching", ICLR 2024; sections 3.2 and 3.3 there.
"""

import dataclasses
from dataclasses import dataclass

from jdd.errors import SettingError
from jdd.methods.base import Method, Needs
from jdd.methods.mtt import QUICK as MTT_QUICK
from jdd.methods.presets import Preset
from jdd.methods.trajectories import (
    LearnedLabels,
    TrajectorySettings,
    Weights,
    trajectory_method,
)
from jdd.networks import NetworkLike
from jdd.settings import setting


@dataclass(frozen=True)
class DatmSettings(TrajectorySettings):
    """Settings of DATM; the defaults are the published ones for CIFAR-10, 10 images per class."""

    iterations: int = setting(10000, "updates of the synthetic set", min=1)
    syn_steps: int = setting(80, "steps of the student on the synthetic set, N in the paper", min=1)
    max_start_epoch: int = setting(
        20, "segments start before this epoch at last, T+ in the paper", min=1
    )
    initial_max_start_epoch: int = setting(
        10, "segments start before this epoch at first, T in the paper; 0: as at last", min=0
    )
    window_expansion_end: int = setting(
        1000, "update by which the window of start epochs has grown", min=0
    )
    lr_img: float = setting(
        100.0, "rate at which images are updated, pixels per unit of gradient", above=0
    )
    lr_label: float = setting(2.0, "rate at which label logits are updated", min=0)
    mom_label: float = setting(0.9, "momentum of the label logits' updates", min=0, below=1)
    threshold: float = setting(
        1.0, "updates with a loss above this are not made; 0: all are", min=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        first, least = self.initial_max_start_epoch, self.min_start_epoch
        if first and not least < first <= self.max_start_epoch:
            raise SettingError(
                "initial_max_start_epoch",
                first,
                f"above `min_start_epoch` {least}, at most `max_start_epoch` "
                f"{self.max_start_epoch}",
            )

    @property
    def needs(self) -> Needs:
        """Segments from a window that grows, and label logits to start from."""
        needs = super().needs
        assert needs.segments is not None
        window = dataclasses.replace(
            needs.segments,
            initial_max_start_epoch=self.initial_max_start_epoch,
            expansion_end=self.window_expansion_end,
        )
        return dataclasses.replace(needs, segments=window, label_logits=True)


def datm(settings: DatmSettings, network: NetworkLike) -> Method:
    """Trajectory matching with soft labels: their logits are moved by the same gradient.

    A set that comes with hard labels gets smoothed ones. `distill.py` gives it the experts': the
    mean logits of those that classify the image correctly, see `jdd.experts.label_logits`. The
    window of start epochs grows over the updates; `jdd.experts.SegmentSampler` draws from it.
    """
    return soft_trajectories(settings, network)


def soft_trajectories(
    settings: DatmSettings, network: NetworkLike, weights: Weights | None = None
) -> Method:
    """DATM, matching the parameters that `weights` keeps."""
    return trajectory_method(
        settings,
        network,
        labels=LearnedLabels(settings.lr_label, settings.mom_label),
        threshold=settings.threshold,
        weights=weights,
    )


# The settings files of its repository; experts are FTD's. An `ema_decay` stands in these files, but
# no code of theirs reads it: in FTD's it averages the synthetic images. Of an evaluated network's
# weights such an average would be mostly where they began, as 100 images make 1,000 steps in all.
_CIFAR100 = {"lr_img": 1000.0, "lr_lr": 1e-5, "lr_label": 10.0, "threshold": 1.0}
_FIXED = {"initial_max_start_epoch": 0, "batch_syn": 1000, "lr_label": 10.0}
_LARGE = {**_FIXED, "min_start_epoch": 40, "max_start_epoch": 60, "lr_img": 50.0}
_TINY = {**_FIXED, "depth": 4, "syn_steps": 40, "lr_img": 100.0, "lr_lr": 1e-4}
PAPER = Preset(
    {
        "cifar10": {
            1: {
                "max_start_epoch": 4,
                "initial_max_start_epoch": 0,
                "threshold": 1.1,
                "lr_label": 5.0,
                "lr_lr": 1e-7,
            },
            10: {},
            50: {
                "initial_max_start_epoch": 20,
                "max_start_epoch": 40,
                "window_expansion_end": 2000,
                "lr_img": 1000.0,
                "batch_syn": 500,
            },
            500: {**_LARGE, "syn_steps": 40, "eval_every": 1000},
            1000: {**_LARGE, "syn_steps": 100, "eval_every": 1000},
        },
        "cifar100": {
            1: {
                **_CIFAR100,
                "syn_steps": 40,
                "expert_epochs": 3,
                "batch_syn": 0,
                "initial_max_start_epoch": 10,
                "max_start_epoch": 20,
                "window_expansion_end": 1000,
            },
            10: {
                **_CIFAR100,
                "initial_max_start_epoch": 30,
                "max_start_epoch": 50,
                "window_expansion_end": 2000,
                "batch_syn": 1000,
            },
            50: {
                **_CIFAR100,
                "min_start_epoch": 20,
                "initial_max_start_epoch": 0,
                "max_start_epoch": 70,
                "window_expansion_end": 2000,
                "batch_syn": 1000,
                "expert_epochs": 2,
            },
            100: {
                **_CIFAR100,
                **_FIXED,
                "min_start_epoch": 30,
                "max_start_epoch": 70,
                "lr_img": 50.0,
            },
        },
        "tiny_imagenet": {
            1: {
                **_TINY,
                "initial_max_start_epoch": 15,
                "max_start_epoch": 20,
                "window_expansion_end": 2000,
                "lr_img": 1e4,
                "batch_syn": 0,
            },
            10: {**_TINY, "min_start_epoch": 10, "max_start_epoch": 50, "batch_syn": 500},
            50: {**_TINY, "min_start_epoch": 40, "max_start_epoch": 70, "syn_steps": 20},
        },
    },
    "cifar10",
    {"train_epochs": 100, "expert_optimizer": "gsam", "eval_every": 500, "eval_batch": 128},
    {
        "cifar10": {"preprocessing": "zca"},
        "cifar100": {"preprocessing": "zca"},
        "tiny_imagenet": {"preprocessing": "zca"},
        "mhist": {"batch_train": 64, "batch_syn": 0},
    },
)
# Soft labels start from experts that know the images, so a student starts nearer to its target.
_GROWING = {"initial_max_start_epoch": 2, "window_expansion_end": 100, "lr_label": 2.0}
_GROWING_DIGITS = {"initial_max_start_epoch": 8, "window_expansion_end": 100, "lr_label": 5.0}
QUICK = MTT_QUICK.extended(
    all={"initial_max_start_epoch": 0, "threshold": 1.5, "lr_label": 5.0},
    rows={
        "mnist": {10: {**MTT_QUICK.rows["mnist"][10], **_GROWING}},
        "digits": {10: {**MTT_QUICK.rows["digits"][10], **_GROWING_DIGITS}},
    },
)
PRESETS = {"quick": QUICK, "paper": PAPER, "released": PAPER}
