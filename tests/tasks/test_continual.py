"""Class-incremental learning: what is tested, what a step may see, what is forgotten."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from jdd import data, losses, networks, randomness, training
from jdd.data import DeviceData, Split
from jdd.errors import UserError
from jdd.methods import CoresetSettings
from jdd.synthetic import SetInfo, SyntheticSet, from_real
from jdd.tasks.continual import Comparison, ContinualSettings, build
from jdd.tasks.continual.classes import (
    Memory,
    class_orders,
    parts_of,
    seen_accuracy,
    seen_after,
)
from jdd.training import Recipe, Trainer

NETWORK = networks.create("MLP", 10, width=64)
RECIPE = Recipe("MLP", {"width": 64}, epochs=200, learning_rate=0.02)
GDUMB = ContinualSettings(repeats=1)
FINETUNE = ContinualSettings(protocol="finetune", repeats=1, epochs=12, real_batch=64, real_lr=0.05)
FEATURES = CoresetSettings(feature_epochs=2)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.fixture(scope="module")
def stored(digits):
    """Real images in a set's place: three of each class."""
    info = SetInfo("digits", digits.class_names, digits.preprocess.spec(), ipc=3)
    images, labels = from_real(digits.train, digits, 3, np.random.default_rng(0))
    return SyntheticSet(images, labels, None, info)


def learn(stored, digits, settings, methods, recipe=RECIPE, features=FEATURES, progress=None):
    comparison = Comparison(settings, NETWORK, recipe, stored, digits, methods, features)
    return comparison.run(0, progress)


@pytest.mark.parametrize(
    ("classes", "steps", "sizes"),
    [(10, 2, [5, 5]), (10, 3, [4, 3, 3]), (10, 10, [1] * 10), (7, 1, [7]), (100, 8, [13] * 4)],
)
def test_parts_are_as_equal_as_can_be(classes, steps, sizes):
    parts = parts_of(range(classes), steps)
    assert [len(part) for part in parts][: len(sizes)] == sizes and len(parts) == steps
    assert [c for part in parts for c in part] == list(range(classes))
    assert seen_after(parts)[0] == parts[0] and seen_after(parts)[-1] == tuple(range(classes))
    for wrong in (0, classes + 1):
        with pytest.raises(UserError, match=f"`steps` {wrong}: from 1 to {classes}"):
            parts_of(range(classes), wrong)


def test_orders():
    assert class_orders("given", 1, 4, 0) == [(0, 1, 2, 3)]
    assert class_orders("2,0, 3,1", 1, 4, 0) == [(2, 0, 3, 1)]
    orders = class_orders("random", 3, 10, 0)
    assert [sorted(order) for order in orders] == [list(range(10))] * 3
    assert len(set(orders)) == 3 and class_orders("random", 2, 10, 0) == orders[:2]
    assert class_orders("random", 3, 10, 1) != orders
    for wrong in ("0,1,2", "0,1,2,2", "0,1,2,4", "reversed", ""):
        with pytest.raises(UserError, match=f"`order` {wrong}: "):
            class_orders(wrong, 1, 4, 0)


def test_classes_not_seen_are_neither_tested_nor_predicted():
    logits = np.array([[1.0, 0, 9], [0, 1, 9], [1, 0, 9], [0, 0, 9]])
    labels = np.array([0, 1, 1, 2])
    assert seen_accuracy(logits, labels, (1, 0)) == pytest.approx(2 / 3)
    assert seen_accuracy(logits, labels, (0, 1, 2)) == pytest.approx(1 / 4)
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((200, 10)), rng.integers(0, 10, 200)
    seen = (7, 2, 4)
    rows = np.isin(labels, seen)
    masked = np.where(np.isin(np.arange(10), seen), logits, -np.inf)
    expected = accuracy_score(labels[rows], masked.argmax(1)[rows])
    assert seen_accuracy(logits, labels, seen) == pytest.approx(expected)


def test_soft_labels_are_divided_among_the_classes_seen():
    """And a class's images are told by their place, whatever their largest label logit."""
    rng = np.random.default_rng(0)
    label_logits = jnp.asarray(rng.standard_normal((6, 3)), jnp.float32)
    info = SetInfo("digits", ("0", "1", "2"), {}, ipc=2)
    images = jnp.arange(6.0).reshape(6, 1, 1, 1)
    memory = Memory.of(SyntheticSet(images, label_logits, None, info))
    data_seen = memory.seen((2, 0))
    assert data_seen.images.ravel().tolist() == [0, 1, 4, 5]
    shares = np.exp(np.asarray(label_logits, np.float64))[[0, 1, 4, 5]]
    shares[:, 1] = 0
    shares /= shares.sum(1, keepdims=True)
    logits = rng.standard_normal((4, 3))
    log_probabilities = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss = losses.soft_cross_entropy(jnp.asarray(logits, jnp.float32), data_seen.labels)
    assert float(loss) == pytest.approx(-(shares * log_probabilities).sum(1).mean(), rel=1e-5)


