"""What the methods share that match expert trajectories: MTT, DATM, PAD."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jdd import unrolling
from jdd.augment import Draw, augment, draw_ahead, strategy_for
from jdd.errors import SettingError
from jdd.experts import Segment, SegmentWindow
from jdd.losses import trajectory_matching
from jdd.methods.base import Method, MethodSettings, MethodState, Metrics, Needs, decoded
from jdd.methods.student import Entry
from jdd.networks import NetworkLike
from jdd.settings import setting
from jdd.sharding import Batch, at_once, batch_part, over_models
from jdd.synthetic import SyntheticSet
from jdd.training import batch_loss, examples_meet

Weights = Callable[[Any, Any], Any]
"""`(student, target)` → weights for `trajectory_matching`: which parameters are matched"""


@dataclass(frozen=True)
class TrajectorySettings(MethodSettings):
    """Settings of trajectory matching.

    The rates' defaults are those of MTT's code, steps and epochs those of its command for CIFAR-10
    at 1 image per class; what the papers take for each dataset is in the presets.
    """

    iterations: int = setting(5000, "updates of the synthetic set", min=1)
    syn_steps: int = setting(50, "steps of the student on the synthetic set, N in the paper", min=1)
    expert_epochs: int = setting(
        2, "epochs from an expert's start to its target, M in the paper", min=1
    )
    min_start_epoch: int = setting(0, "first epoch that an expert segment may start from", min=0)
    max_start_epoch: int = setting(2, "segments start before this epoch, T+ in the paper", min=1)
    batch_syn: int = setting(0, "synthetic images a student step; 0: all of them", min=0)
    lr_img: float = setting(
        1000.0, "rate at which images are updated, pixels per unit of gradient", above=0
    )
    lr_lr: float = setting(1e-5, "rate at which the student's step size is updated", min=0)
    lr_init: float = setting(
        0.01, "the student's step size at the start, where `init` brings none", above=0
    )
    mom_img: float = setting(
        0.5, "momentum of the images' and the step size's updates", min=0, below=1
    )
    clip: float = setting(
        0.0, "longest gradient to what is stored, longer ones are cut to it; 0: none", min=0
    )
    dsa: bool = setting(True, "DSA on the synthetic images in every student step")
    segments: int = setting(1, "expert segments an update, their gradients averaged", min=1)
    memory: str = setting(
        "auto",
        "what is kept of the student's steps: all (parameters, and results of convolutions where "
        "there is room), constant (hardly more for more steps, exact, slower), auto (all; on a CPU "
        "with many steps only some of it), or tesla (nothing; TESLA's gradient, not the exact one)",
        choices=unrolling.MEMORY,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_start_epoch >= self.max_start_epoch:
            raise SettingError(
                "min_start_epoch",
                self.min_start_epoch,
                f"it must be below `max_start_epoch` {self.max_start_epoch}",
            )

    @property
    def needs(self) -> Needs:
        """Expert segments, and no real images."""
        return Needs(
            real_images=False,
            segments=SegmentWindow(
                expert_epochs=self.expert_epochs,
                min_start_epoch=self.min_start_epoch,
                max_start_epoch=self.max_start_epoch,
                segments=self.segments,
            ),
        )


@dataclass(frozen=True)
class LearnedLabels:
    """How label logits are learned."""

    rate: float
    momentum: float


class _Learned(NamedTuple):
    """What an update moves: the images or their storage; the labels are None where they stay."""

    images: Any  # (n, h, w, c) float32, or the set's storage
    rate: Any  # () float32
    labels: Any  # (n, classes) float32


def trajectory_method(
    settings: TrajectorySettings,
    network: NetworkLike,
    *,
    labels: LearnedLabels | None = None,
    threshold: float = 0.0,
    weights: Weights | None = None,
) -> Method:
    """Images, step size and, where wanted, label logits are moved by the gradient of

        ‖w ⊙ (θ̂_{t+N} − θ*_{t+M})‖² / ‖w ⊙ (θ*_t − θ*_{t+M})‖²

    where θ̂ starts from the expert's θ*_t and takes N steps of SGD on the synthetic set.

    Args:
      settings: of the method.
      network: the module.
      labels: None leaves the labels as they are.
      threshold: the largest loss that an update is made at; 0: any.
      weights: which parameters are matched, w; None: all.
    """
    optimizer = _optimizer(settings, labels)

    def learned(synthetic: SyntheticSet) -> _Learned:
        rate = synthetic.learning_rate
        rate = jnp.float32(settings.lr_init) if rate is None else jnp.asarray(rate)
        return _Learned(synthetic.storage, rate, None if labels is None else synthetic.labels)

    def init(
        key: jax.Array, synthetic: SyntheticSet, data: None = None
    ) -> tuple[SyntheticSet, MethodState]:
        del data
        if labels is not None and synthetic.labels.ndim == 1:
            synthetic = synthetic.by_class()  # soft labels may move, an image's place stays
            soft = smooth_logits(synthetic.labels, synthetic.num_classes)
            synthetic = synthetic.replace(labels=soft)
        moved = learned(synthetic)
        state = MethodState(jax.random.key_data(key), jnp.int32(0), optimizer.init(moved))
        return _with(synthetic, moved), state

    def update(
        synthetic: SyntheticSet,
        state: MethodState,
        data: None = None,
        segment: Segment | None = None,
    ) -> tuple[SyntheticSet, MethodState, Metrics]:
        del data
        if segment is None or synthetic.learning_rate is None:
            raise ValueError(
                "a trajectory method's update takes a set from its init, and a segment: start and "
                f"target parameters, each leaf with a leading axis of {settings.segments}"
            )
        strategy = strategy_for(synthetic.info.dataset) if settings.dsa else "none"
        images, to_storage = decoded(synthetic)
        moved = learned(synthetic)
        batch = _divided(settings, network, segment, images)

        def segment_loss(
            moved: _Learned, labels: jax.Array, start: Any, target: Any, key: jax.Array
        ) -> jax.Array:
            student = _student(settings, network, strategy, batch, moved, labels, start, key)
            matched = None if weights is None else weights(student, target)
            return trajectory_matching(student, start, target, matched)

        def segment_gradient(shared: Any, *piece: Any) -> tuple[jax.Array, _Learned]:
            loss, gradient = jax.value_and_grad(segment_loss)(*shared, *piece)
            return loss, batch_part(batch).add(gradient)

        losses, gradients = over_models(
            segment_gradient,
            (moved._replace(images=images), synthetic.labels),
            *(segment.start, segment.target),
            jax.random.split(state.iteration_key(), settings.segments),
            batch=batch,
        )
        gradient: _Learned = jax.tree.map(lambda g: jnp.mean(g, axis=0), gradients)
        # The norm, too, is to be finite: one that overflows makes clipping return zeros.
        metrics = {
            "loss": jnp.mean(losses),
            "gradient_norm": jnp.sqrt(jnp.sum(gradient.images**2)),
        }
        gradient = gradient._replace(images=to_storage(gradient.images))
        changes, moments = optimizer.update(gradient, state.optimizer, moved)
        moved = optax.apply_updates(moved, changes)
        state = MethodState(state.key, state.iteration + 1, moments)
        return _with(synthetic, moved), state, metrics

    return Method(init, update, settings.needs, threshold)


def _optimizer(
    settings: TrajectorySettings, labels: LearnedLabels | None
) -> optax.GradientTransformation:
    rules = {
        "images": optax.chain(
            optax.clip_by_global_norm(settings.clip) if settings.clip else optax.identity(),
            optax.sgd(settings.lr_img, momentum=settings.mom_img or None),
        ),
        "rate": optax.sgd(settings.lr_lr, momentum=settings.mom_img or None),
    }
    if labels is not None:
        rules["labels"] = optax.sgd(labels.rate, momentum=labels.momentum or None)
    names = _Learned("images", "rate", None if labels is None else "labels")
    return optax.multi_transform(rules, names)


def _divided(
    settings: TrajectorySettings, network: NetworkLike, segment: Segment, images: jax.Array
) -> Batch | None:
    """The batch of a student's step, where it may be divided among devices."""
    params = jax.tree.map(lambda leaf: leaf[0], segment.start)
    if examples_meet(network, params, images[:1]):
        return None
    count = images.shape[0]
    return min(settings.batch_syn or count, count), math.prod(images.shape[1:3])


