"""The training loop against PyTorch's formulas written out in NumPy, and on real digits."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import data, networks, training
from jdd.augment import augment, augment_each, cutmix
from jdd.data import DeviceData
from jdd.errors import UserError
from jdd.evaluation import train_and_test
from jdd.training import Recipe, Trainer
from tests.small_training import CLASSES, NETWORK, SIDE, SIZE, examples, gradient, layers


@pytest.mark.parametrize(
    ("momentum", "decay", "ema", "decay_after"),
    [(0.9, 0.01, 0.0, 0.5), (0.0, 0.1, 0.9, 1.0), (0.9, 0.0, 0.5, 0.4), (0.0, 0.0, 0.0, 0.0)],
)
def test_training_is_pytorchs_sgd(momentum, decay, ema, decay_after):
    """torch.optim.SGD: g ← g + λθ; v ← μv + g; θ ← θ − αv, with α a tenth late in training."""
    epochs, rate = 5, 0.2
    recipe = Recipe(
        epochs=epochs,
        batch_size=SIZE,
        learning_rate=rate,
        momentum=momentum,
        weight_decay=decay,
        decay_after=decay_after,
        ema=ema,
    )
    train = examples()
    trainer = Trainer.of(NETWORK, recipe, SIZE)
    state = training.init(trainer, jax.random.key(0), (SIDE, SIDE, 1))
    x, labels = np.asarray(train.images, np.float64).reshape(SIZE, -1), np.asarray(train.labels)
    weights = layers(state.params)
    average, velocity = weights, [(0.0, 0.0)] * len(weights)
    for epoch in range(epochs):
        alpha = rate * (0.1 if decay_after < 1 and epoch >= epochs * decay_after else 1.0)
        loss, gradients = gradient(weights, x, labels)
        pairs = zip(velocity, gradients, weights, strict=True)
        velocity = [
            tuple(momentum * v + g + decay * t for v, g, t in zip(*pair, strict=True))
            for pair in pairs
        ]
        weights = [
            tuple(t - alpha * v for t, v in zip(*pair, strict=True))
            for pair in zip(weights, velocity, strict=True)
        ]
        average = [
            tuple(ema * a + (1 - ema) * t for a, t in zip(*pair, strict=True))
            for pair in zip(average, weights, strict=True)
        ]
    ended = training.run_jit(trainer, state, train, training.schedule(recipe), epochs)
    for ours, theirs in zip(layers(ended.params), weights, strict=True):
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-4, atol=1e-6)
    assert float(ended.loss) == pytest.approx(loss, rel=1e-5)
    tested = layers(training.eval_variables(trainer, ended)["params"])
    for ours, theirs in zip(tested, average if ema else weights, strict=True):
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-4, atol=1e-6)


def test_adamw_and_the_cosine_schedule_are_pytorchs():
    """torch.optim.AdamW under CosineAnnealingLR, epoch by epoch; a set's own rate is SGD's."""
    epochs, rate, decay = 6, 0.05, 0.1
    recipe = Recipe(
        epochs=epochs,
        batch_size=SIZE,
        learning_rate=rate,
        weight_decay=decay,
        optimizer="adamw",
        rate_schedule="cosine",
    )
    train = examples()
    trainer = Trainer.of(NETWORK, recipe, SIZE)
    state = training.init(trainer, jax.random.key(0), (SIDE, SIDE, 1))
    x, labels = np.asarray(train.images, np.float64).reshape(SIZE, -1), np.asarray(train.labels)
    weights = layers(state.params)
    first = second = [(0.0, 0.0)] * len(weights)
    for epoch in range(epochs):
        alpha = rate * (1 + np.cos(np.pi * epoch / epochs)) / 2
        _, gradients = gradient(weights, x, labels)

        def averaged(moments, power, beta, gradients=gradients):
            return [
                tuple(beta * m + (1 - beta) * g**power for m, g in zip(*pair, strict=True))
                for pair in zip(moments, gradients, strict=True)
            ]

        first, second = averaged(first, 1, 0.9), averaged(second, 2, 0.999)
        unbiased = 1 - 0.9 ** (epoch + 1), 1 - 0.999 ** (epoch + 1)
        weights = [
            tuple(
                t * (1 - alpha * decay)
                - alpha * (m / unbiased[0]) / (np.sqrt(v / unbiased[1]) + 1e-8)
                for t, m, v in zip(*triple, strict=True)
            )
            for triple in zip(weights, first, second, strict=True)
        ]
    rates = training.schedule(recipe, 0.7)
    ended = training.run_jit(trainer, state, train, rates, epochs)
    for ours, theirs in zip(layers(ended.params), weights, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("soft", [False, True])
def test_cutmix_trains_on_both_labels_by_their_areas(soft):
    """Each step's loss, made again from the step's own keys."""
    rng = np.random.default_rng(1)
    images = jnp.asarray(rng.standard_normal((SIZE, 8, 8, 1)), jnp.float32)
    classes = jnp.asarray(rng.standard_normal((SIZE, CLASSES)), jnp.float32)
    train = DeviceData(images, classes if soft else examples().labels)
    recipe = Recipe(batch_size=SIZE, cutmix=0.7, weight_decay=0.0, epochs=1)
    trainer = Trainer.of(NETWORK, recipe, SIZE)
    state = training.init(trainer, jax.random.key(0), (8, 8, 1))
    still, fractions = training.schedule(recipe, 0.0), []
    for seed in range(12):
        key = jax.random.key(seed)
        ended = training.run_jit(
            trainer, state._replace(key=jax.random.key_data(key)), train, still, 1
        )
        shuffle, transforms = jax.random.split(jax.random.fold_in(key, 0))
        order = jax.random.permutation(shuffle, SIZE)
        mix_key = jax.random.split(jax.random.split(transforms, 1)[0])[1]
        x, y = train.batch(order)
        mixed, both = cutmix(mix_key, x, y, 0.7)
        fractions.append(float(both.fraction[0]))
        logits = NETWORK.apply({"params": state.params}, mixed)
        targets = [jax.nn.softmax(one) if soft else np.eye(CLASSES)[one] for one in both[:2]]
        target = fractions[-1] * targets[0] + (1 - fractions[-1]) * targets[1]
        loss = -(target * jax.nn.log_softmax(logits)).sum(1).mean()
        assert float(ended.loss) == pytest.approx(float(loss), rel=1e-5)
    assert 1.0 in fractions and min(fractions) < 1


def test_a_set_may_bring_its_own_step_size():
    recipe = Recipe(epochs=10, learning_rate=0.5, decay_after=0.3)
    learned = training.schedule(recipe, jnp.float32(0.07))
    assert float(learned.learning_rate) == pytest.approx(0.07)
    assert float(learned.decay_epoch) == 3.0
    assert float(training.schedule(recipe).learning_rate) == 0.5


def test_statistics_of_batch_norm_are_averaged_with_the_weights():
    network = networks.create("ConvNet", CLASSES, width=4, depth=1, norm="batch")
    trainer = Trainer.of(network, Recipe(batch_size=SIZE, ema=0.7), SIZE)
    state = training.init(trainer, jax.random.key(0), (SIDE, SIDE, 1))
    expected, rates = (state.params, state.batch_stats), training.schedule(Recipe())
    for _ in range(3):
        state = training.run_jit(trainer, state, examples(), rates, 1)
        expected = jax.tree.map(
            lambda a, new: 0.7 * a + 0.3 * new, expected, (state.params, state.batch_stats)
        )
    tested = training.eval_variables(trainer, state)
    for ours, theirs in zip((tested["params"], tested["batch_stats"]), expected, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), ours, theirs)


def test_training_in_pieces_is_training_at_once():
    recipe = Recipe(batch_size=3, ema=0.9, augmentation="crop_scale")
    trainer = Trainer.of(NETWORK, recipe, SIZE)
    state = training.init(trainer, jax.random.key(0), (SIDE, SIDE, 1))
    rates = training.schedule(recipe)
    at_once = training.run_jit(trainer, state, examples(), rates, 5)
    parts = training.run_jit(trainer, state, examples(), rates, 2)
    parts = training.run_jit(trainer, parts, examples(), rates, 3)
    jax.tree.map(np.testing.assert_array_equal, at_once, parts)


def test_peaked_label_logits_are_hard_labels():
    hard = examples()
    soft = DeviceData(hard.images, 1e4 * jax.nn.one_hot(hard.labels, CLASSES))
    recipe = Recipe(batch_size=3)
    trainer = Trainer.of(NETWORK, recipe, SIZE)
    state = training.init(trainer, jax.random.key(0), (SIDE, SIDE, 1))
    rates = training.schedule(recipe)
    a, b = (training.run_jit(trainer, state, train, rates, 4).params for train in (hard, soft))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), a, b)


def test_predictions_are_those_of_the_network_in_order(monkeypatch):
    monkeypatch.setattr(importlib.import_module("jdd.training.predict"), "TEST_BATCH", 3)
    train = examples()
    pixels = train.images.shape[1] * train.images.shape[2]
    monkeypatch.setattr("jdd.ops.microbatch._PIXELS", 2 * pixels)  # two images, then one
    variables = NETWORK.init(jax.random.key(0), train.images)
    expected = NETWORK.apply(variables, train.images)
    jax.clear_caches()
    ours = training.predict(NETWORK, variables, train)
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)
    right = np.mean(np.argmax(expected, 1) == np.asarray(train.labels))
    assert training.accuracy(NETWORK, variables, train) == pytest.approx(right)


@pytest.mark.parametrize("name", ["MLP", "ConvNet"])
def test_real_digits_are_learned(name):
    digits = data.load("digits")
    options = {"width": 64} if name == "MLP" else {"width": 16, "depth": 2}
    network = networks.create(name, 10, **options)
    recipe = Recipe(name, options, epochs=10, batch_size=32, learning_rate=0.05)
    accuracy = train_and_test(
        network,
        recipe,
        data.to_device(digits.train, digits.preprocess),
        data.to_device(digits.test, digits.preprocess),
        jax.random.key(0),
        networks=1,
    )
    assert accuracy.mean >= 0.95


def test_batch_statistics_are_trained_and_tested():
    network = networks.create("ConvNet", CLASSES, width=4, depth=1, norm="batch")
    recipe = Recipe(batch_size=4, epochs=3)
    trainer = Trainer.of(network, recipe, SIZE)
    state = training.init(trainer, jax.random.key(0), (SIDE, SIDE, 1))
    ended = training.run_jit(trainer, state, examples(), training.schedule(recipe), 3)
    before, after = jax.tree.leaves(state.batch_stats), jax.tree.leaves(ended.batch_stats)
    assert before and all(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    variables = training.eval_variables(trainer, ended)
    one_by_one = [network.apply(variables, examples().images[i : i + 1])[0] for i in range(SIZE)]
    logits = training.predict(network, variables, examples())
    np.testing.assert_allclose(logits, one_by_one, rtol=1e-5, atol=1e-6)
    fresh = network.apply({**variables, "batch_stats": state.batch_stats}, examples().images)
    assert not np.allclose(logits, fresh, rtol=1e-2)


def test_augmentation_by_name_is_each_images_own_or_dsa():
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    key = jax.random.key(2)
    each = training.augmented(key, images, training.EACH)
    np.testing.assert_array_equal(each, augment_each(key, images, "crop_scale_rotate"))
    np.testing.assert_array_equal(
        training.augmented(key, images, "crop_scale"), augment(key, images, "crop_scale")
    )
    with pytest.raises(UserError, match="did you mean 'crop'"):
        training.augmented(key, images, "each_crob")


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_step_of_gsam_is_the_formulas(adaptive):
    """Zhuang et al. 2022, algorithm 1, written out in float64: one step along gₚ − α g⊥."""
    train, rho, alpha = examples(), 0.3, 0.4
    trainer = Trainer(NETWORK, SIZE, 1, gsam=training.Gsam(rho, alpha, adaptive))
    state = training.init(trainer, jax.random.key(3), (SIDE, SIDE, 1))
    rates = training.Schedule(jnp.float32(0.5), jnp.float32(np.inf))
    after = training.run_jit(trainer, state, train, rates, 1)
    weights = layers(state.params)
    x = np.asarray(train.images, np.float64).reshape(SIZE, -1)
    labels = np.asarray(train.labels)

    def joined(pairs):
        return np.concatenate([part.ravel() for pair in pairs for part in pair])

    def split(row):
        pairs, at = [], 0
        for pair in weights:
            parts = []
            for part in pair:
                parts.append(row[at : at + part.size].reshape(part.shape))
                at += part.size
            pairs.append(tuple(parts))
        return pairs

    theta = joined(weights)
    g = joined(gradient(weights, x, labels)[1])
    perturbation = theta**2 * g / np.linalg.norm(theta * g) if adaptive else g / np.linalg.norm(g)
    g_p = joined(gradient(split(theta + rho * perturbation), x, labels)[1])
    upright = g - (g @ g_p) / (g_p @ g_p) * g_p
    assert abs(upright @ g_p) < 1e-9 and np.linalg.norm(upright) > 1e-3
    expected = theta - 0.5 * (g_p - alpha * upright)
    np.testing.assert_allclose(joined(layers(after.params)), expected, rtol=1e-4, atol=1e-5)
