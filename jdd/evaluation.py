"""How good a set is: train fresh networks on it, test them on real images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np

from jdd import randomness, training
from jdd.data import Dataset, DeviceData, to_device
from jdd.errors import SettingError
from jdd.networks import NetworkLike
from jdd.networks import check_own as check_own_network
from jdd.networks import create as create_network
from jdd.ops.target import platform
from jdd.settings import Settings, helps, setting
from jdd.sharding import models_per_call, over_models, stack
from jdd.synthetic import SyntheticSet
from jdd.training import Accuracy, FitState, Recipe, Schedule, Trainer, metrics

Progress = Callable[[int, int], None]
"""called with epochs done and epochs in all"""


CHOICES = ("validation", "last", "test")


@dataclass(frozen=True)
class EvaluationSettings(Settings):
    """How sets are evaluated; the defaults are the published ones."""

    eval_networks: int = setting(5, "fresh networks behind every reported accuracy", min=1)
    eval_epochs: int = setting(1000, "epochs of each of them on the set", min=1)
    eval_batch: int = setting(256, "images per step of each of them, at most", min=1)
    eval_equal_batches: bool = setting(True, helps(Recipe)["equal_batches"])
    eval_dsa: bool = setting(True, "DSA while they train")
    eval_augment_per_image: bool = setting(
        False,
        "in place of DSA, crop, scale or rotate each image by itself, as DC is evaluated on MNIST",
    )
    eval_stacked: bool = setting(
        False,
        "DSA's kinds on top of each other while they train, but no cutout, as IDC is evaluated: "
        "flip, color, and one of crop, scale and rotate",
    )
    eval_cutmix: float = setting(0.0, helps(Recipe)["cutmix"], min=0, max=1)
    eval_cutmix_beta: float = setting(1.0, helps(Recipe)["cutmix_beta"], above=0)
    eval_optimizer: str = setting("sgd", helps(Recipe)["optimizer"], choices=training.OPTIMIZERS)
    eval_lr: float = setting(
        0.0,
        "step size of a set that has learned none, of AdamW, and with `eval_learned_rate` off; 0: "
        "0.01, with AdamW 0.001",
        min=0,
    )
    eval_weight_decay: float = setting(5e-4, helps(Recipe)["weight_decay"], min=0)
    eval_schedule: str = setting(
        "step",
        "of the step size: step, to a tenth after half of the epochs, or cosine, down to 0",
        choices=training.SCHEDULES,
    )
    eval_learned_rate: bool = setting(
        True, "use the step size that a set has learned, where it has; off: that of `eval_lr`"
    )
    eval_ema: float = setting(
        0.0, "decay of the averaged weights that are tested; 0: none", min=0, below=1
    )
    eval_every: int = setting(100, "updates between evaluations on the validation split", min=1)
    validation_networks: int = setting(1, "fresh networks in each of these", min=1)
    validation_epochs: int = setting(
        0, "epochs of each of them; 0: as many as `eval_epochs`", min=0
    )
    eval_random: bool = setting(True, "also test as many random real images, to compare with")
    eval_plain: bool = setting(
        False, "also test the set without augmentation and with hard labels, to compare with"
    )
    held_out: float = setting(
        0.1, "fraction of the real training images held out for validation", above=0, below=1
    )
    choose: str = setting(
        "validation",
        "which set is the best: that of the highest accuracy on the images held out (validation), "
        "or, for comparison with papers' tables alone, what is published: the last set (last), or "
        "the best on the test images (test); nothing is held out then",
        choices=CHOICES,
    )
    full_data_epochs: int = setting(
        50, "epochs of the network trained on all real images; 0: none", min=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eval_stacked and self.eval_augment_per_image:
            raise SettingError("eval_stacked", True, "not together with `eval_augment_per_image`")

    def recipe(self, network: str, options: Mapping[str, Any], strategy: str) -> Recipe:
        """The recipe that is written on the set; `strategy` is the dataset's DSA."""
        augmentation = strategy if self.eval_dsa else "none"
        if self.eval_stacked and strategy != "none":
            kinds = [kind for kind in strategy.split("_") if kind != "cutout"]
            augmentation = training.STACKED + "_".join(kinds)
        return Recipe(
            network=network,
            options=dict(options),
            epochs=self.eval_epochs,
            batch_size=self.eval_batch,
            equal_batches=self.eval_equal_batches,
            learning_rate=self.eval_lr or (0.001 if self.eval_optimizer == "adamw" else 0.01),
            learned_rate=self.eval_learned_rate,
            weight_decay=self.eval_weight_decay,
            augmentation=training.EACH if self.eval_augment_per_image else augmentation,
            ema=self.eval_ema,
            optimizer=self.eval_optimizer,
            rate_schedule=self.eval_schedule,
            cutmix=self.eval_cutmix,
            cutmix_beta=self.eval_cutmix_beta,
        )

    def full_data_recipe(self, network: str, options: Mapping[str, Any]) -> Recipe:
        """How a network is trained on all real images, to compare with."""
        return Recipe(
            network=network,
            options=dict(options),
            epochs=max(1, self.full_data_epochs),
            batch_size=128,
            equal_batches=self.eval_equal_batches,
        )


