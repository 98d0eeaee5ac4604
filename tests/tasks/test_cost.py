"""The two trainings: the networks of `evaluation`, steps and FLOPs counted by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jdd import data, networks, randomness, synthetic
from jdd.data import DeviceData, to_device
from jdd.evaluation import train_and_test
from jdd.synthetic import SetInfo, SyntheticSet
from jdd.tasks import cost
from jdd.training import Recipe, Trainer

RECIPE = Recipe("ConvNet", {"width": 8, "depth": 1}, epochs=30, learning_rate=0.02)
RATE = 0.05
KEY = jax.random.key(5)


@pytest.fixture(scope="module")
def compared():
    digits = data.load("digits")
    network = networks.create(RECIPE.network, 10, **RECIPE.options)
    images, labels = synthetic.from_real(
        digits.train, digits, 2, randomness.generator(0, "real against synthetic")
    )
    info = SetInfo("digits", digits.class_names, digits.preprocess.spec(), 2, recipe=RECIPE)
    small = SyntheticSet(images, labels, jnp.float32(RATE), info)
    told = []

    def progress(title):
        return lambda done, total: told.append((title, done, total))

    result = cost.compare(network, RECIPE, small, digits, KEY, 3, progress)
    return digits, network, small, result, told


def test_epochs_steps_and_what_differs(compared):
    _, _, _, result, told = compared
    real, of_set = result["real"], result["synthetic"]
    assert (real["images"], real["epochs"]) == (1437, 3)
    # 1,437 in steps of at most 256: six, of 239 or the next number below that 8 to 12 divide.
    assert (real["batch_size"], real["steps"]) == (234, 18)
    assert (of_set["images"], of_set["epochs"], of_set["batch_size"]) == (20, 30, 20)
    assert of_set["steps"] == 30
    assert (real["learning_rate"], of_set["learning_rate"]) == (0.02, pytest.approx(RATE))
    assert result["differs"].keys() == {"epochs", "batch_size", "learning_rate"}
    assert ("real images", 3, 3) in told and ("synthetic images", 30, 30) in told


def test_accuracies_are_those_of_the_evaluations_first_network(compared):
    digits, network, small, result, _ = compared
    test = to_device(digits.test, digits.preprocess)
    for side, train, epochs, rate in (
        ("real", to_device(digits.train, digits.preprocess), 3, None),
        ("synthetic", small.data(), 30, small.learning_rate),
    ):
        recipe = dataclasses.replace(RECIPE, epochs=epochs)
        expected = train_and_test(network, recipe, train, test, KEY, 1, rate)
        assert result[side]["accuracy"] == expected.values[0]


def test_figures_hang_together(compared):
    _, _, _, result, _ = compared
    for side in ("real", "synthetic"):
        one = result[side]
        assert one["seconds"] > 0 and one["compile_seconds"] > 0
        total = one["flops_per_image"] * one["batch_size"] * one["steps"]
        assert one["flops_total"] == pytest.approx(total)
        assert one["flops_per_second"] == pytest.approx(total / one["seconds"])
    ratio, real, of_set = result["ratio"], result["real"], result["synthetic"]
    assert ratio["seconds"] == pytest.approx(real["seconds"] / of_set["seconds"])
    # As many operations an image, up to the update's share.
    images = 3 * 6 * 234 / (30 * 20)
    assert ratio["flops"] == pytest.approx(images, rel=0.02)
    assert real["peak_bytes"] > 1437 * 64
    # Kernels and biases of 3×3·1·8 and 4·4·8·10, the norm's scale and bias.
    assert result["parameters"] == (72 + 8) + 16 + (1280 + 10)


@pytest.mark.parametrize("batch", [1, 100, 256])
def test_a_steps_flops_are_the_hand_counts_for_any_batch(batch):
    """Whole, though a CPU takes large batches in parts inside a loop."""
    recipe = Recipe("ConvNet", {}, batch_size=batch)
    network = networks.create("ConvNet", 10)
    data = DeviceData(jnp.zeros((batch, 28, 28, 1)), jnp.zeros(batch, jnp.int32))
    trainer = Trainer.of(network, recipe, batch)
    layers = [32 * 32 * 9 * 128, 16 * 16 * 9 * 128 * 128, 8 * 8 * 9 * 128 * 128, 16 * 128 * 10]
    by_hand = 2 * (3 * sum(layers) - layers[0]) * batch
    # Decay, momentum and step: a multiplication and an addition each for every parameter.
    update = 6 * (9 * 128 + 2 * 9 * 128 * 128 + 9 * 128 + 16 * 128 * 10 + 10)
    assert cost.flops_of_step(trainer, data) == pytest.approx(by_hand + update, rel=0.02)
