"""Cross-entropies against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd.losses import cross_entropy, soft_cross_entropy

LOGITS = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
LABELS = np.array([0, 2, 1, 2])


def softmax(x):
    return np.exp(x) / np.exp(x).sum(1, keepdims=True)


def test_cross_entropy_by_hand():
    expected = -np.log(softmax(LOGITS)[np.arange(4), LABELS]).mean()
    assert cross_entropy(LOGITS, LABELS) == pytest.approx(expected, rel=1e-5)
    assert cross_entropy(np.zeros((2, 10)), np.array([3, 9])) == pytest.approx(np.log(10))
    np.testing.assert_allclose(
        jax.grad(cross_entropy)(LOGITS, LABELS),
        (softmax(LOGITS) - np.eye(3)[LABELS]) / 4,
        atol=1e-6,
    )


def test_soft_cross_entropy_by_hand():
    label_logits = np.random.default_rng(1).standard_normal((4, 3)).astype(np.float32)
    p, log_q = softmax(label_logits), np.log(softmax(LOGITS))
    assert soft_cross_entropy(LOGITS, label_logits) == pytest.approx(-(p * log_q).sum(1).mean())
    by_logits, by_labels = jax.grad(soft_cross_entropy, argnums=(0, 1))(LOGITS, label_logits)
    np.testing.assert_allclose(by_logits, (softmax(LOGITS) - p) / 4, atol=1e-6)
    entropy = -(p * log_q).sum(1, keepdims=True)
    np.testing.assert_allclose(by_labels, -p * (log_q + entropy) / 4, atol=1e-6)


def test_certain_soft_labels_are_hard_ones():
    certain = 1e4 * np.eye(3, dtype=np.float32)[LABELS]
    hard = cross_entropy(LOGITS, LABELS)
    assert soft_cross_entropy(LOGITS, certain) == pytest.approx(float(hard), rel=1e-6)


def test_large_logits_do_not_overflow():
    large = 1e4 * LOGITS
    for loss in (cross_entropy(large, LABELS), soft_cross_entropy(large, large)):
        assert np.isfinite(loss)
    assert np.all(np.isfinite(jax.grad(cross_entropy)(large, LABELS)))


def test_results_are_float32_scalars():
    half = jnp.asarray(LOGITS, jnp.bfloat16)
    for loss in (cross_entropy(half, LABELS), soft_cross_entropy(half, half)):
        assert (loss.dtype, loss.shape) == (jnp.float32, ())


def test_mistaken_labels_are_refused():
    with pytest.raises(ValueError, match="soft_cross_entropy"):
        cross_entropy(LOGITS, LOGITS)
    with pytest.raises(ValueError, match="integer labels of shape"):
        cross_entropy(LOGITS, LABELS.astype(np.float32))
    with pytest.raises(ValueError, match="differ in shape"):
        soft_cross_entropy(LOGITS, LOGITS[:2])
