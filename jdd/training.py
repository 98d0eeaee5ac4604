"""Fit a classifier: one compiled loop that experts, evaluation and tasks share."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jdd.augment import augment, augment_each
from jdd.losses import cross_entropy, soft_cross_entropy
from jdd.ops import map_in_parts, mean_in_parts
from jdd.preprocessing import Preprocess
from jdd.recipe import Recipe
from jdd.sharding import spread

TEST_BATCH = 500
_PARTS = range(8, 13)
_EACH = "each_"
_TINY = 1e-12  # as the released code of GSAM adds to lengths
EACH = _EACH + "crop_scale_rotate"  # the augmentation that DC is judged with on MNIST


class TrainingData(NamedTuple):
    """A labelled set on the device; real images stay uint8 and are preprocessed batch by batch."""

    images: jax.Array  # (n, h, w, c) uint8, or float32 when `preprocess` is None
    labels: jax.Array  # (n,) int32, or (n, classes) float32 label logits
    preprocess: Preprocess | None = None

    def batch(self, index: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Images `(b, h, w, c)` float32 and labels of the examples in `index` `(b,)`."""
        images = self.images[index]
        if self.preprocess is not None:
            images = self.preprocess(images)
        return images, self.labels[index]


class FitState(NamedTuple):
    """Everything that training goes on from."""

    params: Any
    batch_stats: Any  # empty where the network has no batch norm
    optimizer: Any
    average: Any  # exponential moving average of params; empty where there is none
    key: jax.Array  # (2,) uint32 key data
    epoch: jax.Array  # () int32
    loss: jax.Array  # () float32, mean of the last epoch


class Schedule(NamedTuple):
    """The step size over training; arrays, so that one compiled program serves them all."""

    learning_rate: jax.Array  # () float32
    decay_epoch: jax.Array  # () float32, from here on a tenth of it


class Gsam(NamedTuple):
    """Sharpness-aware gradients with the surrogate gap: Zhuang et al., "Surrogate Gap Minimization
    Improves Sharpness-Aware Training", ICLR 2022, algorithm 1.

    With g the gradient at θ and gₚ the one at the perturbed weights θ + ε, the step is taken along
    gₚ − α g⊥, where g⊥ is the part of g that stands at a right angle to gₚ.
    """

    rho: float
    """radius of the perturbation: ε = ρ g / ‖g‖"""
    alpha: float
    """weight of the surrogate gap"""
    adaptive: bool = True
    """whether the radius scales with the weights: ε = ρ θ² g / ‖|θ| g‖, as the released code has it
    (Kwon et al., "ASAM", ICML 2021)"""


