"""Fit a classifier: one compiled loop that experts, evaluation and tasks share."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jdd.augment import cutmix
from jdd.data import DeviceData
from jdd.networks import NetworkLike
from jdd.ops import WHOLE
from jdd.sharding import Batch, batch_part
from jdd.training.gsam import Gsam, surrogate_gap
from jdd.training.losses import Labels, augmented, batch_loss, divides
from jdd.training.recipe import Recipe

_PARTS = range(8, 13)


class FitState(NamedTuple):
    """Everything that training resumes from."""

    params: Any
    batch_stats: Any  # empty where the network has no batch norm
    optimizer: Any
    average: Any  # exponential moving averages of the two first; empty where there are none
    key: jax.Array  # (2,) uint32 key data
    epoch: jax.Array  # () int32
    loss: jax.Array  # () float32, mean of the last epoch

    @classmethod
    def start(cls, trainer: "Trainer", variables: Any, key: jax.Array) -> "FitState":
        """A network of these variables whose training is about to start; `key` draws its order."""
        params, stats = variables["params"], variables.get("batch_stats", {})
        return cls(
            params=params,
            batch_stats=stats,
            optimizer=trainer.descent().init(params),
            average=(params, stats) if trainer.ema else {},
            key=jax.random.key_data(key),
            epoch=jnp.int32(0),
            loss=jnp.float32(0),
        )


class Schedule(NamedTuple):
    """The step size over training; arrays, so that one compiled program serves them all."""

    learning_rate: jax.Array  # () float32
    decay_epoch: jax.Array  # () float32, from here on a tenth of it
    cosine_epochs: jax.Array | None = None  # () float32, over which it falls to 0

    def at(self, epoch: jax.Array) -> jax.Array:
        """The step size in an epoch, counted from 0."""
        rate = self.learning_rate * jnp.where(epoch >= self.decay_epoch, 0.1, 1.0)
        if self.cosine_epochs is None:
            return rate
        return rate * (1 + jnp.cos(jnp.pi * jnp.minimum(epoch / self.cosine_epochs, 1))) / 2


class Trainer(NamedTuple):
    """The static part of a training: a hashable argument of its compiled functions.

    SGD as PyTorch has it: weight decay is added to the gradient before the momentum. AdamW
    (Loshchilov and Hutter, 2019) has the constants of Adam's paper, and no momentum besides.
    """

    network: NetworkLike
    batch: int
    steps: int  # per epoch
    momentum: float = 0.0
    weight_decay: float = 0.0
    augmentation: str = "none"
    ema: float = 0.0
    gsam: Gsam | None = None
    rest: int = 0
    """examples of one more, smaller batch at the end of an epoch"""
    optimizer: str = "sgd"
    cutmix: float = 0.0
    cutmix_beta: float = 1.0

    @classmethod
    def of(cls, network: NetworkLike, recipe: Recipe, size: int, steps: int = 0) -> "Trainer":
        """The trainer for a set of `size` examples.

        An epoch has `steps` steps, or as many as a pass over the set takes, on batches drawn
        without replacement. They are equal in size: 500 examples in batches of at most 256 make two
        of 250. Where they do not divide, or could not be taken in parts of about ten (127 is prime:
        126), the few left over are left out of that epoch. Without the recipe's `equal_batches`
        they are of 256 and 244.
        """
        per_epoch = -(-size // recipe.batch_size)
        batch, rest = size // per_epoch, 0
        if not recipe.equal_batches and size > recipe.batch_size:
            batch, rest = recipe.batch_size, size % recipe.batch_size
            per_epoch = size // batch
            if steps and steps <= per_epoch:
                rest = 0
        elif per_epoch > 1:
            batch = next(
                b for b in range(batch, 0, -1) if b <= 20 or any(b % p == 0 for p in _PARTS)
            )
        return cls(
            network=network,
            batch=batch,
            steps=min(steps, per_epoch) if steps else per_epoch,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            augmentation=recipe.augmentation,
            ema=recipe.ema,
            rest=rest,
            optimizer=recipe.optimizer,
            cutmix=recipe.cutmix,
            cutmix_beta=recipe.cutmix_beta,
        )

    def divides(self, state: FitState) -> bool:
        """Whether a step can be divided among devices: its examples do not meet."""
        return not (state.batch_stats or self.cutmix) and divides(self.augmentation)

    def batch_of(self, state: FitState, data: DeviceData) -> Batch | None:
        """The batch of a step, as `jdd.sharding.over_models` takes it."""
        return (self.batch, math.prod(data.image_shape[:2])) if self.divides(state) else None

    def descent(self) -> optax.GradientTransformation:
        """Gradient → descent direction, before the step size."""
        parts = []
        if self.optimizer == "adamw":
            parts.append(optax.scale_by_adam())
        if self.weight_decay:
            parts.append(optax.add_decayed_weights(self.weight_decay))
        if self.momentum and self.optimizer == "sgd":
            parts.append(optax.trace(decay=self.momentum))
        return optax.chain(*parts) if parts else optax.identity()


def schedule(recipe: Recipe, learning_rate: jax.Array | float | None = None) -> Schedule:
    """The recipe's step sizes; `learning_rate` is the one that a set carries, where it does."""
    rate = jnp.asarray(recipe.step_size(learning_rate), jnp.float32)
    if recipe.rate_schedule == "cosine":
        return Schedule(rate, jnp.float32(np.inf), jnp.float32(recipe.epochs))
    decays = recipe.decay_after < 1
    return Schedule(
        rate, jnp.asarray(recipe.epochs * recipe.decay_after if decays else np.inf, jnp.float32)
    )


