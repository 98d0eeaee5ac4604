"""How good a set is: train fresh networks on it, test them on real images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jdd import training
from jdd.data import Dataset, Split
from jdd.errors import UserError
from jdd.recipe import Recipe
from jdd.settings import flag
from jdd.sharding import models_at_once, over_models, stack
from jdd.training import FitState, Schedule, Trainer, TrainingData

Progress = Callable[[int, int], None]
"""called with epochs done and epochs in all"""


@dataclass(frozen=True)
class EvaluationSettings:
    """How sets are judged; the defaults are the published ones."""

    eval_networks: int = flag(5, "fresh networks behind every reported accuracy")
    eval_epochs: int = flag(1000, "epochs of each of them on the set")
    eval_batch: int = flag(256, "images a step of each of them, at most")
    eval_dsa: bool = flag(True, "DSA while they train")
    eval_each: bool = flag(
        False, "instead, a crop, scaling or rotation of each image, as DC is judged on MNIST"
    )
    eval_ema: float = flag(0.0, "decay of the averaged weights that are tested; 0: none")
    eval_every: int = flag(100, "updates between looks at the validation split")
    validation_networks: int = flag(1, "fresh networks a look")
    validation_epochs: int = flag(0, "epochs of each of them; 0: as many as --eval-epochs")
    eval_random: bool = flag(True, "also test as many random real images, to compare with")
    held_out: float = flag(0.1, "share of the real training images kept for validation")
    whole_epochs: int = flag(50, "epochs of the network trained on all real images; 0: none")

    def check(self) -> None:
        """Raises `UserError` for values out of range."""
        counts = ("eval_networks", "eval_epochs", "eval_batch", "eval_every")
        for name in (*counts, "validation_networks"):
            if getattr(self, name) < 1:
                name_of_flag = name.replace("_", "-")
                raise UserError(f"--{name_of_flag} {getattr(self, name)}: at least 1 is needed")
        if not 0 < self.held_out < 1:
            raise UserError(f"--held-out {self.held_out}: a share between 0 and 1")
        if not 0 <= self.eval_ema < 1:
            raise UserError(f"--eval-ema {self.eval_ema}: from 0 to below 1")
        for name in ("whole_epochs", "validation_epochs"):
            if getattr(self, name) < 0:
                raise UserError(
                    f"--{name.replace('_', '-')} {getattr(self, name)}: it may not be negative"
                )

    def recipe(self, network: str, options: Mapping[str, Any], strategy: str) -> Recipe:
        """The recipe that is written on the set; `strategy` is the data set's DSA."""
        return Recipe(
            network=network,
            options=dict(options),
            epochs=self.eval_epochs,
            batch_size=self.eval_batch,
            augmentation=training.EACH if self.eval_each else strategy if self.eval_dsa else "none",
            ema=self.eval_ema,
        )


@dataclass(frozen=True)
class Accuracy:
    """Test accuracies of several fresh networks, fractions of 1.

    Data of two classes, where one may be much larger than the other as in MHIST, have two figures
    more: balanced accuracy, the mean of the two classes' own accuracies, and the area under the ROC
    curve for the second class, ranked by the difference of its logit and the first's.
    """

    values: tuple[float, ...]
    balanced: tuple[float, ...] = ()
    """balanced accuracies; none but for two classes"""
    auc: tuple[float, ...] = ()
    """areas under the ROC curve; none but for two classes"""

    @property
    def mean(self) -> float:
        """Their mean."""
        return float(np.mean(self.values))

    @property
    def std(self) -> float:
        """Their standard deviation, as the papers give it (divided by n, 0 for one network)."""
        return float(np.std(self.values))

    @property
    def criterion(self) -> float:
        """What sets are chosen by: balanced accuracy where there is one, else accuracy; the mean.

        Plain accuracy would take a set that only ever teaches the larger class for a good one.
        """
        return float(np.mean(self.balanced or self.values))

    def __str__(self) -> str:
        return shown(self.to_json(), several=len(self.values) > 1)

    def to_json(self) -> dict[str, Any]:
        """Fields of a `result.json`."""
        found = {
            "accuracy_mean": self.mean,
            "accuracy_std": self.std,
            "accuracies": list(self.values),
        }
        for name, values in (("balanced_accuracy", self.balanced), ("auc", self.auc)):
            if values:
                found[f"{name}_mean"] = float(np.mean(values))
                found[f"{name}_std"] = float(np.std(values))
        return found


