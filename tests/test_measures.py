"""Label- and augmentation-robust scores: the formula, and what goes into it, on the digits."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import data, evaluation, measures, networks, randomness, synthetic, training
from jdd.errors import Interrupted, UserError
from jdd.measures import Measures, score
from jdd.synthetic import SetInfo, SyntheticSet
from jdd.training import Accuracy, Recipe, Trainer

NETWORK = networks.create("MLP", 10, width=16)
RECIPE = Recipe(network="MLP", options={"width": 16}, epochs=150, learning_rate=0.05)


def test_the_score_is_0_to_1_and_rises():
    assert score(-1) == 0 and score(1) == pytest.approx(1)
    assert score(0) == pytest.approx((1 - 1 / math.e) / (math.e - 1 / math.e))
    assert np.all(np.diff([score(gain) for gain in np.linspace(-1, 1, 9)]) > 0)


def test_what_the_scores_are_made_of():
    """By hand: α = ½ (0.7 − 0.5) − ½ (0.9 − 0.6), β = ½ (0.7 − 0.5) + ½ (0.55 − 0.45)."""
    result = Measures(*(Accuracy((v,)) for v in (0.7, 0.6, 0.55, 0.5, 0.45)), full_data=0.9)
    assert result.hard_label_recovery == pytest.approx(0.3)
    assert result.improvement_over_random == pytest.approx(0.2)
    assert result.lrs == pytest.approx(score(-0.05)) and result.ars == pytest.approx(score(0.15))
    assert result.to_json()["lrs"] == result.lrs


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def made(digits, soft):
    info = SetInfo("digits", digits.class_names, digits.preprocess.spec(), 1, recipe=RECIPE)
    rng = np.random.default_rng(0)
    images, labels = synthetic.from_real(digits.train, digits, 1, rng)
    # Hard labels of these would be right; the soft ones say the next class.
    logits = 9.0 * jnp.roll(jnp.eye(10), 1, axis=1)
    return SyntheticSet(images, logits if soft else labels, None, info)


@pytest.mark.parametrize("soft", [False, True])
def test_each_accuracy_is_of_what_it_says(digits, soft):
    stored = made(digits, soft)
    full = dataclasses.replace(RECIPE, epochs=10, batch_size=32)
    result = measures.measure(stored, digits, NETWORK, full, networks=2)
    plain = evaluation.evaluate(stored, digits, networks=2)
    assert result.without_augmentation == plain
    assert abs(result.hard.mean - result.own.mean) < 0.02  # as the labels are nearly hard
    if soft:  # which are wrong, while those of random images are a good network's
        assert result.own.mean < 0.3 < result.random.mean
        assert result.improvement_over_random < -0.2
    else:
        assert abs(result.improvement_over_random) < 0.2  # random images against others
    assert result.full_data > 0.85 > result.own.mean


def test_random_images_have_the_recipes_step_size(digits, monkeypatch):
    rates, train = [], measures.train_and_test
    monkeypatch.setattr(measures, "train_and_test", lambda *of: rates.append(of[6]) or train(*of))
    learned = made(digits, soft=False).replace(learning_rate=jnp.float32(0.02))
    measures.measure(learned, digits, NETWORK, RECIPE, networks=1)
    assert [None if rate is None else float(rate) for rate in rates] == [
        *[pytest.approx(0.02)] * 2,
        *[None] * 2,
    ]


def test_a_class_with_fewer_real_images_than_the_set_is_named_at_once(digits, monkeypatch):
    monkeypatch.setattr(measures, "_on_all", None)
    stored = made(digits, soft=False)
    many = stored.replace(info=dataclasses.replace(stored.info, ipc=500))
    with pytest.raises(UserError, match=r"real images, too few for .* 500 per class"):
        measures.measure(many, digits, NETWORK, RECIPE)


def test_training_on_all_images_is_told_and_stopped_in_pieces(digits):
    """The bits are those of one call."""
    full = dataclasses.replace(RECIPE, epochs=23, batch_size=128)
    test = data.to_device(digits.test, digits.preprocess)
    told = []
    _, variables = measures._on_all(
        NETWORK, full, digits, test, 3, lambda done, total: told.append((done, total))
    )
    assert len(told) == 10 and told[-1] == (23, 23)
    train = data.to_device(digits.train, digits.preprocess)
    trainer = Trainer.of(NETWORK, full, len(digits.train))
    start = training.init(trainer, randomness.key(3, "all real images"), train.image_shape)
    in_one = training.run_jit(trainer, start, train, training.schedule(full), 23)
    jax.tree.map(np.testing.assert_array_equal, variables, training.eval_variables(trainer, in_one))

    def stop_on_all(words):
        assert words == "all real images"

        def stop(done, total):
            raise Interrupted

        return stop

    with pytest.raises(Interrupted):
        measures.measure(made(digits, False), digits, NETWORK, full, progress=stop_on_all)
