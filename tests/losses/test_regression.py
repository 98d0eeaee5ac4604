"""Kernel ridge regression against float64 NumPy, in both of its forms."""

import jax
import numpy as np
import pytest

from jdd.losses import kernel_ridge_regression


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def plain(synthetic, targets, real, ridge):
    synthetic, targets, real = (a.astype(np.float64) for a in (synthetic, targets, real))
    kernel = synthetic @ synthetic.T
    n = len(kernel)
    kernel = kernel + ridge * np.trace(kernel) / n * np.eye(n)
    return real @ synthetic.T @ np.linalg.solve(kernel, targets)


@pytest.mark.parametrize("n", [4, 7, 30])
def test_it_is_the_formula_with_few_and_with_many_images(n):
    synthetic, targets, real = normal(n, 7), normal(n, 3, seed=1), normal(5, 7, seed=2)
    ours = kernel_ridge_regression(synthetic, targets, real, 1e-2)
    np.testing.assert_allclose(ours, plain(synthetic, targets, real, 1e-2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [4, 30])
def test_its_gradients_are_those_of_differences(n):
    arguments = [normal(n, 7), normal(n, 3, seed=1), normal(5, 7, seed=2)]
    weights, direction = normal(5, 3, seed=3), normal(n, 7, seed=4)

    def value(synthetic):
        return (weights * kernel_ridge_regression(synthetic, *arguments[1:], 1e-2)).sum()

    ends = [
        (weights * plain(arguments[0] + step * direction.astype(np.float64), *arguments[1:], 1e-2))
        for step in (1e-5, -1e-5)
    ]
    slope = (ends[0].sum() - ends[1].sum()) / 2e-5
    assert np.vdot(jax.grad(value)(arguments[0]), direction) == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("shapes", [((4, 7), (5, 3), (5, 7)), ((4, 7), (4, 3), (5, 6))])
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match="kernel_ridge_regression takes"):
        kernel_ridge_regression(*(np.ones(shape, np.float32) for shape in shapes))


@pytest.mark.parametrize("n", [4, 30])
def test_features_of_zero_predict_zeros(n):
    zeros, targets, real = np.zeros((n, 7), np.float32), normal(n, 3, seed=1), normal(5, 7, seed=2)
    value, slope = jax.value_and_grad(lambda s: kernel_ridge_regression(s, targets, real).sum())(
        zeros
    )
    assert value == 0 and np.isfinite(slope).all()


def test_targets_of_64_bits_are_taken_as_32():
    arguments = [normal(4, 7), normal(4, 3, seed=1), normal(5, 7, seed=2)]
    with jax.enable_x64(True):
        ours = kernel_ridge_regression(arguments[0], arguments[1].astype(np.float64), arguments[2])
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, kernel_ridge_regression(*arguments))