class Trainer(NamedTuple):
    """The static part of a training: a hashable argument of its compiled functions.

    SGD as PyTorch has it: weight decay is added to the gradient before the momentum. With `adam`
    the step is Adam's (Kingma and Ba, 2015, with its own constants) instead.
    """

    network: nn.Module
    batch: int
    steps: int  # per epoch
    momentum: float = 0.0
    weight_decay: float = 0.0
    augmentation: str = "none"
    ema: float = 0.0
    gsam: Gsam | None = None
    adam: bool = False

    @classmethod
    def of(cls, network: nn.Module, recipe: Recipe, size: int, steps: int = 0) -> "Trainer":
        """The trainer for a set of `size` examples.

        An epoch has `steps` steps, or as many as a pass over the set takes. The batches of an epoch
        are equal in size and drawn without replacement: 500 examples in batches of at most 256
        make two of 250. Where they do not divide, or could not be taken in parts of about ten (127
        is prime: 126), the few left over sit that epoch out.
        """
        per_epoch = -(-size // recipe.batch_size)
        batch = size // per_epoch
        if per_epoch > 1:
            batch = next(
                b for b in range(batch, 0, -1) if b <= 12 or any(b % p == 0 for p in _PARTS)
            )
        return cls(
            network=network,
            batch=batch,
            steps=min(steps, per_epoch) if steps else per_epoch,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            augmentation=recipe.augmentation,
            ema=recipe.ema,
        )

    def optimizer(self) -> optax.GradientTransformation:
        """Gradient → descent direction, before the step size."""
        parts = []
        if self.weight_decay:
            parts.append(optax.add_decayed_weights(self.weight_decay))
        if self.momentum:
            parts.append(optax.trace(decay=self.momentum))
        if self.adam:
            parts.append(optax.scale_by_adam())
        return optax.chain(*parts) if parts else optax.identity()


def schedule(recipe: Recipe, learning_rate: jax.Array | float | None = None) -> Schedule:
    """The recipe's step sizes, from `learning_rate` where a set carries its own."""
    rate = recipe.learning_rate if learning_rate is None else learning_rate
    return Schedule(
        jnp.asarray(rate, jnp.float32),
        jnp.asarray(
            recipe.epochs * recipe.decay_after if recipe.decay_after < 1 else np.inf, jnp.float32
        ),
    )


def classification_loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean cross-entropy against int `(n,)` classes or float `(n, classes)` label logits."""
    if jnp.issubdtype(labels.dtype, jnp.integer):
        return cross_entropy(logits, labels)
    return soft_cross_entropy(logits, labels)


def apply_training(
    network: nn.Module, params: Any, batch_stats: Any, images: jax.Array
) -> tuple[jax.Array, Any]:
    """Logits in training mode, and the batch statistics that this updates (empty without any)."""
    variables = {"params": params, **({"batch_stats": batch_stats} if batch_stats else {})}
    logits, updated = network.apply(variables, images, train=True, mutable=["batch_stats"])
    return logits, updated.get("batch_stats", {})


def augmented(key: jax.Array, images: jax.Array, name: str) -> jax.Array:
    """Images `(n, h, w, c)` augmented as a recipe says: each with parameters of its own.

    Args:
      key: a key for this call alone.
      images: float.
      name: a strategy of `jdd.augment.augment`; or one of `augment_each` after "each_"; or "none".

    Raises:
      UserError: a kind that is not known; it names the nearest.
    """
    if name.startswith(_EACH):
        return augment_each(key, images, name.removeprefix(_EACH))
    return augment(key, images, name)


def batch_loss(
    network: nn.Module, params: Any, batch_stats: Any, images: jax.Array, labels: jax.Array
) -> tuple[jax.Array, Any]:
    """Mean cross-entropy of a batch in training mode, and the batch statistics that it updates.

    Without batch norm the examples do not meet, and a CPU takes them in parts that fit its cache.
    """

    def whole(params: Any, batch: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, Any]:
        logits, stats = apply_training(network, params, batch_stats, batch[0])
        return classification_loss(logits, batch[1]), stats

    batch = (images, labels)
    if jax.eval_shape(whole, params, batch)[1]:
        return whole(params, batch)
    return mean_in_parts(lambda p, part: whole(p, part)[0], params, batch), {}


@partial(jax.jit, static_argnums=(0, 2))
def init(trainer: Trainer, key: jax.Array, image_shape: tuple[int, int, int]) -> FitState:
    """A fresh network, its training about to start."""
    weights, order = jax.random.split(key)
    variables = trainer.network.init(weights, jnp.zeros((1, *image_shape), jnp.float32))
    params = variables["params"]
    return FitState(
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        optimizer=trainer.optimizer().init(params),
        average=params if trainer.ema else {},
        key=jax.random.key_data(order),
        epoch=jnp.int32(0),
        loss=jnp.float32(0),
    )


def run(
    trainer: Trainer,
    state: FitState,
    data: TrainingData,
    rates: Schedule,
    epochs: int | jax.Array,
    eligible: jax.Array | None = None,
) -> FitState:
    """Trains for `epochs` more epochs; one compiled program for any number of them.

    Not jitted itself, so that it can be mapped over models; see `run_jit`.

    Args:
      trainer: what and how; static.
      state: where to go on from.
      data: the set.
      rates: step sizes.
      epochs: how many more.
      eligible: bool `(n,)`, the examples that these epochs are made of; an epoch then has as many
        steps as they fill batches, at least one. None: all of them.
    """
    optimizer = trainer.optimizer()
    size = data.images.shape[0]

    def step(carry: FitState, at: tuple[jax.Array, jax.Array]) -> tuple[FitState, jax.Array]:
        index, key = at
        images, labels = data.batch(index)
        if trainer.augmentation != "none":
            images = augmented(key, images, trainer.augmentation)

        def loss(params: Any) -> tuple[jax.Array, Any]:
            return batch_loss(trainer.network, params, carry.batch_stats, images, labels)

        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(carry.params)
        if trainer.gsam is not None:
            gradient = _surrogate_gap(
                trainer.gsam, lambda p: jax.grad(loss, has_aux=True)(p)[0], carry.params, gradient
            )
        direction, moments = optimizer.update(gradient, carry.optimizer, carry.params)
        late = carry.epoch.astype(jnp.float32) >= rates.decay_epoch
        rate = rates.learning_rate * jnp.where(late, 0.1, 1.0)
        params = jax.tree.map(lambda p, d: p - rate * d, carry.params, direction)
        average = carry.average
        if trainer.ema:
            average = optax.incremental_update(params, average, 1.0 - trainer.ema)
        return carry._replace(
            params=params, batch_stats=stats, optimizer=moments, average=average
        ), value

    def epoch(_: jax.Array, carry: FitState) -> FitState:
        key = jax.random.fold_in(jax.random.wrap_key_data(carry.key), carry.epoch)
        shuffle, transforms = jax.random.split(key)
        keys = jax.random.split(transforms, trainer.steps)
        if eligible is None:
            order = jax.random.permutation(shuffle, size)[: trainer.steps * trainer.batch]
            batches = order.reshape(trainer.steps, trainer.batch)
            carry, losses = jax.lax.scan(step, carry, (batches, keys))
            return carry._replace(epoch=carry.epoch + 1, loss=jnp.mean(losses))

        # Those that are not eligible go last, and the steps that would reach them are not taken.
        draws = jnp.where(eligible, jax.random.uniform(shuffle, (size,)), 2.0)
        order = jnp.argsort(draws)[: trainer.steps * trainer.batch]
        batches = order.reshape(trainer.steps, trainer.batch)
        taken = jnp.clip(jnp.sum(eligible) // trainer.batch, 1, trainer.steps)

        def some(i: jax.Array, so_far: tuple[FitState, jax.Array]) -> tuple[FitState, jax.Array]:
            carry, total = so_far
            carry, value = step(carry, (batches[i], keys[i]))
            return carry, total + value

        carry, total = jax.lax.fori_loop(0, taken, some, (carry, jnp.float32(0)))
        return carry._replace(epoch=carry.epoch + 1, loss=total / taken)

    return jax.lax.fori_loop(0, epochs, epoch, state)


def _surrogate_gap(
    gsam: Gsam, gradient_at: Callable[[Any], Any], params: Any, gradient: Any
) -> Any:
    if gsam.adaptive:
        reach = jax.tree.map(lambda p, g: p * p * g, params, gradient)
        length = optax.tree.norm(jax.tree.map(lambda p, g: p * g, params, gradient))
    else:
        reach, length = gradient, optax.tree.norm(gradient)
    scale = gsam.rho / (length + _TINY)
    perturbed = gradient_at(jax.tree.map(lambda p, r: p + scale * r, params, reach))
    # The part of the gradient along the perturbed one is ⟨g, gₚ⟩ / ‖gₚ‖² of it.
    share = optax.tree.vdot(gradient, perturbed) / (optax.tree.norm(perturbed) ** 2 + _TINY)
    return jax.tree.map(lambda g, p: p - gsam.alpha * (g - share * p), gradient, perturbed)


run_jit = jax.jit(run, static_argnums=(0,))


def tested_variables(trainer: Trainer, state: FitState) -> dict[str, Any]:
    """The variables to test: the averaged weights where the recipe keeps them."""
    params = state.average if trainer.ema else state.params
    return {"params": params, **({"batch_stats": state.batch_stats} if state.batch_stats else {})}


@partial(jax.jit, static_argnums=(0,))
def predict(network: nn.Module, variables: Any, data: TrainingData) -> jax.Array:
    """Logits `(n, classes)` of every example, in evaluation mode, batch after batch."""
    size = data.images.shape[0]
    batches = -(-size // TEST_BATCH)
    batch = -(-size // batches)  # equal ones, so that the last is not mostly repeats
    index = jnp.arange(batches * batch).clip(max=size - 1).reshape(batches, batch)

    def of_batches(shared: tuple[Any, TrainingData], index: jax.Array) -> jax.Array:
        variables, data = shared
        return jax.lax.map(
            lambda i: map_in_parts(network.apply, variables, data.batch(i)[0]), index
        )

    logits = spread(of_batches, (variables, data), index)
    return logits.reshape(batches * batch, -1)[:size]


def accuracy(network: nn.Module, variables: Any, data: TrainingData) -> float:
    """Share of the examples (int32 labels) that are classified rightly, in [0, 1]."""
    right = jnp.argmax(predict(network, variables, data), axis=-1) == data.labels
    return float(jnp.mean(right))
