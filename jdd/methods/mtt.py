"""Matching training trajectories (MTT).

Cazenavette, Wang, Torralba, Efros, Zhu: "Dataset Distillation by Matching Training Trajectories",
CVPR 2022; equations and algorithm 1 there.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jdd import unrolling
from jdd.augment import augment, strategy_for
from jdd.data import RealData
from jdd.errors import UserError
from jdd.experts import Segment
from jdd.losses import trajectory_matching
from jdd.methods.base import Method, Metrics
from jdd.settings import flag
from jdd.sharding import over_models
from jdd.synthetic import SyntheticSet
from jdd.training import batch_loss


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


_REASONS = (
    "the loss or an image is not finite: lower --lr-img, --lr-lr or --lr-init",
    "the step size would turn negative or more than double: lower --lr-lr, or --lr-init",
)

# A student that diverges has a finite loss with a huge gradient to the step size for some updates
# before it has none; a step size that follows it never comes back. Sound ones move by percents.
_FASTEST_GROWTH = 2.0


class MttState(NamedTuple):
    """What trajectory matching goes on from."""

    key: jax.Array  # (2,) uint32 key data
    iteration: jax.Array  # () int32
    optimizer: Any  # momentum of images (n, h, w, c) and step size ()


class _Entry(NamedTuple):
    """What one step of the student needs beside the images."""

    chosen: jax.Array  # (batch,) int32
    labels: jax.Array  # (batch,) int32 or (batch, classes) float32; no gradient reaches them
    key: jax.Array  # random key of the augmentation


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
    _check(settings)
    optimizer = optax.multi_transform(
        {
            "images": optax.chain(
                optax.clip_by_global_norm(settings.clip) if settings.clip else optax.identity(),
                optax.sgd(settings.lr_img, momentum=settings.mom_img or None),
            ),
            "rate": optax.sgd(settings.lr_lr, momentum=settings.mom_img or None),
        },
        ("images", "rate"),
    )

    def init(
        key: jax.Array, synthetic: SyntheticSet, data: RealData
    ) -> tuple[SyntheticSet, MttState]:
        del data
        rate = synthetic.learning_rate
        rate = jnp.float32(settings.lr_init) if rate is None else rate
        synthetic = _with(synthetic, synthetic.images, rate)
        state = MttState(
            jax.random.key_data(key), jnp.int32(0), optimizer.init((synthetic.images, rate))
        )
        return synthetic, state

    def update(
        synthetic: SyntheticSet,
        state: MttState,
        data: RealData,
        segment: Segment | None = None,
    ) -> tuple[SyntheticSet, MttState, Metrics]:
        del data
        if segment is None or synthetic.learning_rate is None:
            raise ValueError(
                "mtt's update takes a set from its init, and a segment: start and target "
                f"parameters, each leaf with a leading axis of {settings.segments}"
            )
        strategy = strategy_for(synthetic.info.dataset) if settings.dsa else "none"
        labels = synthetic.labels
        size = synthetic.images.shape[0]
        rate = synthetic.learning_rate
        stride = unrolling.stride_for(settings.syn_steps)

        def step_loss(params: Any, images: jax.Array, entry: _Entry) -> jax.Array:
            batch = images[entry.chosen]
            if strategy != "none":
                batch = augment(entry.key, batch, strategy)
            return batch_loss(network, params, {}, batch, entry.labels)[0]

        def segment_loss(
            moved: tuple[jax.Array, jax.Array], start: Any, target: Any, key: jax.Array
        ) -> jax.Array:
            order, transforms = jax.random.split(key)
            steps = settings.syn_steps
            chosen = unrolling.batch_plan(order, size, settings.batch_syn, steps)
            plan = _Entry(chosen, labels[chosen], jax.random.split(transforms, steps))
            student = unrolling.sgd(step_loss, start, moved[0], moved[1], plan, stride)
            return trajectory_matching(student, start, target)

        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.iteration)
        keys = jax.random.split(key, settings.segments)
        moved = (synthetic.images, rate)
        losses, gradients = over_models(
            lambda start, target, k: jax.value_and_grad(segment_loss)(moved, start, target, k)
        )(segment.start, segment.target, keys)
        loss = jnp.mean(losses)
        gradient = jax.tree.map(lambda g: jnp.mean(g, axis=0), gradients)
        changes, momentum = optimizer.update(gradient, state.optimizer, moved)
        images, new_rate = optax.apply_updates(moved, changes)

        # The norm too: one that overflows makes clipping return zeros, which look sound.
        norm = jnp.sqrt(jnp.sum(gradient[0] ** 2))
        finite = jnp.isfinite(loss) & jnp.isfinite(norm) & jnp.isfinite(new_rate)
        finite &= jnp.all(jnp.isfinite(images))
        sound = finite & (new_rate > 0) & (new_rate <= _FASTEST_GROWTH * rate)
        images, new_rate, momentum = jax.tree.map(
            lambda new, old: jnp.where(sound, new, old),
            (images, new_rate, momentum),
            (*moved, state.optimizer),
        )
        metrics = {
            "loss": loss,
            "learning_rate": new_rate,
            "gradient_norm": norm,
            "dropped": jnp.where(sound, 0, jnp.where(finite, 2, 1)),
        }
        state = MttState(state.key, state.iteration + 1, momentum)
        return _with(synthetic, images, new_rate), state, metrics

    return Method(init, update, _REASONS)


def _with(synthetic: SyntheticSet, images: jax.Array, rate: jax.Array) -> SyntheticSet:
    return SyntheticSet(images, synthetic.labels, jnp.asarray(rate), synthetic.info)


def _check(settings: MttSettings) -> None:
    for name in ("iterations", "syn_steps", "expert_epochs", "max_start_epoch", "segments"):
        value = getattr(settings, name)
        if value < 1:
            raise UserError(f"--{name.replace('_', '-')} {value}: at least 1 is needed")
    for name in ("lr_img", "lr_init"):
        value = getattr(settings, name)
        if not 0 < value < float("inf"):
            raise UserError(f"--{name.replace('_', '-')} {value}: it must be above 0")
    for name in ("lr_lr", "batch_syn", "min_start_epoch", "clip"):
        value = getattr(settings, name)
        if not 0 <= value < float("inf"):
            raise UserError(f"--{name.replace('_', '-')} {value}: 0 or a number above it")
    if not 0 <= settings.mom_img < 1:
        raise UserError(f"--mom-img {settings.mom_img}: from 0 to below 1")
    if settings.min_start_epoch >= settings.max_start_epoch:
        raise UserError(
            f"--min-start-epoch {settings.min_start_epoch} must be below --max-start-epoch "
            f"{settings.max_start_epoch}"
        )