def evaluate(
    synthetic: SyntheticSet,
    dataset: Dataset,
    key: jax.Array | None = None,
    *,
    networks: int = 5,
    recipe: Recipe | None = None,
) -> Accuracy:
    """The test accuracy of fresh networks that are trained on a set.

    Args:
      synthetic: the set.
      dataset: its dataset, preprocessed as the set was; the test images are read.
      key: random key; by default the one that the set's run was evaluated with.
      networks: how many fresh ones.
      recipe: how they are trained; by default the set's own. A step size that the set has learned
        counts where the recipe follows it (`Recipe.step_size`).

    Raises:
      UserError: the set is not of this dataset as loaded, or nothing can be trained on it, or the
        network does not fit it.
    """
    synthetic.check()
    synthetic.check_fits(dataset)
    recipe = synthetic.info.recipe if recipe is None else recipe
    if networks < 1:
        raise SettingError("networks", networks, "at least 1 is needed")
    if key is None:
        key = randomness.key(synthetic.info.seed, "test")
    network = create_network(recipe.network, dataset.num_classes, **recipe.options)
    check_own_network(recipe.network, network, dataset.image_shape, dataset.num_classes)
    return train_and_test(
        network,
        recipe,
        synthetic.data(),
        to_device(dataset.test, dataset.preprocess),
        key,
        networks,
        synthetic.learning_rate,
    )


def evaluated_on(choose: str) -> str:
    """What sets and experts are evaluated on while they are made, in words."""
    return "validation" if choose == "validation" else "the TEST images"


def pieces_of(epochs: int) -> list[int]:
    """The epochs of each call that a training is divided into: about ten, to show and to stop it.

    On accelerators they are equal, as another length is another program there.
    """
    count = most = min(epochs, 10)
    if platform() != "cpu":
        count = next((n for n in range(most, most // 3, -1) if epochs % n == 0), most)
    ends = np.linspace(0, epochs, count + 1).astype(int)
    return [int(piece) for piece in np.diff(ends)]


def train_and_test(
    network: NetworkLike,
    recipe: Recipe,
    train: DeviceData,
    test: DeviceData,
    key: jax.Array,
    networks: int = 5,
    learning_rate: jax.Array | float | None = None,
    progress: Progress | None = None,
) -> Accuracy:
    """Trains `networks` fresh networks on `train` by `recipe` and tests each on `test`.

    Args:
      network: the module, for the classes of the sets.
      recipe: how to train.
      train: a synthetic set, or a real one.
      test: real images with int32 labels.
      key: random key; network i is drawn from `fold_in(key, i)`, so more networks keep the first.
      networks: how many.
      learning_rate: the step size that the set has learned, for recipes that follow it
        (`Recipe.step_size`).
      progress: told the epochs trained so far, over all networks.

    Returns:
      The figures of each network.
    """
    trainer = Trainer.of(network, recipe, train.images.shape[0])
    rates = training.schedule(recipe, learning_rate)
    shape = train.image_shape
    models_per_device = models_per_call(networks)
    logits: list[jax.Array] = []
    for first in range(0, networks, models_per_device):
        members = range(first, min(first + models_per_device, networks))
        states = stack([training.init(trainer, jax.random.fold_in(key, i), shape) for i in members])
        done = 0
        for piece in pieces_of(recipe.epochs):
            train_piece = train_many if platform() == "cpu" else train_many_at_length
            states = jax.block_until_ready(train_piece(trainer, states, train, rates, piece))
            done += piece
            if progress is not None:
                progress(first * recipe.epochs + done * len(members), networks * recipe.epochs)
        for i in range(len(members)):
            state = jax.tree.map(lambda leaf, i=i: leaf[i], states)
            variables = training.eval_variables(trainer, state)
            logits.append(training.predict(network, variables, test))
    return metrics.measure(logits, test.labels)


@partial(jax.jit, static_argnums=(0,))
def train_many(
    trainer: Trainer, states: FitState, data: DeviceData, rates: Schedule, epochs: jax.Array
) -> FitState:
    """Trains networks side by side for `epochs` more epochs; their states have a leading axis."""
    trained: FitState = over_models(
        lambda shared, state: training.run(trainer, state, *shared),
        (data, rates, epochs),
        states,
        batch=trainer.batch_of(states, data),
    )
    return trained


@partial(jax.jit, static_argnums=(0, 4))
def train_many_at_length(
    trainer: Trainer, states: FitState, data: DeviceData, rates: Schedule, epochs: int
) -> FitState:
    """`train_many`, compiled for a number of epochs.

    The host of a GPU would look at each turn of a loop whose length is an argument, and an epoch on
    a synthetic set is often a single step.
    """
    trained: FitState = over_models(
        lambda shared, state: training.run(trainer, state, shared[0], shared[1], epochs),
        (data, rates),
        states,
        batch=trainer.batch_of(states, data),
    )
    return trained
