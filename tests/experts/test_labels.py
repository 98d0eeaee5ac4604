"""Label logits from experts, on experts whose answers are made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import data, experts, networks
from jdd.experts import ExpertSettings, ExpertSpec, ExpertStore

NETWORK = networks.create("MLP", 10, width=8)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three experts on digits: random, random, and one that says 3 whatever it sees."""
    digits = data.load("digits")
    spec = ExpertSpec(
        "digits", digits.preprocess.spec(), "MLP", {"width": 8}, 0.1,
        ExpertSettings(num_experts=3, train_epochs=1),
    )  # fmt: skip
    images = digits.preprocess(digits.train.images[:1])
    params = [NETWORK.init(jax.random.key(i), images)["params"] for i in range(3)]
    params[2] = jax.tree.map(lambda p: 0.0 * p, params[2])
    params[2]["classifier"]["bias"] = params[2]["classifier"]["bias"].at[3].set(5.0)
    store = ExpertStore.create(tmp_path_factory.mktemp("labels"), spec, params[0])
    for i in range(3):
        for epoch in range(2):  # the first epoch's are not to be used
            store.write(i, epoch, jax.tree.map(lambda p, e=epoch: e * p, params[i]))
    return digits, store, params


def test_only_experts_that_are_right_have_a_say(made):
    digits, store, params = made
    images = digits.preprocess(jnp.asarray(digits.train.images[:40]))
    classes = digits.train.labels[:40]
    mean_logits = experts.label_logits(store, NETWORK, images, classes, 3)
    each = np.stack([np.asarray(NETWORK.apply({"params": p}, images)) for p in params])
    asked = 0
    for i, label in enumerate(classes):
        right = [logits[i] for logits in each if logits[i].argmax() == label]
        asked += len(right) > 1
        if right:
            np.testing.assert_allclose(mean_logits[i], np.mean(right, 0), rtol=1e-4, atol=1e-5)
        else:
            assert np.isnan(mean_logits[i]).all()
    assert asked and (classes == 3).any()


def test_images_are_chosen_that_the_first_expert_knows(made):
    """Where it knows too few of a class the next are asked, and at last any will do."""
    digits, store, params = made
    rng = np.random.default_rng(0)
    chosen = experts.correctly_classified(store, NETWORK, digits.train, digits, 4, 3, rng)
    assert len(set(chosen.tolist())) == 40
    np.testing.assert_array_equal(digits.train.labels[chosen], np.repeat(np.arange(10), 4))
    images = digits.preprocess(jnp.asarray(digits.train.images))
    knows = [
        np.asarray(NETWORK.apply({"params": p}, images)).argmax(-1) == digits.train.labels
        for p in params
    ]
    for label in range(10):
        positions = chosen[4 * label : 4 * label + 4]
        correct = int((knows[0] & (digits.train.labels == label)).sum())
        assert knows[0][positions].sum() == min(4, correct)
        anyone = knows[0] | knows[1] | knows[2]
        either = int((anyone & (digits.train.labels == label)).sum())
        assert anyone[positions].sum() == min(4, either)


def test_a_classs_mean_is_over_rows_that_are_numbers():
    rows = np.array([[1.0, 3.0], [np.nan, np.nan], [5.0, 7.0], [np.nan, np.nan]], np.float32)
    means = experts.class_means(rows, np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(means, [[3, 5], [np.nan, np.nan]])
