"""Networks against a forward pass by hand in NumPy, and what the registry promises."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import networks
from jdd.errors import UserError

NAMES = networks.names()


def shapes(network, *image_shape, method=None, count=2):
    """Shapes of the output, without computing anything."""

    def run(images):
        return network.apply(network.init(jax.random.key(0), images), images, method=method)

    out = jax.eval_shape(run, jax.ShapeDtypeStruct((count, *image_shape), jnp.float32))
    return jax.tree.map(lambda leaf: leaf.shape, out)


def initial(network, x):
    """Variables, compiled at once: one by one, a random draw for each layer compiles for longer."""
    return jax.jit(network.init)(jax.random.key(0), x)


def images(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def convolved(image, kernel, bias):
    """3×3 convolution with padding 1 of one `(h, w, c)` image, window by window, in float64."""
    padded = np.pad(image.astype(np.float64), ((1, 1), (1, 1), (0, 0)))
    height, width, _ = image.shape
    out = np.empty((height, width, kernel.shape[-1]))
    for i, j in np.ndindex(height, width):
        out[i, j] = np.tensordot(padded[i : i + 3, j : j + 3], np.asarray(kernel), 3) + bias
    return out


@pytest.mark.parametrize("norm", ["instance", "layer", "group", "batch", "none"])
def test_convnet_by_hand(norm):
    network = networks.create("ConvNet", 3, width=8, depth=1, norm=norm)
    x = images(2, 6, 6, 3)
    variables = initial(network, x)
    params = jax.tree.map(lambda p: p + 0.3 * images(*p.shape, seed=2), variables["params"])
    block, head = params["block_0"], params["classifier"]

    maps = np.stack([convolved(i, block["conv"]["kernel"], block["conv"]["bias"]) for i in x])
    if norm != "none":
        groups = {"instance": 8, "layer": 1, "group": 4, "batch": 8}[norm]
        split = maps.reshape(2, 6, 6, groups, -1)
        axes = (0, 1, 2, 4) if norm == "batch" else (1, 2, 4)
        centred = split - split.mean(axes, keepdims=True)
        split = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + 1e-5)
        maps = split.reshape(maps.shape) * block["norm"]["scale"] + block["norm"]["bias"]
    maps = np.maximum(maps, 0)
    pooled = maps.reshape(2, 3, 2, 3, 2, 8).mean((2, 4))
    logits = pooled.reshape(2, -1) @ head["kernel"] + head["bias"]

    run = functools.partial(network.apply, {**variables, "params": params}, x, train=True)
    run = functools.partial(run, mutable=["batch_stats"])
    np.testing.assert_allclose(run()[0], logits, atol=1e-5)
    np.testing.assert_allclose(run(method="feature_maps")[0][0], maps, atol=1e-5)
    np.testing.assert_allclose(run(method="embed")[0], pooled.reshape(2, -1), atol=1e-5)


def test_batch_norm_remembers_as_pytorch_does():
    network = networks.create("ConvNet", 3, width=4, depth=1, norm="batch")
    x = images(3, 4, 4, 3)
    variables = initial(network, x)
    conv = variables["params"]["block_0"]["conv"]
    maps = np.stack([convolved(i, conv["kernel"], conv["bias"]) for i in x]).reshape(-1, 4)

    logits, state = network.apply(variables, x, train=True, mutable=["batch_stats"])
    stats = state["batch_stats"]["block_0"]["norm"]
    np.testing.assert_allclose(stats["mean"], 0.1 * maps.mean(0), atol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.9 + 0.1 * maps.var(0, ddof=1), atol=1e-6)
    # Without `mutable` the batch's statistics still count, and nothing is remembered.
    np.testing.assert_array_equal(network.apply(variables, x, train=True), logits)

    held = {**variables, **state}
    run = jax.jit(network.apply)
    one_by_one = np.concatenate([run(held, x[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(run(held, x), one_by_one, atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "sigmoid", "swish"])
def test_activations(activation):
    closed = {
        "relu": lambda z: np.maximum(z, 0),
        "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
        "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
        "swish": lambda z: z / (1 + np.exp(-z)),
    }[activation]
    make = functools.partial(networks.create, "ConvNet", 3, width=4, depth=1, norm="none")
    network, x = make(activation=activation, pooling="max"), images(1, 4, 4, 3)
    variables = initial(network, x)
    conv = variables["params"]["block_0"]["conv"]
    maps = closed(convolved(x[0], conv["kernel"], conv["bias"]))
    np.testing.assert_allclose(
        network.apply(variables, x, method="feature_maps")[0][0], maps, atol=1e-6
    )
    largest = maps.reshape(2, 2, 2, 2, 4).max((1, 3))
    np.testing.assert_allclose(
        network.apply(variables, x, method="embed")[0], largest.ravel(), atol=1e-6
    )


def test_mlp_by_hand():
    network, x = networks.create("MLP", 3), images(2, 3, 2, 1)
    variables = initial(network, x)
    out = x.reshape(2, -1)
    for name in ("block_0", "block_1"):
        dense = variables["params"][name]["dense"]
        out = np.maximum(out @ dense["kernel"] + dense["bias"], 0)
    np.testing.assert_allclose(network.apply(variables, x, method="embed"), out, atol=1e-5)
    head = variables["params"]["classifier"]
    logits = out @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(network.apply(variables, x), logits, atol=1e-5)


def test_a_grey_28x28_image_counts_as_32x32():
    network = networks.create("ConvNet", 3, width=4, depth=2)
    x = images(1, 28, 28, 1)
    variables = initial(network, x)
    framed = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    run = jax.jit(network.apply)
    np.testing.assert_allclose(run(variables, x), run(variables, framed), atol=1e-6)
    assert shapes(network, 28, 28, 3, method="embed") == (2, 7 * 7 * 4)
    assert shapes(network, 32, 32, 1, method="embed") == (2, 8 * 8 * 4)


def test_layers_start_as_pytorchs_do():
    params = initial(networks.create("LeNet", 10), images(1, 32, 32, 3))["params"]
    for layer, fan_in in (
        (params["block_1"]["conv"], 6 * 5 * 5),
        (params["block_2"]["dense"], 16 * 5 * 5),
    ):
        bound = fan_in**-0.5
        kernel = np.abs(layer["kernel"])
        assert 0.98 * bound < kernel.max() <= bound
        assert abs(layer["kernel"].std() - bound / np.sqrt(3)) < 0.02 * bound
        assert 0.5 * bound < np.abs(layer["bias"]).max() <= bound
    convnet = networks.create("ConvNet", 10, width=4, depth=1)
    norm = initial(convnet, images(1, 8, 8, 1))["params"]["block_0"]["norm"]
    assert np.all(norm["scale"] == 1)
    assert np.all(norm["bias"] == 0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("image_shape", [(28, 28, 1), (64, 64, 3), (128, 128, 1)])
def test_every_network_fits_the_usual_sizes(name, image_shape):
    network = networks.create(name, 7)
    assert shapes(network, *image_shape) == (2, 7)
    count, width = shapes(network, *image_shape, method="embed")
    assert (count, width > 7) == (2, True)


@pytest.mark.parametrize(
    ("name", "features", "maps"),
    [
        ("ConvNet", 2048, 3),
        ("MLP", 128, 2),
        ("LeNet", 84, 2),
        ("AlexNet", 3072, 5),
        ("AlexNetBN", 3072, 5),
        ("VGG11", 512, 8),
        ("VGG11BN", 512, 8),
        ("ResNet18", 512, 17),
        ("ResNet18BN", 512, 17),
        ("ResNet18_AP", 8192, 17),
        ("ResNet18BN_AP", 8192, 17),
    ],
)
def test_features_and_maps_of_the_published_networks(name, features, maps):
    network = networks.create(name, 10)
    assert shapes(network, 32, 32, 3, method="embed") == (2, features)
    map_shapes = shapes(network, 32, 32, 3, method="feature_maps")
    assert len(map_shapes) == maps
    sides = [shape[1] for shape in map_shapes]
    assert all(len(shape) == 4 for shape in map_shapes)
    assert sides == sorted(sides, reverse=True)


@pytest.mark.parametrize(
    ("name", "options", "channels", "smallest"),
    [
        ("ConvNet", {}, 3, 8),
        ("ConvNet", {"depth": 7}, 3, 128),
        ("ConvNet", {"depth": 5}, 1, 28),
        ("ConvNet", {"depth": 5}, 3, 32),
        ("ConvNet", {"pooling": "none"}, 3, 1),
        ("MLP", {}, 1, 1),
        ("LeNet", {}, 1, 12),
        ("LeNet", {}, 3, 16),
        ("AlexNet", {}, 1, 4),
        ("AlexNetBN", {}, 3, 8),
        ("VGG11", {}, 1, 28),
        ("VGG11BN", {}, 3, 32),
        ("ResNet18", {}, 3, 25),
        ("ResNet18_AP", {}, 3, 16),
        ("ResNet18BN_AP", {}, 3, 8),
    ],
)
def test_the_smallest_size_that_fits_is_named(name, options, channels, smallest):
    network = networks.create(name, 10, **options)
    assert shapes(network, smallest, smallest, channels) == (2, 10)
    if smallest > 1:
        with pytest.raises(UserError, match=f"smallest that do are {smallest}×{smallest}"):
            shapes(network, smallest - 1, smallest + 1, channels)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ConvNett", {}, "`network` 'ConvNett': did you mean 'ConvNet'"),
        ("resnet18_ap", {}, "did you mean 'ResNet18_AP'"),
        ("ConvNet", {"widht": 3}, "did you mean 'width'"),
        ("ConvNet", {"norm": "instnace"}, "did you mean 'instance'"),
        ("ConvNet", {"activation": "leakyrelu"}, "did you mean 'leaky_relu'"),
        ("ConvNet", {"pooling": "mean"}, "choose from avg, max, none"),
        ("ConvNet", {"width": 0}, "`width` 0: at least 1 is needed"),
        ("ConvNet", {"width": 10**9}, "`width` 1000000000: at most 16384"),
        ("ConvNet", {"depth": "3"}, "`depth` '3': a whole number is needed"),
        ("ConvNet", {"norm": "group", "width": 6}, "`width` 6: group norm needs a multiple of 4"),
        ("VGG11", {"norm": "batch"}, "VGG11 takes no options"),
    ],
)
def test_errors_say_what_to_write_instead(name, options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        networks.create(name, 10, **options)


def test_options_are_what_create_takes():
    assert networks.options("ConvNet") == {
        "width": 128,
        "depth": 3,
        "norm": "instance",
        "activation": "relu",
        "pooling": "avg",
    }
    assert networks.options("ResNet18") == {}
    assert hash(networks.create("ConvNet", 10)) == hash(networks.create("ConvNet", 10))
