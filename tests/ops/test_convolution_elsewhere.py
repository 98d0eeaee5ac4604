"""Convolution on accelerators: left to XLA, or the product of patches."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jdd.ops import _convolution_tpu as tpu
from jdd.ops import conv2d, convolution
from jdd.ops._window import Window
from tests.ops.convolutions import agree, arrays, energy, reference


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def test_elsewhere_xla_convolves():
    """For a GPU all three products lower to plain XLA convolutions, models to a grouped one."""
    point, _, options = arrays("3x3")
    gradients = jax.grad(energy(conv2d, options), (0, 1))
    models = [jnp.stack([v] * 3) for v in point]
    for f, args in ((gradients, point), (jax.vmap(gradients), models)):
        text = export.export(jax.jit(f), platforms=["cuda"])(*args).mlir_module()
        assert text.count("stablehlo.convolution") == 3
        assert "stablehlo.while" not in text
    # A library's gradient of several kernels has groups of batches, none of channels.
    groups = re.findall(r"batch_group_count = (\d+) : i64, feature_group_count = (\d+)", text)
    assert sorted(groups) == [("1", "3"), ("1", "3"), ("3", "1")]


@pytest.mark.parametrize("name", ["3x3", "first layer of a grey image"])
def test_kernels_of_several_models_at_once(name):
    (x, k), _, (padding, _) = arrays(name)
    window = Window(x.shape[1:3], k.shape[:2], ((padding, padding),) * 2, (1, 1))
    y = reference(x, k, padding, 1)
    models = [jnp.stack([v, jnp.cos(v), 2 * v]) for v in (x, jnp.sin(y))]
    ours = convolution._gpu_kernel_gradients(*models, window)
    for of, x, g in zip(ours, *models, strict=True):
        agree(of, jax.vjp(lambda k, x=x: reference(x, k, padding, 1), k)[1](g)[0])


@pytest.mark.parametrize("stride", [1, 2])
def test_a_tpus_products_of_patches(stride):
    (x, k), _, (padding, _) = arrays("first layer of a grey image")
    window = Window(x.shape[1:3], k.shape[:2], ((padding, padding),) * 2, (stride, stride))
    y, pull = jax.vjp(lambda k: reference(x, k, padding, stride), k)
    agree(tpu.forward(x, k, window), y)
    agree(tpu.kernel_gradient(x, jnp.sin(y), window), pull(jnp.sin(y))[0])


@pytest.mark.parametrize(
    ("precision", "error"), [("tensorfloat32", 2e-5), ("float32", 1e-7), (None, 1e-2)]
)
def test_passes_on_a_tpu_add_up_to_the_product(precision, error):
    """A pass rounds its factors to bfloat16; three leave 2⁻¹⁶ of a product, six float32's own."""

    def one(x, w, window):
        assert window.precision in ("default", None)
        return tpu.rounded(x).astype(float) @ tpu.rounded(w).astype(float)

    rng = np.random.default_rng(0)
    x, w = (jnp.asarray(rng.normal(size=(64, 64)), jnp.float32) for _ in "xw")
    window = Window((8, 8), (3, 3), ((1, 1), (1, 1)), (1, 1), precision)
    passed = jax.jit(tpu.in_passes(one), static_argnums=2)(x, w, window)
    exact = x.astype(float) @ w.astype(float)
    largest = float(jnp.abs(passed - exact).max() / jnp.abs(exact).max())
    assert error / 20 < largest < error


@pytest.mark.parametrize(
    ("count", "dtype", "precision"),
    [
        (3, jnp.bfloat16, "float32"),
        (3, jnp.float64, "float32"),
        (2**22, jnp.float32, "float32"),
        (3, jnp.float32, "bfloat16"),
    ],
)
def test_other_products_on_a_tpu_are_left_to_xla(count, dtype, precision):
    asked = []

    def product(x, w, window):
        asked.append(window.precision)
        return x * w

    window = Window((8, 8), (3, 3), ((1, 1), (1, 1)), (1, 1), precision)
    tpu.in_passes(product)(jnp.ones(count, dtype), jnp.ones(1, dtype), window)
    assert asked[-1] == precision


@pytest.mark.parametrize(("name", "word"), [("float32", "HIGHEST"), ("tensorfloat32", "HIGH")])
def test_a_precision_reaches_what_accelerators_run(name, word):
    """It is that of the context in which a function is traced, though it is lowered outside."""
    (x, k), _, options = arrays("3x3")

    def energy(x, k):
        with jax.default_matmul_precision(name):
            return jax.grad(lambda k: jnp.sum(conv2d(x, k, *options) ** 2))(k)

    lowered = jax.jit(energy).trace(x, k).lower(lowering_platforms=("cuda",)).as_text()
    convolutions = [line for line in lowered.splitlines() if "stablehlo.convolution" in line]
    assert len(convolutions) == 2
    assert all(f"<{word}>" in line or f"precision {word}" in line for line in convolutions)
