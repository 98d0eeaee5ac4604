"""Cross-entropies against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd.losses import cross_entropy, soft_cross_entropy
from jdd.ops.target import compiling_for

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


@pytest.mark.parametrize("classes", [10, 20])
def test_on_a_gpu_few_classes_are_summed_one_by_one(classes):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(50 * rng.standard_normal((4, classes)), jnp.float32)
    tangent = jnp.asarray(rng.standard_normal(logits.shape), jnp.float32)
    labels = jnp.arange(4)

    def gradient_and_tangent(logits):
        gradient = jax.value_and_grad(lambda v: cross_entropy(v, labels))
        return jax.jvp(gradient, (logits,), (tangent,))

    expected = jax.tree.leaves(gradient_and_tangent(logits))
    with compiling_for("gpu"):
        computed = jax.tree.leaves(gradient_and_tangent(logits))
        text = str(jax.make_jaxpr(lambda v: cross_entropy(v, labels))(logits))
    assert ("reduce_max" in text) == (classes == 20)
    for a, b in zip(computed, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_on_a_gpu_logits_have_any_number_of_axes_too():
    logits = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 5)), jnp.float32)
    labels = jnp.array([[0, 4, 1], [2, 3, 3]])
    with compiling_for("gpu"):
        computed = [cross_entropy(logits, labels), cross_entropy(logits[0, 0], labels[0, 0])]
    expected = [cross_entropy(logits, labels), cross_entropy(logits[0, 0], labels[0, 0])]
    np.testing.assert_allclose(computed, expected, rtol=1e-6)
