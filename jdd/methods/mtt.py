"""Matching training trajectories (MTT).

Cazenavette, Wang, Torralba, Efros, Zhu: "Dataset Distillation by Matching Training Trajectories",
CVPR 2022; equations and algorithm 1 there.
"""

from dataclasses import dataclass

import flax.linen as nn

from jdd.methods.base import Method
from jdd.methods.trajectories import check, trajectory_method
from jdd.settings import flag


@dataclass(frozen=True)
class MttSettings:
    """Settings of trajectory matching; the defaults are the published ones for CIFAR-10, 1 image
    per class (appendix A.1 of the paper, and its repository's commands)."""

    iterations: int = flag(5000, "updates of the synthetic set")
    syn_steps: int = flag(50, "steps of the student on the synthetic set, N in the paper")
    expert_epochs: int = flag(2, "epochs from an expert's start to its target, M in the paper")
    min_start_epoch: int = flag(0, "first epoch that an expert segment may start from")
    max_start_epoch: int = flag(2, "segments start before this epoch, T+ in the paper")
    batch_syn: int = flag(0, "synthetic images a student step; 0: all of them")
    lr_img: float = flag(1000.0, "rate at which images are updated, pixels per unit of gradient")
    lr_lr: float = flag(1e-5, "rate at which the student's step size is updated")
    lr_init: float = flag(0.01, "the student's step size at the start, where --init brings none")
    mom_img: float = flag(0.5, "momentum of the images' and the step size's updates")
    clip: float = flag(0.0, "longest gradient to the images, longer ones are cut to it; 0: none")
    dsa: bool = flag(True, "DSA on the synthetic images in every student step")
    segments: int = flag(1, "expert segments an update, their gradients averaged")
    memory: str = flag(
        "auto",
        "what is kept of the student's steps: all (parameters, and results of convolutions where "
        "there is room), constant (hardly more for more steps, exact, slower), auto (all, but on a "
        "CPU of many steps only some), or tesla: nothing, and TESLA's gradient, not the exact one",
    )


def mtt(settings: MttSettings, network: nn.Module) -> Method:
    """Trajectory matching: images and step size are moved by the gradient of

        ‖θ̂_{t+N} − θ*_{t+M}‖² / ‖θ*_t − θ*_{t+M}‖²

    where θ̂ starts from the expert's θ*_t and takes N steps of SGD on the synthetic set.

    An update is dropped, and the state left as it was, where the loss or an image is not finite or
    the step size would turn negative or more than double; the published code goes on with either.
    `metrics["dropped"]` says so.

    Raises:
      UserError: settings out of range.
    """
    check(settings)
    return trajectory_method(settings, network)
