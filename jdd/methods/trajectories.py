"""What the methods share that match expert trajectories: MTT, DATM, PAD."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jdd import unrolling
from jdd.augment import augment, strategy_for
from jdd.data import RealData
from jdd.errors import UserError, unknown
from jdd.experts import Segment
from jdd.losses import trajectory_matching
from jdd.methods.base import Method, Metrics
from jdd.sharding import at_once, over_models
from jdd.synthetic import SyntheticSet
from jdd.training import batch_loss

Weights = Callable[[Any, Any], Any]
"""`(student, target)` → weights for `trajectory_matching`: which parameters are matched"""

REASONS = (
    "the loss or an image is not finite: lower --lr-img, --lr-lr or --lr-init",
    "the step size would turn negative or more than double: lower --lr-lr, or --lr-init",
)
TOO_FAR = "the loss is above --threshold: raise it, or change --lr-init or --syn-steps"

# A student that diverges has a finite loss with a huge gradient to the step size for some updates
# before it has none; a step size that follows it never comes back. Sound ones move by percents.
_FASTEST_GROWTH = 2.0


class TrajectorySettings(Protocol):
    """What the settings of such a method hold; `MttSettings` says what each is."""

    @property
    def syn_steps(self) -> int:
        """Steps of the student."""

    @property
    def batch_syn(self) -> int:
        """Synthetic images a student step; 0: all."""

    @property
    def lr_img(self) -> float:
        """Rate at which images are updated."""

    @property
    def lr_lr(self) -> float:
        """Rate at which the step size is updated."""

    @property
    def lr_init(self) -> float:
        """The step size at the start."""

    @property
    def mom_img(self) -> float:
        """Momentum of images and step size."""

    @property
    def clip(self) -> float:
        """Longest gradient to the images; 0: any."""

    @property
    def dsa(self) -> bool:
        """DSA in the student's steps."""

    @property
    def segments(self) -> int:
        """Expert segments an update."""

    @property
    def memory(self) -> str:
        """One of `unrolling.MEMORY`."""


@dataclass(frozen=True)
class LearnedLabels:
    """How label logits are learned."""

    rate: float
    momentum: float


class TrajectoryState(NamedTuple):
    """What these methods go on from."""

    key: jax.Array  # (2,) uint32 key data
    iteration: jax.Array  # () int32
    optimizer: Any  # momentum of what is learned: images, step size, label logits


class _Learned(NamedTuple):
    """What an update moves; the labels are None where they stay."""

    images: Any  # (n, h, w, c) float32
    rate: Any  # () float32
    labels: Any  # (n, classes) float32


class _Entry(NamedTuple):
    """What one step of the student needs beside what is learned."""

    chosen: jax.Array  # (batch,) int32
    labels: Any  # (batch,) int32 or (batch, classes) float32; None: they are learned
    key: jax.Array  # random key of the augmentation


