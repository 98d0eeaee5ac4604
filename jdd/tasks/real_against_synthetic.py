"""What training on a distilled set saves: the same training on all real images and on the set."""

import dataclasses
import itertools
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jdd import cost, evaluation, training
from jdd.data import Dataset
from jdd.evaluation import Accuracy, Progress
from jdd.recipe import Recipe
from jdd.synthetic import SyntheticSet
from jdd.training import FitState, Trainer, TrainingData

_PIECES = 20  # of a training, between which progress is told; they are timed alone


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one training took, and what it reached."""

    accuracy: Accuracy
    """of its one network on the test images"""
    epochs: int
    images: int
    """in the set"""
    batch_size: int
    """images a step"""
    steps: int
    """in all epochs together"""
    learning_rate: float
    seconds: float
    """of the training alone, without compilation and testing"""
    compile_seconds: float
    """tracing, lowering and XLA"""
    flops_per_image: float
    """of a step, its update included, divided by its images; see `jdd.cost.flops`"""
    flops_total: int
    """of all steps"""
    peak_bytes: int
    """of the compiled training, with its data; see `jdd.cost.peak_bytes`"""

    @property
    def flops_per_second(self) -> float:
        """How fast the machine was."""
        return self.flops_total / self.seconds

    def to_json(self) -> dict[str, Any]:
        """As plain JSON, with `accuracy` a number and, for two classes, the other two figures."""
        found = {**dataclasses.asdict(self), "flops_per_second": self.flops_per_second}
        found["accuracy"] = self.accuracy.mean
        if self.accuracy.auc:
            found["balanced_accuracy"] = self.accuracy.balanced[0]
            found["auc"] = self.accuracy.auc[0]
        return found


def compare(
    network: nn.Module,
    recipe: Recipe,
    synthetic: SyntheticSet,
    dataset: Dataset,
    key: jax.Array,
    epochs: int,
    real_epochs: int,
    progress: Callable[[str], Progress] = lambda title: lambda done, total: None,
) -> dict[str, Any]:
    """Trains the network on all real training images, then on the set, and puts them side by side.

    Both start from the same weights and have the recipe's optimiser, rates, largest batch,
    augmentation and averaging. What differs beside the images is the number of epochs and, where
    the set has learned one, the step size, which as in `jdd.evaluation` holds for the set alone.

    Args:
      network: the module.
      recipe: the set's; its epochs are not read.
      synthetic: the set.
      dataset: its data set.
      key: random key; the network is the first of `jdd.evaluation.evaluate` with this key.
      epochs: on the set.
      real_epochs: on the real images.
      progress: told what is trained on, gives what is told epochs done and epochs in all.

    Returns:
      `parameters` of the network, `real` and `synthetic` (see `Cost.to_json`), `ratio` (`seconds`
      and `flops`, real over synthetic), and `differs`: by field, its values for `real` and
      `synthetic`.
    """
    test = evaluation.real(dataset.test, dataset)
    found = {}
    for name, data, count, rate in (
        ("real", evaluation.real(dataset.train, dataset), real_epochs, None),
        (
            "synthetic",
            TrainingData(synthetic.images, synthetic.labels),
            epochs,
            synthetic.learning_rate,
        ),
    ):
        how = dataclasses.replace(recipe, epochs=count)
        found[name] = measure(network, how, data, test, key, rate, progress(f"{name} images"))
    real, of_set = found["real"], found["synthetic"]
    sides = {name: one.to_json() for name, one in found.items()}
    settings = ("epochs", "batch_size", "learning_rate")
    images = jax.ShapeDtypeStruct((1, *dataset.image_shape), jnp.float32)
    params = jax.eval_shape(network.init, key, images)["params"]
    return {
        "parameters": cost.parameters(params),
        **sides,
        "ratio": {
            "seconds": real.seconds / of_set.seconds,
            "flops": real.flops_total / of_set.flops_total,
        },
        "differs": {
            name: {side: values[name] for side, values in sides.items()}
            for name in settings
            if sides["real"][name] != sides["synthetic"][name]
        },
    }


def measure(
    network: nn.Module,
    recipe: Recipe,
    train: TrainingData,
    test: TrainingData,
    key: jax.Array,
    learning_rate: jax.Array | float | None = None,
    progress: Progress | None = None,
) -> Cost:
    """Trains one network by the recipe, and says what that took.

    The program is compiled first and run for an epoch to warm up, which `seconds` leave out.

    Args:
      network, recipe, train, test, key, learning_rate, progress: as for
        `jdd.evaluation.evaluate`, whose first network this is.
    """
    trainer = Trainer.of(network, recipe, train.images.shape[0])
    rates = training.schedule(recipe, learning_rate)
    start = training.init(trainer, jax.random.fold_in(key, 0), train.images.shape[1:])
    began = time.monotonic()
    compiled = training.run_jit.lower(trainer, start, train, rates, jnp.int32(1)).compile()
    compile_seconds = time.monotonic() - began

    def run(state: FitState, epochs: int) -> FitState:
        return jax.block_until_ready(compiled(state, train, rates, jnp.int32(epochs)))

    run(start, 1)
    if progress is not None:
        progress(0, recipe.epochs)
    state, seconds = start, 0.0
    stops = sorted({recipe.epochs * i // _PIECES for i in range(_PIECES + 1)})
    for done, end in itertools.pairwise(stops):
        began = time.monotonic()
        state = run(state, end - done)
        seconds += time.monotonic() - began
        if progress is not None:
            progress(end, recipe.epochs)
    logits = training.predict(network, training.tested_variables(trainer, state), test)
    steps = trainer.steps * recipe.epochs
    per_step = flops_of_step(trainer, train)
    return Cost(
        accuracy=evaluation.accuracy([logits], test.labels),
        epochs=recipe.epochs,
        images=train.images.shape[0],
        batch_size=trainer.batch,
        steps=steps,
        learning_rate=recipe.learning_rate if learning_rate is None else float(learning_rate),
        seconds=seconds,
        compile_seconds=compile_seconds,
        flops_per_image=per_step / trainer.batch,
        flops_total=per_step * steps,
        peak_bytes=cost.peak_bytes(compiled),
    )


def flops_of_step(trainer: Trainer, data: TrainingData) -> int:
    """FLOPs of one training step: forward, backward, update, and what makes the batch.

    They are a part for each image and one for each step, told apart by steps of two and of four
    images, which are counted whole; see `jdd.cost.flops`. Nothing is compiled.
    """
    shape = tuple(data.images.shape[1:])

    def of(batch: int) -> int:
        one = trainer._replace(batch=batch, steps=1)
        rates = training.schedule(Recipe())
        arrays = jax.eval_shape(
            lambda images, labels: (
                training.init(one, jax.random.key(0), shape),
                data._replace(images=images[:batch], labels=labels[:batch]),
            ),
            *(jax.ShapeDtypeStruct((4, *a.shape[1:]), a.dtype) for a in (data.images, data.labels)),
        )
        return cost.flops(
            lambda state, data, rates: training.run(one, state, data, rates, 1), *arrays, rates
        )

    two, four = of(2), of(4)
    return two + (four - two) // 2 * (trainer.batch - 2)
