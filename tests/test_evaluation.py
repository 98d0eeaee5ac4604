"""Accuracies of fresh networks: counted by hand, reproducible, one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import data, evaluation, networks, training
from jdd.errors import UserError
from jdd.evaluation import Accuracy, EvaluationSettings
from jdd.recipe import Recipe
from jdd.training import Trainer, TrainingData

NETWORK = networks.create("MLP", 10, width=16)
RECIPE = Recipe("MLP", {"width": 16}, epochs=7, batch_size=32, learning_rate=0.05)


@pytest.fixture(scope="module")
def digits():
    loaded = data.load("digits")
    train, validation = data.hold_out(loaded.train, 0.1, seed=0)
    return evaluation.real(train, loaded), evaluation.real(validation, loaded)


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
    found = evaluation.accuracy([logits, always_first], labels)
    assert found.values == (7 / 8, 6 / 8)
    assert found.balanced == pytest.approx(((5 / 6 + 1) / 2, 1 / 2))
    assert found.auc == pytest.approx((11 / 12, 1 / 2))  # pairs in order, ties count half
    told = found.to_json()
    assert told["balanced_accuracy_mean"] == found.criterion == pytest.approx((11 / 12 + 1 / 2) / 2)
    assert told["balanced_accuracy_std"] == pytest.approx((11 / 12 - 1 / 2) / 2)
    assert told["auc_mean"] == pytest.approx((11 / 12 + 1 / 2) / 2)
    assert told["auc_std"] == pytest.approx((11 / 12 - 1 / 2) / 2)
    assert str(found) == "81.2 ± 6.2 %, balanced accuracy 70.8 ± 20.8 %, AUC 0.708 ± 0.208"


def test_a_network_that_diverged_ranks_nothing():
    found = evaluation.accuracy([jnp.full((4, 2), jnp.nan)], jnp.asarray([0, 0, 0, 1]))
    assert (found.balanced, found.auc) == ((0.5,), (0.5,))


@pytest.mark.parametrize(("classes", "labels"), [(3, [0, 1, 1]), (2, [1, 1, 1])])
def test_other_data_have_accuracy_alone(classes, labels):
    found = evaluation.accuracy([jnp.eye(3)[:, :classes]], jnp.asarray(labels))
    assert not found.balanced and not found.auc
    assert found.to_json().keys() == {"accuracy_mean", "accuracy_std", "accuracies"}
    assert found.criterion == found.mean


def test_each_network_is_trained_by_the_recipe_alone(digits):
    """Its accuracy is that of the training loop run for it by itself, for as many epochs."""
    train, test = digits
    key = jax.random.key(3)
    told = []
    found = evaluation.evaluate(
        NETWORK, RECIPE, train, test, key, 3, progress=lambda *at: told.append(at)
    )
    trainer = Trainer.of(NETWORK, RECIPE, len(train.labels))
    for i, value in enumerate(found.values):
        state = training.init(trainer, jax.random.fold_in(key, i), train.images.shape[1:])
        state = training.run_jit(trainer, state, train, training.schedule(RECIPE), 7)
        logits = NETWORK.apply({"params": state.params}, test.preprocess(test.images))
        assert value == pytest.approx(float(np.mean(np.argmax(logits, 1) == test.labels)))
    assert len(set(found.values)) > 1
    assert told[-1] == (21, 21) and told == sorted(told)


def test_more_networks_keep_the_first(digits):
    train, test = digits
    one = evaluation.evaluate(NETWORK, RECIPE, train, test, jax.random.key(3), 1)
    two = evaluation.evaluate(NETWORK, RECIPE, train, test, jax.random.key(3), 2)
    assert two.values[0] == one.values[0]


def test_a_learned_step_size_goes_over_the_recipes(digits):
    train, test = digits
    key = jax.random.key(3)
    slow = evaluation.evaluate(NETWORK, RECIPE, train, test, key, 1, learning_rate=1e-6)
    assert slow.mean < 0.3 < evaluation.evaluate(NETWORK, RECIPE, train, test, key, 1).mean


def test_label_logits_are_trained_on(digits):
    train, test = digits
    soft = TrainingData(train.images, 20 * jax.nn.one_hot(train.labels, 10), train.preprocess)
    assert evaluation.evaluate(NETWORK, RECIPE, soft, test, jax.random.key(3), 1).mean > 0.8
    wrong = soft._replace(labels=jnp.roll(soft.labels, 1, axis=1))
    assert evaluation.evaluate(NETWORK, RECIPE, wrong, test, jax.random.key(3), 1).mean < 0.1


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
        ("whole_epochs", -1),
    ],
)
def test_bad_settings_are_named(name, value):
    with pytest.raises(UserError, match="--" + name.replace("_", "-")):
        EvaluationSettings(**{name: value}).check()


def test_the_recipe_is_what_the_settings_say():
    settings = EvaluationSettings(eval_epochs=12, eval_dsa=True, eval_ema=0.99)
    recipe = settings.recipe("ConvNet", {"width": 8}, "crop_scale")
    assert (recipe.epochs, recipe.augmentation, recipe.ema) == (12, "crop_scale", 0.99)
    assert EvaluationSettings(eval_dsa=False).recipe("MLP", {}, "crop").augmentation == "none"
    assert Recipe.from_json(recipe.to_json()) == recipe