def trajectory_method(
    settings: TrajectorySettings,
    network: nn.Module,
    *,
    labels: LearnedLabels | None = None,
    threshold: float = 0.0,
    weights: Weights | None = None,
) -> Method:
    """Images, step size and, where wanted, label logits are moved by the gradient of

        ‖w ⊙ (θ̂_{t+N} − θ*_{t+M})‖² / ‖w ⊙ (θ*_t − θ*_{t+M})‖²

    where θ̂ starts from the expert's θ*_t and takes N steps of SGD on the synthetic set.

    An update is dropped, and the state left as it was, where the loss or an image is not finite,
    the step size would turn negative or more than double, or the loss is above `threshold`.

    Args:
      settings: of the method.
      network: the module.
      labels: None leaves the labels as they are.
      threshold: the largest loss that an update is made at; 0: any.
      weights: which parameters are matched, w; None: all.
    """
    rules = {
        "images": optax.chain(
            optax.clip_by_global_norm(settings.clip) if settings.clip else optax.identity(),
            optax.sgd(settings.lr_img, momentum=settings.mom_img or None),
        ),
        "rate": optax.sgd(settings.lr_lr, momentum=settings.mom_img or None),
    }
    if labels is not None:
        rules["labels"] = optax.sgd(labels.rate, momentum=labels.momentum or None)
    optimizer = optax.multi_transform(
        rules, _Learned("images", "rate", None if labels is None else "labels")
    )

    def learned(synthetic: SyntheticSet) -> _Learned:
        rate = synthetic.learning_rate
        rate = jnp.float32(settings.lr_init) if rate is None else jnp.asarray(rate)
        return _Learned(synthetic.images, rate, None if labels is None else synthetic.labels)

    def init(
        key: jax.Array, synthetic: SyntheticSet, data: RealData
    ) -> tuple[SyntheticSet, TrajectoryState]:
        del data
        if labels is not None and synthetic.labels.ndim == 1:
            soft = smooth_logits(synthetic.labels, synthetic.num_classes)
            synthetic = SyntheticSet(
                synthetic.images, soft, synthetic.learning_rate, synthetic.info
            )
        moved = learned(synthetic)
        state = TrajectoryState(jax.random.key_data(key), jnp.int32(0), optimizer.init(moved))
        return _with(synthetic, moved), state

    def update(
        synthetic: SyntheticSet,
        state: TrajectoryState,
        data: RealData,
        segment: Segment | None = None,
    ) -> tuple[SyntheticSet, TrajectoryState, Metrics]:
        del data
        if segment is None or synthetic.learning_rate is None:
            raise ValueError(
                "a trajectory method's update takes a set from its init, and a segment: start and "
                f"target parameters, each leaf with a leading axis of {settings.segments}"
            )
        strategy = strategy_for(synthetic.info.dataset) if settings.dsa else "none"
        size, steps = synthetic.images.shape[0], settings.syn_steps
        moved = learned(synthetic)

        def step_loss(params: Any, shown: _Learned, entry: _Entry) -> jax.Array:
            batch = shown.images[entry.chosen]
            if strategy != "none":
                batch = augment(entry.key, batch, strategy)
            of_batch = entry.labels if shown.labels is None else shown.labels[entry.chosen]
            return batch_loss(network, params, {}, batch, of_batch)[0]

        def segment_loss(
            moved: _Learned, labels: jax.Array, start: Any, target: Any, key: jax.Array
        ) -> jax.Array:
            order, transforms = jax.random.split(key)
            chosen = unrolling.batch_plan(order, size, settings.batch_syn, steps)
            held = labels[chosen] if moved.labels is None else None
            plan = _Entry(chosen, held, jax.random.split(transforms, steps))
            shown = moved._replace(rate=jnp.zeros(()))  # the student's rate is no part of its data
            if settings.memory == "tesla":
                student = unrolling.tesla(step_loss, start, shown, moved.rate, plan)
            else:
                kept = unrolling.kept_for(steps, settings.memory)
                room = unrolling.room_for(settings.memory) // at_once(settings.segments)
                student = unrolling.sgd(step_loss, start, shown, moved.rate, plan, kept, room)
            matched = None if weights is None else weights(student, target)
            return trajectory_matching(student, start, target, matched)

        key = jax.random.fold_in(jax.random.wrap_key_data(state.key), state.iteration)
        keys = jax.random.split(key, settings.segments)
        losses, gradients = over_models(
            lambda shared, *piece: jax.value_and_grad(segment_loss)(*shared, *piece),
            (moved, synthetic.labels),
            *(segment.start, segment.target, keys),
        )
        loss = jnp.mean(losses)
        gradient = jax.tree.map(lambda g: jnp.mean(g, axis=0), gradients)
        changes, momentum = optimizer.update(gradient, state.optimizer, moved)
        new: _Learned = optax.apply_updates(moved, changes)

        # The norm too: one that overflows makes clipping return zeros, which look sound.
        norm = jnp.sqrt(jnp.sum(gradient.images**2))
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        for leaf in jax.tree.leaves(new):
            finite &= jnp.all(jnp.isfinite(leaf))
        sound = finite & (new.rate > 0) & (new.rate <= _FASTEST_GROWTH * moved.rate)
        dropped = jnp.where(sound, 0, jnp.where(finite, 2, 1))
        if threshold:
            dropped = jnp.where(finite & (loss > threshold), 3, dropped)
        new, momentum = jax.tree.map(
            lambda after, before: jnp.where(dropped == 0, after, before),
            (new, momentum),
            (moved, state.optimizer),
        )
        metrics = {
            "loss": loss,
            "learning_rate": new.rate,
            "gradient_norm": norm,
            "dropped": dropped,
        }
        state = TrajectoryState(state.key, state.iteration + 1, momentum)
        return _with(synthetic, new), state, metrics

    if threshold:
        return Method(init, update, (*REASONS, TOO_FAR), skips=(len(REASONS) + 1,))
    return Method(init, update, REASONS)


def smooth_logits(labels: jax.Array, classes: int, certainty: float = 0.9) -> jax.Array:
    """Label logits `(n, classes)` whose softmax gives `certainty` to each label `(n,)` int32."""
    height = jnp.log(certainty * (classes - 1) / (1.0 - certainty))
    return height * jax.nn.one_hot(labels, classes, dtype=jnp.float32)


def _with(synthetic: SyntheticSet, moved: _Learned) -> SyntheticSet:
    labels = synthetic.labels if moved.labels is None else moved.labels
    return SyntheticSet(moved.images, labels, jnp.asarray(moved.rate), synthetic.info)


def check(settings: Any) -> None:
    """Raises `UserError` for settings out of range."""
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
    if settings.memory not in unrolling.MEMORY:
        raise unknown("--memory", settings.memory, unrolling.MEMORY)
