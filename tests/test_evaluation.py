"""Accuracies of fresh networks: counted by hand, reproducible, one by one."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdd
from jdd import data, networks, training
from jdd.data import DeviceData
from jdd.errors import UserError
from jdd.evaluation import EvaluationSettings, train_and_test
from jdd.training import Accuracy, Recipe, Trainer
from jdd.training.metrics import measure

NETWORK = networks.create("MLP", 10, width=16)
RECIPE = Recipe("MLP", {"width": 16}, epochs=7, batch_size=32, learning_rate=0.05)

OLD_RUN = Path(__file__).resolve().parent / "fixtures" / "run-0.1"


@pytest.fixture(scope="module")
def digits():
    loaded = data.load("digits")
    train, validation = data.hold_out(loaded.train, 0.1, seed=0)
    return tuple(data.to_device(split, loaded.preprocess) for split in (train, validation))


def test_mean_and_deviation_are_the_papers():
    accuracy = Accuracy((0.5, 0.7, 0.9))
    assert accuracy.mean == pytest.approx(0.7)
    assert accuracy.std == pytest.approx(np.sqrt((0.04 + 0 + 0.04) / 3))
    assert Accuracy((0.5,)).std == 0.0
    assert str(accuracy) == "70.0 ± 16.3 %"
    assert accuracy.to_json()["accuracies"] == [0.5, 0.7, 0.9]


def test_two_classes_have_figures_that_count_both_alike():
    labels = jnp.asarray([0, 0, 0, 0, 0, 0, 1, 1])
    # By their logits' difference: one of the large class is above one of the small, and above 0.
    first = jnp.asarray([-3.0, -2.5, -2.0, -1.5, -1.0, 0.5, 0.25, 2.0])
    logits = jnp.stack([jnp.zeros(8), first], axis=1) + 7.0
    always_first = jnp.stack([jnp.ones(8), jnp.zeros(8)], axis=1)
    accuracy = measure([logits, always_first], labels)
    assert accuracy.values == (7 / 8, 6 / 8)
    assert accuracy.balanced == pytest.approx(((5 / 6 + 1) / 2, 1 / 2))
    assert accuracy.auc == pytest.approx((11 / 12, 1 / 2))  # pairs in order, ties count half
    figures = accuracy.to_json()
    assert (
        figures["balanced_accuracy_mean"]
        == accuracy.criterion
        == pytest.approx((11 / 12 + 1 / 2) / 2)
    )
    assert figures["balanced_accuracy_std"] == pytest.approx((11 / 12 - 1 / 2) / 2)
    assert figures["auc_mean"] == pytest.approx((11 / 12 + 1 / 2) / 2)
    assert figures["auc_std"] == pytest.approx((11 / 12 - 1 / 2) / 2)
    assert str(accuracy) == "81.2 ± 6.2 %, balanced accuracy 70.8 ± 20.8 %, AUC 0.708 ± 0.208"


def test_a_network_that_diverged_ranks_nothing():
    accuracy = measure([jnp.full((4, 2), jnp.nan)], jnp.asarray([0, 0, 0, 1]))
    assert (accuracy.balanced, accuracy.auc) == ((0.5,), (0.5,))


def test_networks_that_diverged_are_counted_and_named():
    """Where all outputs are NaN, the first class is taken for each image: it looks like a guess."""
    good, labels = jnp.eye(4)[:, :3], jnp.asarray([0, 1, 2, 1])
    accuracy = measure([good, jnp.full((4, 3), jnp.nan)], labels)
    assert (accuracy.values, accuracy.diverged) == ((0.75, 0.25), 1)
    assert str(accuracy) == "50.0 ± 25.0 %, 1 of 2 networks diverged"
    assert Accuracy.from_json(json.loads(json.dumps(accuracy.to_json()))) == accuracy
    for wrong in (-1, 3, "1"):
        with pytest.raises(ValueError, match="diverged"):
            Accuracy.from_json({**accuracy.to_json(), "diverged": wrong})


def test_a_step_size_far_too_large_is_told_from_a_bad_set(digits):
    train, test = digits
    recipe = dataclasses.replace(RECIPE, learning_rate=1e30)
    accuracy = train_and_test(NETWORK, recipe, train, test, jax.random.key(0), 2)
    assert "2 of 2 networks diverged" in str(accuracy)


@pytest.mark.parametrize(("classes", "labels"), [(3, [0, 1, 1]), (2, [1, 1, 1])])
def test_other_data_have_accuracy_alone(classes, labels):
    accuracy = measure([jnp.eye(3)[:, :classes]], jnp.asarray(labels))
    assert not accuracy.balanced and not accuracy.auc
    assert accuracy.to_json().keys() == {"accuracy_mean", "accuracy_std", "accuracies"}
    assert accuracy.criterion == accuracy.mean


def test_each_network_is_trained_by_the_recipe_alone(digits):
    """Its accuracy is that of the training loop run for it by itself, for as many epochs."""
    train, test = digits
    key = jax.random.key(3)
    calls = []
    accuracy = train_and_test(
        NETWORK, RECIPE, train, test, key, 3, progress=lambda *at: calls.append(at)
    )
    trainer = Trainer.of(NETWORK, RECIPE, len(train.labels))
    for i, value in enumerate(accuracy.values):
        state = training.init(trainer, jax.random.fold_in(key, i), train.images.shape[1:])
        state = training.run_jit(trainer, state, train, training.schedule(RECIPE), 7)
        logits = NETWORK.apply({"params": state.params}, test.preprocess(test.images))
        assert value == pytest.approx(float(np.mean(np.argmax(logits, 1) == test.labels)))
    assert len(set(accuracy.values)) > 1
    assert calls[-1] == (21, 21) and calls == sorted(calls)


def test_more_networks_keep_the_first(digits):
    train, test = digits
    one = train_and_test(NETWORK, RECIPE, train, test, jax.random.key(3), 1)
    two = train_and_test(NETWORK, RECIPE, train, test, jax.random.key(3), 2)
    assert two.values[0] == one.values[0]


def test_a_learned_step_size_overrides_the_recipes(digits):
    train, test = digits
    key = jax.random.key(3)
    slow = train_and_test(NETWORK, RECIPE, train, test, key, 1, learning_rate=1e-6)
    assert slow.mean < 0.3 < train_and_test(NETWORK, RECIPE, train, test, key, 1).mean


def test_label_logits_are_trained_on(digits):
    train, test = digits
    soft = DeviceData(train.images, 20 * jax.nn.one_hot(train.labels, 10), train.preprocess)
    assert train_and_test(NETWORK, RECIPE, soft, test, jax.random.key(3), 1).mean > 0.8
    wrong = DeviceData(soft.images, jnp.roll(soft.labels, 1, axis=1), soft.preprocess)
    assert train_and_test(NETWORK, RECIPE, wrong, test, jax.random.key(3), 1).mean < 0.1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("eval_networks", 0),
        ("eval_epochs", 0),
        ("eval_every", -1),
        ("validation_networks", 0),
        ("held_out", 1.0),
        ("held_out", float("nan")),
        ("eval_ema", 1.0),
        ("eval_cutmix", 1.5),
        ("eval_cutmix_beta", 0.0),
        ("full_data_epochs", -1),
    ],
)
def test_bad_settings_are_named(name, value):
    with pytest.raises(UserError, match=f"`{name}` {value}: "):
        EvaluationSettings(**{name: value})


def test_the_recipe_is_what_the_settings_say():
    settings = EvaluationSettings(eval_epochs=12, eval_dsa=True, eval_ema=0.99)
    recipe = settings.recipe("ConvNet", {"width": 8}, "crop_scale")
    assert (recipe.epochs, recipe.augmentation, recipe.ema) == (12, "crop_scale", 0.99)
    assert EvaluationSettings(eval_dsa=False).recipe("MLP", {}, "crop").augmentation == "none"
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert (recipe.optimizer, recipe.learning_rate, recipe.cutmix) == ("sgd", 0.01, 0)
    settings = EvaluationSettings(
        eval_optimizer="adamw", eval_schedule="cosine", eval_cutmix=0.5, eval_stacked=True
    )
    recipe = settings.recipe("MLP", {}, "color_crop_cutout")
    assert (recipe.optimizer, recipe.rate_schedule, recipe.cutmix) == ("adamw", "cosine", 0.5)
    assert (recipe.augmentation, recipe.learning_rate) == ("stacked_color_crop", 0.001)
    stored = recipe.to_json()
    for name in ("optimizer", "rate_schedule", "cutmix", "cutmix_beta"):  # an older set has none
        del stored[name]
    older = Recipe.from_json(stored)
    assert (older.optimizer, older.rate_schedule, older.cutmix) == ("sgd", "step", 0)
    with pytest.raises(UserError, match=r"`eval_optimizer` 'adam': .*adamw"):
        EvaluationSettings(eval_optimizer="adam")


def test_a_set_is_evaluated_by_its_own_recipe_as_its_run_did():
    """No directory, no settings; to the networks that jdd 0.1 reported, but for rounding."""
    stored = jdd.SyntheticSet.load(OLD_RUN)
    reported = json.loads((OLD_RUN / "result.json").read_text())["accuracies"]
    accuracy = jdd.evaluate(stored, jdd.load("digits"), networks=2)
    assert accuracy.values == pytest.approx(reported, abs=0.01)


def test_evaluation_takes_another_key_recipe_and_number_of_networks():
    stored, digits = jdd.SyntheticSet.load(OLD_RUN), jdd.load("digits")
    recipe = dataclasses.replace(RECIPE, epochs=3)
    one = jdd.evaluate(stored, digits, jax.random.key(1), networks=1, recipe=recipe)
    network = networks.create("MLP", 10, width=16)
    test = data.to_device(digits.test, digits.preprocess)
    rate = stored.learning_rate
    again = train_and_test(network, recipe, stored.data(), test, jax.random.key(1), 1, rate)
    assert one.values == again.values and len(one.values) == 1
    other = jdd.evaluate(stored, digits, jax.random.key(2), networks=1, recipe=recipe)
    assert other.values != one.values


def test_a_set_is_not_evaluated_on_another_dataset():
    stored, digits = jdd.SyntheticSet.load(OLD_RUN), jdd.load("digits")
    with pytest.raises(UserError, match="is a set of 'digits', not of 'mnist'"):
        jdd.evaluate(stored, dataclasses.replace(digits, name="mnist"))
    with pytest.raises(UserError, match="stored for 8×8×1 images, asked for 16×16×1"):
        jdd.evaluate(stored, jdd.load("digits", image_size=16))
