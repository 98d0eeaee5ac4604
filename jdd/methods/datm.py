"""Difficulty-aligned trajectory matching (DATM): learned labels, a window that grows.

Guo, Wang, Cazenavette, Li, Zhang, You: "Towards Lossless Dataset Distillation via
Difficulty-Aligned Trajectory Matching", ICLR 2024; sections 3.2 and 3.3 there.
"""

from dataclasses import dataclass

import flax.linen as nn

from jdd.errors import UserError
from jdd.methods.base import Method
from jdd.methods.mtt import MttSettings
from jdd.methods.trajectories import LearnedLabels, Weights, check, trajectory_method
from jdd.settings import flag


@dataclass(frozen=True)
class DatmSettings(MttSettings):
    """Settings of DATM; the defaults are the published ones for CIFAR-10, 10 images per class."""

    iterations: int = flag(10000, "updates of the synthetic set")
    syn_steps: int = flag(80, "steps of the student on the synthetic set, N in the paper")
    max_start_epoch: int = flag(20, "segments start before this epoch at last, T+ in the paper")
    first_max_start_epoch: int = flag(
        10, "segments start before this epoch at first, T in the paper; 0: as at last"
    )
    window_grown_by: int = flag(1000, "update by which the window of start epochs has grown")
    lr_img: float = flag(100.0, "rate at which images are updated, pixels per unit of gradient")
    lr_label: float = flag(2.0, "rate at which label logits are updated")
    mom_label: float = flag(0.9, "momentum of the label logits' updates")
    threshold: float = flag(1.0, "updates with a loss above this are not made; 0: all are")


def datm(settings: DatmSettings, network: nn.Module) -> Method:
    """Trajectory matching with soft labels: their logits are moved by the same gradient.

    A set that comes with hard labels gets smoothed ones. `distill.py` gives it the experts': the
    mean logits of those that classify the image rightly, see `jdd.experts.label_logits`. The window
    of start epochs grows over the updates; it is `jdd.experts.SegmentSource` that draws from it.

    Raises:
      UserError: settings out of range.
    """
    return soft_trajectories(settings, network)


def soft_trajectories(
    settings: DatmSettings, network: nn.Module, weights: Weights | None = None
) -> Method:
    """DATM, matching the parameters that `weights` keeps; raises as `datm` does."""
    check(settings)
    for name in ("lr_label", "threshold", "first_max_start_epoch", "window_grown_by"):
        value = getattr(settings, name)
        if not 0 <= value < float("inf"):
            raise UserError(f"--{name.replace('_', '-')} {value}: 0 or a number above it")
    if not 0 <= settings.mom_label < 1:
        raise UserError(f"--mom-label {settings.mom_label}: from 0 to below 1")
    first, least = settings.first_max_start_epoch, settings.min_start_epoch
    if first and not least < first <= settings.max_start_epoch:
        raise UserError(
            f"--first-max-start-epoch {first}: above --min-start-epoch {least}, at most "
            f"--max-start-epoch {settings.max_start_epoch}"
        )
    labels = LearnedLabels(settings.lr_label, settings.mom_label)
    return trajectory_method(
        settings, network, labels=labels, threshold=settings.threshold, weights=weights
    )
