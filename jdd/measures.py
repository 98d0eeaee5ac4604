"""Fair measures of a set: what is due to the images, not to labels, augmentation or luck.

Label-robust score (LRS) and augmentation-robust score (ARS), as DD-Ranking (Li et al. 2025) defines
them, but on fractions of 1, so that both lie in [0, 1].
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdd import randomness, synthetic, training
from jdd.augment import strategy_for
from jdd.data import Dataset, DeviceData, to_device
from jdd.errors import UserError
from jdd.evaluation import Progress, pieces_of, train_and_test
from jdd.networks import NetworkLike
from jdd.synthetic import SyntheticSet
from jdd.training import Accuracy, Recipe, Trainer


@dataclass(frozen=True)
class Measures:
    """Test accuracies, fractions of 1, and what follows of them."""

    own: Accuracy
    """the set by its recipe, with its own labels"""
    hard: Accuracy
    """with hard labels"""
    without_augmentation: Accuracy
    """with its own labels, no augmentation and no CutMix"""
    random: Accuracy
    """random real images in the same storage by its recipe, their labels of the same kind"""
    random_without_augmentation: Accuracy
    full_data: float
    """one network trained on all real images"""

    @property
    def hard_label_recovery(self) -> float:
        """HLR: what the set lacks to all real images, hard labels on both; less is better."""
        return self.full_data - self.hard.mean

    @property
    def improvement_over_random(self) -> float:
        """IOR: what the set has over random images with labels of the same kind."""
        return self.own.mean - self.random.mean

    @property
    def lrs(self) -> float:
        """Label-robust score in [0, 1]."""
        return score(0.5 * self.improvement_over_random - 0.5 * self.hard_label_recovery)

    @property
    def ars(self) -> float:
        """Augmentation-robust score in [0, 1]."""
        plain = self.without_augmentation.mean - self.random_without_augmentation.mean
        return score(0.5 * self.improvement_over_random + 0.5 * plain)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        figures = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {
            **{k: v.to_json() if isinstance(v, Accuracy) else v for k, v in figures.items()},
            **{
                name: getattr(self, name)
                for name in ("hard_label_recovery", "improvement_over_random", "lrs", "ars")
            },
        }


def score(gain: float) -> float:
    """A gain in [−1, 1] as a score in [0, 1]: (e^gain − e⁻¹) / (e − e⁻¹)."""
    least, most = math.exp(-1), math.e
    return (math.exp(gain) - least) / (most - least)


def measure(
    made: SyntheticSet,
    dataset: Dataset,
    network: NetworkLike,
    full_data_recipe: Recipe,
    seed: int = 0,
    networks: int = 5,
    progress: Callable[[str], Progress] | None = None,
) -> Measures:
    """Trains the networks that `Measures` compares.

    Random images compared with soft labels have the logits of the network trained on all real
    images; the step size that a set has learned is not theirs. Where the recipe has no
    augmentation, the dataset's DSA is taken for what has some.

    Args:
      made: the set; its own recipe is used.
      dataset: its dataset, preprocessed as the set was.
      network: of the recipe, for the dataset's classes.
      full_data_recipe: how one network is trained on all real images.
      seed: of networks and of the random images.
      networks: fresh ones behind each accuracy.
      progress: called with what networks are trained on next; what it returns is told the epochs
        done and in all.

    Raises:
      UserError: the set is not of this dataset as loaded, or a class has too few real images.
    """
    made.check_fits(dataset)
    count = made.decoder.encoded(made.info.ipc)
    sizes = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    if sizes.min() < count:
        raise UserError(
            f"class '{dataset.class_names[sizes.argmin()]}' has {sizes.min()} real images, too few "
            f"for as many random ones as the set has, {count} per class"
        )
    test = to_device(dataset.test, dataset.preprocess)
    on_all = None if progress is None else progress("all real images")
    full_data, teacher = _on_all(network, full_data_recipe, dataset, test, seed, on_all)
    recipe = made.info.recipe
    if recipe.augmentation == "none":
        recipe = dataclasses.replace(recipe, augmentation=strategy_for(dataset.name))
    plain = dataclasses.replace(recipe, augmentation="none", cutmix=0.0)
    random = _random(made, dataset, network, teacher, count, seed)
    hard = DeviceData(made.images, made.hard_labels())

    def accuracy(words: str, recipe: Recipe, data: DeviceData) -> Accuracy:
        key = randomness.key(seed, "test")
        rate = None if data is random else made.learning_rate  # which was learned for the set alone
        told = None if progress is None else progress(words)
        return train_and_test(network, recipe, data, test, key, networks, rate, told)

    of_set = accuracy("the set", recipe, made.data())
    return Measures(
        own=of_set,
        hard=of_set if made.labels.ndim == 1 else accuracy("the set, hard labels", recipe, hard),
        without_augmentation=accuracy("the set, no augmentation", plain, made.data()),
        random=accuracy("random real images", recipe, random),
        random_without_augmentation=accuracy("random real images, no augmentation", plain, random),
        full_data=full_data,
    )


def _on_all(
    network: NetworkLike,
    recipe: Recipe,
    dataset: Dataset,
    test: DeviceData,
    seed: int,
    progress: Progress | None,
) -> tuple[float, Any]:
    """Accuracy and variables of a network trained on all real images."""
    train = to_device(dataset.train, dataset.preprocess)
    trainer = Trainer.of(network, recipe, len(dataset.train))
    state = training.init(trainer, randomness.key(seed, "all real images"), train.image_shape)
    rates, done = training.schedule(recipe), 0
    for piece in pieces_of(recipe.epochs):
        state = jax.block_until_ready(training.run_jit(trainer, state, train, rates, piece))
        done += piece
        if progress is not None:
            progress(done, recipe.epochs)
    variables = training.eval_variables(trainer, state)
    return training.accuracy(network, variables, test), variables


def _random(
    made: SyntheticSet,
    dataset: Dataset,
    network: NetworkLike,
    teacher: Any,
    count: int,
    seed: int,
) -> DeviceData:
    """`count` random real images a class in the set's storage, their labels of its kind."""
    rng = randomness.generator(seed, "random baseline")
    images, _ = synthetic.from_real(dataset.train, dataset, count, rng)
    data = SyntheticSet.encode(images, made.info, made.decoder).data()
    if made.labels.ndim == 1:
        return data
    logits = np.asarray(training.predict(network, teacher, data))
    return DeviceData(data.images, jnp.asarray(logits))


def in_words(measures: Measures, augmentation: str) -> list[tuple[str, str]]:
    """The rows of a table: what was trained on, and its accuracy; then the scores.

    Args:
      measures: of a set.
      augmentation: of its recipe, see `measure`.
    """
    accuracies = [
        ("the set" + ", with DSA" * (augmentation == "none"), measures.own),
        ("the set, hard labels", measures.hard),
        ("the set, no augmentation", measures.without_augmentation),
        ("random real images, labels of the same kind", measures.random),
        ("the same, no augmentation", measures.random_without_augmentation),
    ]
    rows = [(name, f"{accuracy}") for name, accuracy in accuracies]
    rows.append(("all real images", f"{100 * measures.full_data:.1f} %"))
    rows.append(("label-robust score (LRS)", f"{measures.lrs:.3f}"))
    rows.append(("augmentation-robust score (ARS)", f"{measures.ars:.3f}"))
    return rows
