"""Convolution by rows with half of the multiplications, against XLA's own in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jdd.ops import _winograd as winograd
from jdd.ops import conv2d

# n, h, w, c, kernel's width, o, margins
CASES = {
    "one tile": (2, 4, 5, 3, 3, 4, ((1, 1), (1, 1))),
    "tiles that are full": (3, 12, 7, 4, 3, 2, ((1, 1), (1, 1))),
    "a last tile that is not": (2, 7, 6, 3, 3, 5, ((1, 1), (1, 1))),
    "no margins": (2, 9, 6, 3, 3, 2, ((0, 0), (0, 0))),
    "uneven margins": (1, 6, 6, 2, 3, 3, ((0, 3), (2, 1))),
    "another width": (2, 8, 9, 2, 5, 3, ((1, 1), (2, 2))),
    "one column": (2, 8, 3, 2, 1, 3, ((1, 1), (0, 0))),
}


def direct(x, w, margins):
    return lax.conv_general_dilated(
        x, w, (1, 1), margins, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def arrays(n, h, w, c, width, o, margins, dtype=np.float64):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(n, h, w, c)), rng.normal(size=(3, width, c, o))
    (above, below), (left, right) = margins
    g = rng.normal(size=(n, h + above + below - 2, w + left + right - width + 1, o))
    return (jnp.asarray(v, dtype) for v in (x, kernel, g))


@pytest.mark.parametrize("case", CASES)
def test_it_is_the_convolution_and_its_gradient(case):
    with jax.enable_x64(True):
        *_, width, _, margins = CASES[case]
        x, w, g = arrays(*CASES[case])
        direct_sum, back = jax.vjp(lambda w: direct(x, w, margins), w)
        np.testing.assert_allclose(winograd.convolve(x, w, margins), direct_sum, atol=1e-12)
        np.testing.assert_allclose(
            winograd.kernel_gradient(x, g, width, margins), back(g)[0], atol=1e-12
        )


def test_rows_that_are_cut_off():
    with jax.enable_x64(True):
        x, w, _ = arrays(2, 11, 6, 3, 3, 2, ((1, 1), (1, 1)))
        np.testing.assert_allclose(
            winograd.convolve(x, w, ((-1, -2), (1, -1))),
            direct(x[:, 1:-2, :-1], w, ((0, 0), (1, 0))),
        )


def test_float32_loses_little_more_than_a_bit():
    """Of the direct sum's 3.5e-7; with the points 0, ±1, ±2 it would be 1.2e-6."""
    margins = ((1, 1), (1, 1))
    with jax.enable_x64(True):
        x, w, g = arrays(10, 16, 16, 128, 3, 128, margins, np.float32)
        exact, back = jax.vjp(lambda w: direct(x.astype(float), w, margins), w.astype(float))
        for ours, exact_result in (
            (winograd.convolve(x, w, margins), exact),
            (winograd.kernel_gradient(x, g, 3, margins), back(g.astype(float))[0]),
        ):
            assert ours.dtype == jnp.float32
            distance = np.sqrt(np.mean((ours - exact_result) ** 2) / np.mean(exact_result**2))
            assert distance < 1e-6


def kernels(x, w):
    """Shapes of the kernels of all convolutions that are computed for the product of x and w."""
    text = jax.jit(conv2d).trace(x, w).lower(lowering_platforms=("cpu",)).as_text()
    lines = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    return [line.split("tensor<")[2].split("xf32>")[0] for line in lines]


@pytest.mark.parametrize(
    ("images", "channels", "expected"),
    [(10, 128, ["1x3x128x128"] * 6), (2, 128, ["3x3x128x128"]), (40, 32, ["3x3x32x32"])],
)
def test_it_is_taken_where_products_are_large(images, channels, expected):
    x, w = jnp.ones((images, 8, 8, channels)), jnp.ones((3, 3, channels, channels))
    assert kernels(x, w) == expected


def test_tiles_that_would_be_half_empty_are_not_made():
    single = np.dtype(np.float32)
    assert [n for n in range(1, 13) if not winograd.fits(3, (1, 1), n, single)] == [1, 2, 5]
    assert not winograd.fits(5, (1, 1), 8, single) and not winograd.fits(3, (1, 2), 8, single)
    assert not winograd.fits(3, (1, 1), 8, np.dtype(jnp.bfloat16))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_arrays_of_16_bits_are_rounded_as_by_the_direct_sum(dtype):
    x, w, _ = arrays(10, 8, 8, 128, 3, 128, ((1, 1), (1, 1)), np.float32)
    x, w = x.astype(dtype), (w / 40).astype(dtype)

    def value_and_gradients(conv):
        value, back = jax.vjp(conv, x, w)
        return [v.astype(jnp.float32) for v in (value, *back(value))]

    ours, theirs = (
        value_and_gradients(conv2d),
        value_and_gradients(lambda x, w: direct(x, w, ((1, 1), (1, 1)))),
    )
    for a, b in zip(ours, theirs, strict=True):
        distance = np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2))
        assert distance < 2 * float(jnp.finfo(dtype).eps)
