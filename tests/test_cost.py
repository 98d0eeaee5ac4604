"""FLOPs by XLA against a count by hand, layer by layer."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import cost, networks, training
from jdd.networks.layers import Conv

CLASSES = 10


def convnet(side, channels, width, depth):
    """Multiply-adds of each layer for one image: side² positions · 9 · inputs · outputs."""
    layers = []
    for _ in range(depth):
        layers.append(side * side * 9 * channels * width)
        side, channels = side // 2, width
    return [*layers, side * side * width * CLASSES]


def resnet18(side):
    """He et al., "Deep Residual Learning" (2016), with the 3×3 stem of small images."""
    layers, channels = [side * side * 9 * 3 * 64], 64
    for planes in (64, 128, 256, 512):
        side = side if planes == 64 else side // 2
        layers += [side * side * 9 * channels * planes, *[side * side * 9 * planes * planes] * 3]
        if planes != channels:
            layers.append(side * side * channels * planes)  # the 1×1 shortcut
        channels = planes
    return [*layers, 512 * CLASSES]


NETWORKS = [
    ("ConvNet", {}, (32, 32, 3), convnet(32, 3, 128, 3)),
    ("ConvNet", {}, (28, 28, 1), convnet(32, 1, 128, 3)),
    ("ConvNet", {"depth": 7}, (128, 128, 3), convnet(128, 3, 128, 7)),
    ("ResNet18", {}, (32, 32, 3), resnet18(32)),
]


def test_the_hand_count_is_the_known_one():
    """0.56 billion multiply-adds are what ResNet-18 is known for at 32×32."""
    assert sum(resnet18(32)) == pytest.approx(0.556e9, rel=2e-3)


@pytest.mark.parametrize(("name", "options", "shape", "layers"), NETWORKS)
def test_a_networks_flops_are_those_counted_by_hand(name, options, shape, layers):
    network = networks.create(name, CLASSES, **options)
    images = jax.ShapeDtypeStruct((2, *shape), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), images)["params"]

    def loss(params, images):
        return training.batch_loss(network, params, {}, images, jnp.arange(2))[0]

    forward = 2 * sum(layers)
    # Norm, ReLU and pooling as one function have 1 % more to compute than as three.
    assert cost.flops(loss, params, images) / 2 == pytest.approx(forward, rel=0.03)
    # Backward, each layer has a gradient for its kernel and, but for the first, for its input.
    backward = 2 * forward - 2 * layers[0]
    counted = cost.flops(jax.grad(loss), params, images) / 2
    assert counted == pytest.approx(forward + backward, rel=0.02)
    of_images = cost.flops(jax.grad(loss, argnums=(0, 1)), params, images) / 2
    assert of_images - counted == pytest.approx(2 * layers[0], rel=0.02)


def test_products_are_counted_exactly_and_a_loops_body_once():
    a, b = jnp.ones((3, 4)), jnp.ones((4, 5))
    assert cost.flops(jnp.matmul, a, b) == 2 * 3 * 4 * 5

    def loop(b):
        return jax.lax.scan(lambda b, _: (b @ b, None), b, None, length=7)[0]

    assert 2 * 6**3 <= cost.flops(loop, jnp.ones((6, 6))) < 2 * 2 * 6**3


@pytest.mark.parametrize("stride", [1, 2])
def test_a_layer_that_pads_beforehand_computes_the_same(stride):
    layer = Conv(4, window=3, padding=1, stride=stride)
    images = jax.random.normal(jax.random.key(1), (2, 6, 6, 3))
    variables = layer.init(jax.random.key(0), images)
    variables["params"]["bias"] += 1.0
    for add_bias in (True, False):
        expected = layer.apply(variables, images, add_bias=add_bias)
        with nn.intercept_methods(cost._pad_beforehand):
            padded = layer.apply(variables, images, add_bias=add_bias)
        np.testing.assert_allclose(padded, expected, atol=1e-6)


def test_peak_bytes_are_what_the_arrays_hold():
    compiled = jax.jit(lambda a: a @ a).lower(jnp.ones((64, 64))).compile()
    assert cost.peak_bytes(compiled) >= 2 * 4 * 64 * 64
    assert cost.peak_bytes(compiled) < 8 * 4 * 64 * 64