def test_hard_labels_stay_and_may_be_in_any_order():
    info = SetInfo("digits", ("0", "1", "2"), {}, ipc=2)
    labels = jnp.array([2, 1, 0, 0, 1, 2])
    stored = SyntheticSet(jnp.arange(6.0).reshape(6, 1, 1, 1), labels, None, info)
    data_seen = Memory.of(stored).seen((1, 2))
    assert data_seen.images.ravel().tolist() == [0, 1, 4, 5]
    assert data_seen.labels.tolist() == [2, 1, 1, 2]


@pytest.mark.slow
def test_gdumbs_fresh_networks_see_the_memory_of_the_classes_seen(digits, stored):
    """Every step's accuracy is that of a network trained by itself, from the same start."""
    outcome = learn(stored, digits, GDUMB, ["distilled"])
    key = jax.random.fold_in(jax.random.fold_in(randomness.key(0, "continual"), 0), 0)
    for step, seen in enumerate([range(5), range(10)]):
        few = DeviceData(stored.images[: 3 * len(seen)], stored.labels[: 3 * len(seen)])
        trainer = Trainer.of(NETWORK, RECIPE, 3 * len(seen))
        start = jax.random.fold_in(jax.random.fold_in(key, step), 1)
        state = training.init(trainer, start, (8, 8, 1))
        state = training.run_jit(trainer, state, few, training.schedule(RECIPE), RECIPE.epochs)
        test = digits.test.labels < len(seen)
        images = digits.preprocess(jnp.asarray(digits.test.images[test]))
        logits = np.asarray(NETWORK.apply({"params": state.params}, images))
        predicted = logits[:, : len(seen)].argmax(1)
        expected = accuracy_score(digits.test.labels[test], predicted)
        assert outcome.values["distilled"][0, step] == pytest.approx(expected)
    assert outcome.seen() == [[0, 1, 2, 3, 4], list(range(10))]
    assert outcome.mean()["distilled"] == outcome.values["distilled"][0].tolist()


def test_a_step_sees_nothing_of_classes_to_come(digits, stored):
    """Neither of their real images nor of their part of a memory."""
    images, labels = digits.train.images, digits.train.labels
    later = labels >= 5
    noise = np.random.default_rng(0).integers(0, 256, images.shape, np.uint8)
    spoiled = Split(np.where(later[:, None, None, None], noise, images), labels)
    garbage = stored.replace(storage=stored.images.at[15:].set(7.0))
    features = dataclasses.replace(FEATURES, features="random")
    for settings in (GDUMB, FINETUNE):
        methods = ["random", "herding", "distilled", *(["none"] * (settings is FINETUNE))]
        # The means of the pixels stay those of the dataset as it is.
        runs = [
            learn(memory, dataset, settings, methods, features=features).values
            for memory, dataset in (
                (stored, digits),
                (garbage, dataclasses.replace(digits, train=spoiled)),
            )
        ]
        for name in methods:
            assert runs[0][name][0, 0] == runs[1][name][0, 0] > 0.6, name
            assert runs[0][name][0, 1] != runs[1][name][0, 1], name


def test_small_parts_make_batches_of_their_own_images_alone(digits, stored):
    """More images a step than a part has: at ten steps the first part is one class."""
    settings = dataclasses.replace(FINETUNE, steps=10, real_batch=1000, epochs=3)
    accuracies = learn(stored, digits, settings, ["none"]).values["none"][0]
    assert accuracies[0] == 1.0  # nothing else can be predicted
    # Trained on one class after the other, it knows the last alone.
    last = np.mean(digits.test.labels == 9)
    settings = dataclasses.replace(settings, epochs=60, real_lr=0.1)
    accuracies = learn(stored, digits, settings, ["none"]).values["none"][0]
    assert accuracies[-1] == pytest.approx(last, abs=0.02)