def init(trainer: Trainer, key: jax.Array, image_shape: tuple[int, int, int]) -> FitState:
    """A fresh network, its training about to start."""
    variables, order = _fresh(trainer.network, key, image_shape)
    # Neither batch nor augmentation matters here, and would only compile the same program again.
    alike = trainer._replace(batch=1, steps=1, rest=0, augmentation="none")
    state: FitState = _start(alike, variables, order)
    return state


@partial(jax.jit, static_argnums=(0, 2))
def _fresh(
    network: NetworkLike, key: jax.Array, image_shape: tuple[int, int, int]
) -> tuple[Any, jax.Array]:
    """Variables, which take a second to compile, and the key of the training's order."""
    weights, order = jax.random.split(key)
    return network.init(weights, jnp.zeros((1, *image_shape), jnp.float32)), order


@partial(jax.jit, static_argnums=0)
def _start(trainer: Trainer, variables: Any, order: jax.Array) -> FitState:
    return FitState.start(trainer, variables, order)


def run(
    trainer: Trainer,
    state: FitState,
    data: DeviceData,
    rates: Schedule,
    epochs: int | jax.Array,
    eligible: jax.Array | None = None,
) -> FitState:
    """Trains for `epochs` more epochs; one compiled program for any number of them.

    Not jitted itself, so that it can be mapped over models; see `run_jit`.

    Args:
      trainer: what and how; static.
      state: to resume from.
      data: the set.
      rates: step sizes.
      epochs: how many more.
      eligible: bool `(n,)`, the examples that these epochs are made of; an epoch then has as many
        steps as they fill batches, and no smaller last one. Where they do not fill one, it has one
        step, in which some of them come twice. None: all of them.
    """
    size = data.images.shape[0]
    steps, batch = trainer.steps, trainer.batch

    def step(carry: FitState, at: tuple[jax.Array, jax.Array]) -> tuple[FitState, jax.Array]:
        return _step(trainer, data, rates, carry, *at)

    def epoch(_: jax.Array, carry: FitState) -> FitState:
        key = jax.random.fold_in(jax.random.wrap_key_data(carry.key), carry.epoch)
        shuffle, transforms = jax.random.split(key)
        keys = jax.random.split(transforms, steps)
        if eligible is None:
            order, full = jax.random.permutation(shuffle, size), steps * batch
            carry, losses = jax.lax.scan(step, carry, (order[:full].reshape(steps, batch), keys))
            mean = jnp.mean(losses)
            if trainer.rest:
                last = order[full : full + trainer.rest], jax.random.fold_in(transforms, steps)
                carry, value = step(carry, last)
                mean = (full * mean + trainer.rest * value) / (full + trainer.rest)
            return carry._replace(epoch=carry.epoch + 1, loss=mean)

        # Those that are not eligible go last, and the steps that would reach them are not taken.
        draws = jnp.where(eligible, jax.random.uniform(shuffle, (size,)), 2.0)
        count = jnp.sum(eligible)
        places = jnp.arange(steps * batch) % jnp.maximum(count, 1)
        batches = jnp.argsort(draws)[places].reshape(steps, batch)
        taken = jnp.clip(count // batch, 1, steps)

        def some(i: jax.Array, so_far: tuple[FitState, jax.Array]) -> tuple[FitState, jax.Array]:
            carry, total = so_far
            carry, value = step(carry, (batches[i], keys[i]))
            return carry, total + value

        carry, total = jax.lax.fori_loop(0, taken, some, (carry, jnp.float32(0)))
        return carry._replace(epoch=carry.epoch + 1, loss=total / taken)

    trained: FitState = jax.lax.fori_loop(0, epochs, epoch, state)
    return trained


run_jit = jax.jit(run, static_argnums=(0,))


def _step(
    trainer: Trainer,
    data: DeviceData,
    rates: Schedule,
    state: FitState,
    index: jax.Array,
    key: jax.Array,
) -> tuple[FitState, jax.Array]:
    """One step on the examples at `index`, and the loss before it.

    Where the devices have room for it, each takes a part of them; see `jdd.sharding.batch_part`.
    """
    part = WHOLE
    if trainer.divides(state):
        part = batch_part((index.shape[0], math.prod(data.image_shape[:2])))
    images, labels = data.batch(part.take(index))
    if trainer.cutmix:
        key, mix_key = jax.random.split(key)
    if trainer.augmentation != "none":
        images = augmented(key, images, trainer.augmentation, part)
    mixed: Labels = labels
    if trainer.cutmix:
        images, mixed = cutmix(mix_key, images, labels, trainer.cutmix, trainer.cutmix_beta)

    def loss(params: Any) -> tuple[jax.Array, Any]:
        return batch_loss(trainer.network, params, state.batch_stats, images, mixed)

    (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
    value, gradient = part.mean((value, gradient))
    if trainer.gsam is not None:
        gradient = surrogate_gap(
            trainer.gsam,
            lambda p: part.mean(jax.grad(loss, has_aux=True)(p)[0]),
            state.params,
            gradient,
        )
    direction, moments = trainer.descent().update(gradient, state.optimizer, state.params)
    rate = rates.at(state.epoch.astype(jnp.float32))
    params = jax.tree.map(lambda p, d: p - rate * d, state.params, direction)
    average = state.average
    if trainer.ema:
        average = optax.incremental_update((params, stats), average, 1.0 - trainer.ema)
    moved = state._replace(params=params, batch_stats=stats, optimizer=moments, average=average)
    return moved, value


def eval_variables(trainer: Trainer, state: FitState) -> dict[str, Any]:
    """The variables to test: the averaged ones where the recipe keeps them."""
    params, stats = state.average if trainer.ema else (state.params, state.batch_stats)
    return {"params": params, **({"batch_stats": stats} if stats else {})}
