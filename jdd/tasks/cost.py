"""What training on a distilled set saves: the same training on all real images and on the set."""

import dataclasses
import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jdd import cost, training
from jdd.data import Dataset, DeviceData, to_device
from jdd.evaluation import Progress
from jdd.networks import NetworkLike
from jdd.runs.problem import variable_shapes
from jdd.synthetic import SyntheticSet
from jdd.training import Accuracy, FitState, Recipe, Trainer, metrics

SIDES = ("real", "synthetic")
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
        value = {**dataclasses.asdict(self), "flops_per_second": self.flops_per_second}
        value["accuracy"] = self.accuracy.mean
        if self.accuracy.auc:
            value["balanced_accuracy"] = self.accuracy.balanced[0]
            value["auc"] = self.accuracy.auc[0]
        return value


def compare(
    network: NetworkLike,
    recipe: Recipe,
    synthetic: SyntheticSet,
    dataset: Dataset,
    key: jax.Array,
    real_epochs: int,
    progress: Callable[[str], Progress] = lambda title: lambda done, total: None,
) -> dict[str, Any]:
    """Trains the network on all real training images, then on the set, and compares the two.

    Both start from the same weights and have the recipe's optimiser, rates, largest batch,
    augmentation and averaging. Apart from the images, the number of epochs differs and, where the
    set has learned one, the step size, which as in `jdd.evaluation` holds for the set alone.

    Args:
      network: the module.
      recipe: how it is trained; its epochs are those on the set.
      synthetic: the set.
      dataset: its dataset.
      key: random key; the network is the first of `jdd.evaluation.train_and_test` with this key.
      real_epochs: on the real images.
      progress: told what is trained on, gives what is told epochs done and epochs in all.

    Returns:
      `parameters` of the network, `real` and `synthetic` (see `Cost.to_json`), `ratio` (`seconds`
      and `flops`, real over synthetic), and `differs`: by field, its values for `real` and
      `synthetic`.
    """
    test = to_device(dataset.test, dataset.preprocess)
    train = to_device(dataset.train, dataset.preprocess)
    on_real = dataclasses.replace(recipe, epochs=real_epochs)
    real = measure(network, on_real, train, test, key, None, progress("real images"))
    rate, watch = synthetic.learning_rate, progress("synthetic images")
    of_set = measure(network, recipe, synthetic.data(), test, key, rate, watch)
    sides = dict(zip(SIDES, (real.to_json(), of_set.to_json()), strict=True))
    differing = [
        name
        for name in ("epochs", "batch_size", "learning_rate")
        if getattr(real, name) != getattr(of_set, name)
    ]
    return {
        "parameters": cost.parameters(variable_shapes(network, dataset)["params"]),
        **sides,
        "ratio": {
            "seconds": real.seconds / of_set.seconds,
            "flops": real.flops_total / of_set.flops_total,
        },
        "differs": {
            name: {side: values[name] for side, values in sides.items()} for name in differing
        },
    }


def measure(
    network: NetworkLike,
    recipe: Recipe,
    train: DeviceData,
    test: DeviceData,
    key: jax.Array,
    learning_rate: jax.Array | float | None = None,
    progress: Progress | None = None,
) -> Cost:
    """Trains one network by the recipe, and says what that took.

    The program is compiled first and run for an epoch to warm up, which `seconds` leave out.

    Args:
      network, recipe, train, test, key, learning_rate, progress: as for
        `jdd.evaluation.train_and_test`, whose first network this is.
    """
    trainer = Trainer.of(network, recipe, train.images.shape[0])
    rates = training.schedule(recipe, learning_rate)
    start = training.init(trainer, jax.random.fold_in(key, 0), train.image_shape)
    began = time.monotonic()
    compiled = training.run_jit.lower(trainer, start, train, rates, jnp.int32(1)).compile()
    compile_seconds = time.monotonic() - began

    def run(state: FitState, epochs: int) -> FitState:
        after: FitState = jax.block_until_ready(compiled(state, train, rates, jnp.int32(epochs)))
        return after

    run(start, 1)
    state, seconds = start, 0.0
    stops = sorted({recipe.epochs * i // _PIECES for i in range(_PIECES + 1)})
    for done, end in itertools.pairwise(stops):
        if progress is not None:
            progress(done, recipe.epochs)
        began = time.monotonic()
        state = run(state, end - done)
        seconds += time.monotonic() - began
    if progress is not None:
        progress(recipe.epochs, recipe.epochs)
    logits = training.predict(network, training.eval_variables(trainer, state), test)
    flops = flops_of_step(trainer, train)
    of_rest = flops_of_step(trainer._replace(batch=trainer.rest), train) if trainer.rest else 0
    return Cost(
        accuracy=metrics.measure([logits], test.labels),
        epochs=recipe.epochs,
        images=train.images.shape[0],
        batch_size=trainer.batch,
        steps=(trainer.steps + (trainer.rest > 0)) * recipe.epochs,
        learning_rate=float(recipe.step_size(learning_rate)),
        seconds=seconds,
        compile_seconds=compile_seconds,
        flops_per_image=flops / trainer.batch,
        flops_total=(flops * trainer.steps + of_rest) * recipe.epochs,
        peak_bytes=cost.peak_bytes(compiled),
    )


def flops_of_step(trainer: Trainer, data: DeviceData) -> int:
    """FLOPs of one training step: forward, backward, update, and what makes the batch.

    They are a part for each image and one for each step, told apart by steps of two and of four
    images, which are counted whole; see `jdd.cost.flops`. Nothing is compiled.
    """

    def of(batch: int) -> int:
        one = trainer._replace(batch=batch, steps=1, rest=0)
        rates = training.schedule(Recipe())
        arrays = jax.eval_shape(
            lambda images, labels: (
                training.init(one, jax.random.key(0), data.image_shape),
                dataclasses.replace(data, images=images[:batch], labels=labels[:batch]),
            ),
            *(jax.ShapeDtypeStruct((4, *a.shape[1:]), a.dtype) for a in (data.images, data.labels)),
        )
        return cost.flops(
            lambda state, data, rates: training.run(one, state, data, rates, 1), *arrays, rates
        )

    two, four = of(2), of(4)
    return two + (four - two) // 2 * (trainer.batch - 2)