def test_without_memory_the_first_half_is_forgotten(digits, stored):
    outcome = learn(stored, digits, FINETUNE, ["none", "random", "distilled"])
    none, random, distilled = (outcome.values[name][0] for name in ("none", "random", "distilled"))
    assert none[0] > 0.9 and none[1] < 0.6
    assert min(random[1], distilled[1]) > none[1] + 0.15


def test_the_memory_is_trained_on_by_the_network_that_was_there(digits, stored):
    """With next to no step size its accuracy is that of the network without a memory."""
    still = dataclasses.replace(RECIPE, learning_rate=1e-12, epochs=1)
    accuracies = learn(stored, digits, FINETUNE, ["none", "distilled"], recipe=still).values
    np.testing.assert_array_equal(accuracies["none"], accuracies["distilled"])
    fresh = learn(stored, digits, GDUMB, ["distilled"], recipe=still).values
    assert fresh["distilled"].max() < 0.5
    # The set's own step size goes over the recipe's, for the set alone.
    quick = dataclasses.replace(stored, learning_rate=jnp.float32(0.02))
    methods = ["none", "random", "distilled"]
    accuracies = learn(
        quick, digits, FINETUNE, methods, recipe=dataclasses.replace(still, epochs=200)
    ).values
    np.testing.assert_array_equal(accuracies["none"], accuracies["random"])
    assert accuracies["distilled"][0, 1] > accuracies["none"][0, 1] + 0.15


def test_orders_and_repeats_add_up(digits, stored):
    settings = dataclasses.replace(GDUMB, order="random", orders=2, repeats=2)
    told = []
    outcome = learn(stored, digits, settings, ["distilled"], progress=lambda *at: told.append(at))
    values = outcome.values["distilled"]
    assert values.shape == (4, 2) and len(set(values[:, 1])) > 1
    assert [len(seen) for seen in outcome.seen()] == [5, 10]
    assert outcome.seen()[-1] == list(outcome.orders[0])
    assert outcome.mean()["distilled"] == pytest.approx(np.mean(values, axis=0))
    assert outcome.std()["distilled"] == pytest.approx(np.std(values, axis=0))
    assert told == sorted(told) and told[-1] == (4 * 200 * 45, 4 * 200 * 45)
    one = learn(stored, digits, dataclasses.replace(settings, orders=1, repeats=1), ["distilled"])
    np.testing.assert_array_equal(one.values["distilled"][0], values[0])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("protocol", "gdum", "did you mean 'gdumb'"),
        ("steps", 11, "`steps` 11: from 1 to 10"),
        ("order", "0,1", "`order` 0,1: each of"),
        ("orders", 2, "`orders` 2: several orders need `order` random"),
        ("orders", 0, "`orders` 0: at least 1"),
        ("repeats", 0, "`repeats` 0: at least 1"),
        ("epochs", 0, "`epochs` 0: at least 1"),
        ("real_batch", 0, "`real_batch` 0: at least 1"),
        ("real_lr", 0.0, "`real_lr` 0.0: it must be above 0"),
        ("real_momentum", 1.0, "`real_momentum` 1.0: from 0 to below 1"),
    ],
)
def test_settings_out_of_range_are_named(digits, stored, name, value, words):
    with pytest.raises(UserError, match=words):
        learn(stored, digits, dataclasses.replace(GDUMB, **{name: value}), ["distilled"])


def test_what_cannot_be_compared_is_said_before_the_work(digits, stored):
    with pytest.raises(UserError, match="`methods` 'none': with `protocol` gdumb"):
        learn(stored, digits, GDUMB, ["none"])
    with pytest.raises(UserError, match="did you mean 'crop'"):
        learn(
            stored,
            digits,
            GDUMB,
            ["distilled"],
            recipe=dataclasses.replace(RECIPE, augmentation="crob"),
        )
    large = dataclasses.replace(stored, info=dataclasses.replace(stored.info, ipc=500))
    with pytest.raises(UserError, match="500 per class: leave random and herding out"):
        learn(large, digits, GDUMB, ["random"])
    untested = data.Split(digits.test.images[:9], np.arange(9, dtype=np.int32))
    with pytest.raises(UserError, match="no test image is of class '9'"):
        learn(stored, dataclasses.replace(digits, test=untested), GDUMB, ["distilled"])


def test_settings_of_the_other_protocol_are_refused():
    assert build({"protocol": "finetune", "epochs": 5}).epochs == 5
    for name in ("epochs", "real_batch", "real_lr", "real_momentum"):
        with pytest.raises(UserError, match=f"`{name}` needs `protocol` finetune"):
            build({name: getattr(FINETUNE, name)})
