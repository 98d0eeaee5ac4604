"""Scores of difficulty against plain differentiation and cases counted by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import data, difficulty, networks
from jdd.data import DeviceData
from jdd.difficulty import DifficultySettings, DifficultySpec
from jdd.errors import UserError
from jdd.runs.experts import difficulty_of

NETWORK = networks.create("ConvNet", 4, width=6, depth=2)


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.standard_normal((9, 8, 8, 1)).astype(np.float32))
    train = DeviceData(images, jnp.asarray(rng.integers(0, 4, 9)))
    return NETWORK.init(jax.random.key(1), images[:1]), train


def gradients(variables, train):
    """Every example's own gradient, by `vmap`."""

    def loss(params, image, label):
        logits = NETWORK.apply({"params": params}, image[None])[0]
        return -jax.nn.log_softmax(logits)[label]

    each = jax.vmap(jax.grad(loss), (None, 0, 0))
    return each(variables["params"], train.images, train.labels)


def lengths(tree):
    rows = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(tree)]
    return np.linalg.norm(np.concatenate(rows, 1), axis=1)


def test_grand_is_the_length_of_each_examples_gradient(case):
    expected = lengths(gradients(*case))
    np.testing.assert_allclose(difficulty.grand(NETWORK, *case), expected, rtol=1e-4)


def test_the_last_layers_grand_is_that_of_the_classifiers_gradient(case):
    expected = lengths(gradients(*case)["classifier"])
    np.testing.assert_allclose(difficulty.grand_last(NETWORK, *case), expected, rtol=1e-4)


def test_el2n_is_the_length_of_the_error(case):
    variables, train = case
    errors = np.asarray(jax.nn.softmax(NETWORK.apply(variables, train.images)), np.float64)
    errors[np.arange(9), np.asarray(train.labels)] -= 1
    expected = np.sqrt((errors**2).sum(1))
    np.testing.assert_allclose(difficulty.el2n(NETWORK, *case), expected, rtol=1e-4)


def test_forgetting_counts_what_was_lost():
    correct = np.array(
        [
            [True, True, False, True, False],
            [True, False, False, False, True],
            [True, True, False, True, True],
            [True, False, False, True, True],
        ]
    )
    np.testing.assert_array_equal(difficulty.forgetting(correct), [0, 2, 4, 1, 0])


def test_ranks_are_fractions_within_each_class():
    scores = np.array([3.0, 1.0, 2.0, 9.0, 8.0, 1.0])
    labels = np.array([0, 0, 0, 1, 1, 0])
    ranks = difficulty.ranks(scores, labels)
    np.testing.assert_allclose(ranks, [0.875, 0.125, 0.625, 0.75, 0.25, 0.375])


@pytest.mark.parametrize("name", difficulty.SCORES)
def test_wrong_labels_are_hard(name):
    """Of 200 real digits twenty are given wrong labels: they are found among the hardest."""
    digits = data.load("digits")
    split = data.subset(digits.train, 200, seed=0)
    rng = np.random.default_rng(0)
    wrong = rng.choice(200, 20, replace=False)
    labels = split.labels.copy()
    labels[wrong] = (labels[wrong] + 1 + rng.integers(0, 9, 20)) % 10
    train = data.to_device(data.Split(split.images, labels), digits.preprocess)
    settings = DifficultySettings(
        score=name, score_networks=4, score_epochs=10, score_lr=0.02, score_batch=20
    )
    network = networks.create("MLP", 10, width=32)
    scores = difficulty.score(settings, network, "none", train)
    assert scores.dtype == np.float32 and scores.shape == (200,)
    hardest = np.argsort(scores)[-40:]
    assert np.isin(wrong, hardest).mean() > 0.7
    again = difficulty.score(settings, network, "none", train)
    np.testing.assert_array_equal(scores, again)


def test_scores_that_are_no_numbers_are_refused():
    """Though the loss before the only step is one."""
    digits = data.load("digits")
    few = data.to_device(data.subset(digits.train, 20, seed=0), digits.preprocess)
    settings = DifficultySettings(score_networks=1, score_epochs=1, score_lr=1e25)
    with pytest.raises(UserError, match=r"network 1 diverged: lower `score_lr` 1e\+25"):
        difficulty.score(settings, networks.create("MLP", 10, width=8), "none", few)


def test_scores_are_stored_with_what_they_were_made_from(tmp_path):
    spec = DifficultySpec(
        "digits", {"kind": "standard"}, "MLP", {"width": 8}, 0.1, 0, DifficultySettings()
    )
    labels, scores = np.arange(5), np.linspace(0, 1, 5, dtype=np.float32)
    assert difficulty.load(tmp_path / "scores", spec, labels) is None
    difficulty.save(tmp_path / "scores", spec, scores, labels)
    np.testing.assert_array_equal(difficulty.load(tmp_path / "scores", spec, labels), scores)
    other = dataclasses.replace(spec, settings=DifficultySettings(score="el2n"))
    with pytest.raises(UserError, match=r"something else \(settings\)"):
        difficulty.load(tmp_path / "scores", other, labels)
    with pytest.raises(UserError, match="of other images"):
        difficulty.load(tmp_path / "scores", spec, labels[::-1])
    assert spec.mark() != other.mark()
    marked = dataclasses.replace(spec, fingerprint="ab-cd")  # that of what is stored is not known
    assert marked.mark() == spec.mark()
    np.testing.assert_array_equal(difficulty.load(tmp_path / "scores", marked, labels), scores)
    difficulty.save(tmp_path / "scores", marked, scores, labels)
    for fingerprint in ("ab-dc", "ba-cd"):
        changed = dataclasses.replace(spec, fingerprint=fingerprint)
        with pytest.raises(UserError, match=r"something else \(fingerprint\)"):
            difficulty.load(tmp_path / "scores", changed, labels)


@pytest.mark.parametrize("damage", ["a byte", "not finite", "too few"])
def test_damaged_scores_are_made_again(tmp_path, capsys, damage):
    digits = data.load("digits")
    images = data.subset(digits.train, 20, seed=0)
    settings = DifficultySettings(score="el2n", score_networks=1, score_epochs=0)
    spec = DifficultySpec("digits", digits.preprocess.spec(), "MLP", {}, 0.1, 20, settings)

    def scores():
        network = networks.create("MLP", 10, width=8)
        return difficulty_of(tmp_path / "s", spec, network, digits, images, lambda: False)

    expected = scores()
    if damage == "a byte":
        (file,) = (tmp_path / "s" / "arrays" / "d").iterdir()
        file.write_bytes(file.read_bytes()[:-1] + b"?")
    else:
        wrong = np.full(20, np.nan) if damage == "not finite" else expected[:-1]
        difficulty.save(tmp_path / "s", spec, wrong, images.labels)
    np.testing.assert_array_equal(scores(), expected)
    assert "are damaged, they are made again" in capsys.readouterr().err
    np.testing.assert_array_equal(difficulty.load(tmp_path / "s", spec, images.labels), expected)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"score": "grant"}, "did you mean 'grand'"),
        ({"score": "forgetting", "score_epochs": 1}, "`score_epochs` 1: forgetting needs"),
        ({"score_networks": 0}, "`score_networks` 0"),
        ({"score_lr": 0.0}, "`score_lr` 0.0"),
        ({"score_momentum": 1.0}, "`score_momentum` 1.0"),
        ({"score_seed": -1}, "`score_seed` -1"),
    ],
)
def test_settings_out_of_range_are_named(changes, named):
    with pytest.raises(UserError, match=named):
        DifficultySettings(**changes)