def shown(figures: Mapping[str, Any], several: bool = True) -> str:
    """The fields that `Accuracy.to_json` gives, for a reader: "98.3 ± 0.2 %".

    Data of two classes: "68.1 ± 0.9 %, balanced accuracy 64.0 ± 1.1 %, AUC 0.712 ± 0.010".

    Args:
      figures: the fields.
      several: whether they are of several networks, and the deviation worth a mention.
    """

    def figure(name: str, scale: int, digits: int) -> str:
        deviation = f" ± {scale * figures[f'{name}_std']:.{digits}f}" if several else ""
        return f"{scale * figures[f'{name}_mean']:.{digits}f}{deviation}"

    parts = [figure("accuracy", 100, 1) + " %"]
    if "auc_mean" in figures:
        parts += [f"balanced accuracy {figure('balanced_accuracy', 100, 1)} %"]
        parts += [f"AUC {figure('auc', 1, 3)}"]
    return ", ".join(parts)


def accuracy(logits: Sequence[jax.Array], labels: jax.Array) -> Accuracy:
    """The figures of several networks.

    Args:
      logits: of each network, `(n, classes)`.
      labels: int32 `(n,)`.
    """
    values = tuple(float(jnp.mean(jnp.argmax(one, axis=-1) == labels)) for one in logits)
    truth = np.asarray(labels)
    if logits[0].shape[-1] != 2 or len(np.unique(truth)) != 2:
        return Accuracy(values)
    two = [_of_two_classes(np.asarray(one), truth) for one in logits]
    return Accuracy(values, *(tuple(column) for column in zip(*two, strict=True)))


def _of_two_classes(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    balanced = balanced_accuracy_score(labels, logits.argmax(-1))
    rank = logits[:, 1].astype(np.float64) - logits[:, 0]
    # A network that diverged ranks nothing.
    auc = roc_auc_score(labels, rank) if np.isfinite(rank).all() else 0.5
    return float(balanced), float(auc)


def evaluate(
    network: nn.Module,
    recipe: Recipe,
    train: TrainingData,
    test: TrainingData,
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
      learning_rate: the set's own learned step size, in place of the recipe's.
      progress: told the epochs trained so far, over all networks.

    Returns:
      The figures of each network.
    """
    trainer = Trainer.of(network, recipe, train.images.shape[0])
    rates = training.schedule(recipe, learning_rate)
    shape = train.images.shape[1:]
    at_once = models_at_once(networks)
    pieces = np.diff(np.linspace(0, recipe.epochs, min(recipe.epochs, 10) + 1).astype(int))
    logits: list[jax.Array] = []
    for first in range(0, networks, at_once):
        members = range(first, min(first + at_once, networks))
        states = stack([training.init(trainer, jax.random.fold_in(key, i), shape) for i in members])
        done = 0
        for piece in pieces:
            states = jax.block_until_ready(_run_many(trainer, states, train, rates, int(piece)))
            done += int(piece)
            if progress is not None:
                progress(first * recipe.epochs + done * len(members), networks * recipe.epochs)
        for i in range(len(members)):
            state = jax.tree.map(lambda leaf, i=i: leaf[i], states)
            variables = training.tested_variables(trainer, state)
            logits.append(training.predict(network, variables, test))
    return accuracy(logits, test.labels)


def real(split: Split, dataset: Dataset) -> TrainingData:
    """Real images on the device, still uint8, as something to train on or to test with."""
    return TrainingData(jnp.asarray(split.images), jnp.asarray(split.labels), dataset.preprocess)


@partial(jax.jit, static_argnums=(0,))
def _run_many(
    trainer: Trainer, states: FitState, data: TrainingData, rates: Schedule, epochs: jax.Array
) -> FitState:
    return over_models(
        lambda shared, state: training.run(trainer, state, *shared), (data, rates, epochs), states
    )
