"""The shared program against the registry's ConvNet; first values; the sequential networks."""

import itertools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jdd import networks
from jdd.losses import cross_entropy
from jdd.networks import layers
from jdd.networks.fresh import fresh_variables
from jdd.networks.sequential import Sequential
from jdd.networks.shared import ACTIVATIONS, Choice, SharedConvNet

WIDTH, DEPTH = 8, 1
LABELS = jnp.arange(6) % 3


def images(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def drawn(module, *arguments):
    """Variables with nothing at its first value, so that nothing is left out unseen."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *arguments)
    variables = fresh_variables(shapes, np.random.default_rng(0))
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda v: (v + 0.2 * rng.uniform(0, 1, v.shape)).astype(np.float32), variables
    )


def of_convnet(variables, norm):
    """The variables of a shared module as the registry's ConvNet of this norm has them."""
    flat = {}
    for path, value in flax.traverse_util.flatten_dict(variables).items():
        if "norm" not in path:
            flat[path] = value
        elif path[0] == "batch_stats":
            flat |= {path: value} if norm == "batch" else {}
        elif norm != "none":
            flat[path] = value if norm == "layer" else value[0, 0]
    return flax.traverse_util.unflatten_dict(flat)


def results(apply):
    """Function of variables → (loss and new statistics, gradient), and logits in evaluation."""

    def of(variables, x, *choice):
        def loss(params):
            moved = {**variables, "params": params}
            logits, new = apply(moved, x, *choice, train=True, mutable=["batch_stats"])
            return cross_entropy(logits, LABELS), new.get("batch_stats", {})

        return jax.value_and_grad(loss, has_aux=True)(variables["params"]), apply(
            variables, x, *choice
        )

    return of


@pytest.mark.parametrize("pooled", [pytest.param(True, marks=pytest.mark.slow), False])
def test_every_choice_is_the_registrys_convnet(pooled):
    x = images(6, 9, 9, 2)
    module = SharedConvNet(3, WIDTH, DEPTH, pooled)
    first = Choice.of(networks.create("ConvNet", 3))
    variables = drawn(module, x, first)
    shared = jax.jit(results(module.apply))
    for norm, activation in itertools.product(layers.NORMS, ACTIVATIONS):
        for pooling in ("max", "avg") if pooled else ("none",):
            options = {"norm": norm, "activation": activation, "pooling": pooling}
            network = networks.create("ConvNet", 3, width=WIDTH, depth=DEPTH, **options)
            with jax.default_matmul_precision("highest"):
                ((loss, new), gradient), logits = shared(variables, x, Choice.of(network))
                ((expected, stats_), grads), tested = results(network.apply)(
                    of_convnet(variables, norm), x
                )
            ours = of_convnet({"params": gradient, "batch_stats": new}, norm)
            np.testing.assert_allclose(loss, expected, rtol=1e-5, err_msg=str(options))
            np.testing.assert_allclose(logits, tested, atol=2e-5, err_msg=str(options))
            theirs = {"params": grads, **({"batch_stats": stats_} if stats_ else {})}
            assert jax.tree.structure(ours) == jax.tree.structure(theirs), options
            for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
                np.testing.assert_allclose(a, b, atol=3e-5, err_msg=str(options))
            # What this norm does not have stays as it is.
            if norm != "batch":
                for a, b in zip(
                    *map(jax.tree.leaves, (new, variables["batch_stats"])), strict=True
                ):
                    np.testing.assert_array_equal(a, b)
            if norm != "layer":
                scale = np.array(gradient["block_0"]["norm"]["scale"])
                assert not scale.ravel()[0 if norm == "none" else WIDTH :].any()


@pytest.mark.parametrize("name", ["ConvNet", "ResNet18BN"])
def test_first_values_are_distributed_as_the_modules_own(name):
    network = networks.create(name, 10, **({"norm": "layer"} if name == "ConvNet" else {}))
    shapes = jax.eval_shape(network.init, jax.random.key(0), images(1, 32, 32, 3))
    drawn_values = fresh_variables(shapes, np.random.default_rng(0))
    assert jax.tree.structure(drawn_values) == jax.tree.structure(shapes)
    flat = flax.traverse_util.flatten_dict(drawn_values)
    for path, value in flat.items():
        assert value.shape == flax.traverse_util.flatten_dict(shapes)[path].shape
        assert value.dtype == np.float32
        kernel = flat.get((*path[:-1], "kernel"))
        if kernel is None:
            assert np.all(value == (1 if path[-1] in ("scale", "var") else 0)), path
        else:
            # PyTorch's: U(−b, b) with b = 1/√fan_in, for weights and biases.
            bound = np.sqrt(1 / np.prod(kernel.shape[:-1]))
            sample = value.ravel()[:20000]
            assert stats.kstest(sample, stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-4, path


def test_sequential_by_other_means():
    network = Sequential(10, (4, 6), (5,))
    x = images(3, 8, 8, 2)
    variables = drawn(network, x)
    params = variables["params"]
    y = x
    for i in range(2):
        kernel, bias = params[f"block_{i}"]["conv"]["kernel"], params[f"block_{i}"]["conv"]["bias"]
        y = jax.lax.conv_general_dilated(
            y, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        y = np.maximum(y + bias, 0)
        y = jax.lax.reduce_window(y, -np.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    dense = params["block_2"]["dense"]
    y = np.maximum(np.asarray(y).reshape(3, -1) @ dense["kernel"] + dense["bias"], 0)
    y = y @ params["classifier"]["kernel"] + params["classifier"]["bias"]
    np.testing.assert_allclose(network.apply(variables, x), y, atol=1e-4)
    assert params["block_2"]["dense"]["kernel"].shape == (2 * 2 * 6, 5)
    assert Sequential(10, (32, 64, 128)).fits((8, 8, 1))
    assert not Sequential(10, (32, 64, 128)).fits((7, 7, 1))