def _student(
    settings: TrajectorySettings,
    network: NetworkLike,
    strategy: str,
    batch: Batch | None,
    moved: _Learned,
    labels: jax.Array,
    start: Any,
    key: jax.Array,
) -> Any:
    """Parameters after the student's steps on the set, from `start`, each on a `batch`."""
    steps = settings.syn_steps
    order, transforms = jax.random.split(key)
    chosen: Any = unrolling.batch_plan(order, moved.images.shape[0], settings.batch_syn, steps)
    part = batch_part(batch)

    def step_loss(params: Any, learned: _Learned, entry: Entry) -> jax.Array:
        """Of the whole batch; of a device's part of it the summand that it contributes."""
        chosen, labels = part.take((entry.chosen, entry.labels))
        batch = learned.images if chosen is None else learned.images[chosen]
        if strategy != "none":
            batch = augment(entry.key, batch, strategy, part=part)
        of_batch = labels
        if learned.labels is not None:
            of_batch = learned.labels if chosen is None else learned.labels[chosen]
        return batch_loss(network, part.spread(params), {}, batch, of_batch)[0] / part.count

    keys = jax.random.split(transforms, steps)
    images = moved.images
    draws = draw_ahead(keys, strategy, (chosen.shape[1], *images.shape[1:]), images.dtype)
    seen = chosen
    if isinstance(draws, Draw) and chosen.shape[1] == images.shape[0] and part.count == 1:
        # All images are in every step: instead of gathering them in the batch's order, let each
        # have in the set's order what it would have drawn in the batch's.
        draws = jax.vmap(Draw.reordered)(draws, jnp.argsort(chosen, axis=1))
        seen, chosen = jnp.broadcast_to(jnp.arange(images.shape[0]), chosen.shape), None
    plan = Entry(chosen, None if moved.labels is not None else labels[seen], draws)
    learned = moved._replace(rate=jnp.zeros(()))  # the student's rate is no part of its data
    if settings.memory == "tesla":
        return unrolling.tesla(step_loss, start, learned, moved.rate, plan)
    checkpoints = unrolling.checkpoints_for(steps, settings.memory)
    budget = unrolling.memory_budget_for(settings.memory) // at_once()
    return unrolling.sgd(step_loss, start, learned, moved.rate, plan, checkpoints, budget)


def smooth_logits(labels: jax.Array, classes: int, certainty: float = 0.9) -> jax.Array:
    """Label logits `(n, classes)` whose softmax gives `certainty` to each label `(n,)` int32."""
    height = jnp.log(certainty * (classes - 1) / (1.0 - certainty))
    return height * jax.nn.one_hot(labels, classes, dtype=jnp.float32)


def _with(synthetic: SyntheticSet, moved: _Learned) -> SyntheticSet:
    labels = synthetic.labels if moved.labels is None else moved.labels
    return synthetic.replace(
        storage=moved.images, labels=labels, learning_rate=jnp.asarray(moved.rate)
    )
