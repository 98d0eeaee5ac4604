"""PyTorch weights, against PyTorch's own layout worked out in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

from jdd import networks
from jdd.errors import UserError
from jdd.interop import params_from_torch

rng = np.random.default_rng(0)


def tensor(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def convnet_state():
    """A ConvNet of width 4 and depth 1 with layer norm, on 4×2 images of 3 channels."""
    return {
        "features.0.weight": tensor(4, 3, 3, 3),
        "features.0.bias": tensor(4),
        "features.1.weight": tensor(4, 4, 2),
        "features.1.bias": tensor(4, 4, 2),
        "classifier.weight": tensor(5, 4 * 2 * 1),
        "classifier.bias": tensor(5),
    }


CONVNET = networks.create("ConvNet", 5, width=4, depth=1, norm="layer")
SHAPE = (4, 2, 3)


def test_convnet_in_pytorchs_layout_gives_the_same_logits():
    state, nchw = convnet_state(), tensor(3, 4, 2)
    padded = np.pad(nchw, ((0, 0), (1, 1), (1, 1)))
    maps = np.empty((4, 4, 2))
    for i, j in np.ndindex(4, 2):
        window = padded[:, i : i + 3, j : j + 3]
        maps[:, i, j] = np.tensordot(state["features.0.weight"], window, 3)
    maps += state["features.0.bias"][:, None, None]
    maps = (maps - maps.mean()) / np.sqrt(maps.var() + 1e-5)
    maps = np.maximum(maps * state["features.1.weight"] + state["features.1.bias"], 0)
    pooled = maps.reshape(4, 2, 2, 1, 2).mean((2, 4))
    logits = state["classifier.weight"] @ pooled.ravel() + state["classifier.bias"]

    variables = params_from_torch(CONVNET, state, SHAPE)
    image = jnp.asarray(nchw.transpose(1, 2, 0))[None]
    np.testing.assert_allclose(CONVNET.apply(variables, image)[0], logits, atol=1e-5)


def test_the_mlp_sees_pixels_channel_first():
    network = networks.create("MLP", 5)
    state = {
        "fc_1.weight": tensor(128, 3 * 4 * 2),
        "fc_1.bias": tensor(128),
        "fc_2.weight": tensor(128, 128),
        "fc_2.bias": tensor(128),
        "fc_3.weight": tensor(5, 128),
        "fc_3.bias": tensor(5),
    }
    nchw = tensor(3, 4, 2)
    out = nchw.ravel()
    for name in ("fc_1", "fc_2"):
        out = np.maximum(state[f"{name}.weight"] @ out + state[f"{name}.bias"], 0)
    variables = params_from_torch(network, state, SHAPE)
    image = jnp.asarray(nchw.transpose(1, 2, 0))[None]
    logits = state["fc_3.weight"] @ out + state["fc_3.bias"]
    np.testing.assert_allclose(network.apply(variables, image)[0], logits, rtol=1e-4)


def test_order_and_parallel_prefix_do_not_matter():
    state = convnet_state()
    shuffled = {f"module.{name}": state[name] for name in reversed(state)}
    ours, theirs = (params_from_torch(CONVNET, s, SHAPE)["params"] for s in (shuffled, state))
    np.testing.assert_array_equal(ours["classifier"]["kernel"], theirs["classifier"]["kernel"])


def test_running_statistics_come_along():
    network = networks.create("ConvNet", 5, width=4, depth=1, norm="batch")
    state = convnet_state() | {
        "features.1.weight": tensor(4),
        "features.1.bias": tensor(4),
        "features.1.running_mean": tensor(4),
        "features.1.running_var": tensor(4),
        "features.1.num_batches_tracked": np.array(3),
    }
    stats = params_from_torch(network, state, SHAPE)["batch_stats"]["block_0"]["norm"]
    np.testing.assert_array_equal(stats["mean"], state["features.1.running_mean"])
    np.testing.assert_array_equal(stats["var"], state["features.1.running_var"])


def test_errors_name_the_tensor():
    state = convnet_state()
    without = {name: state[name] for name in state if name != "features.1.bias"}
    with pytest.raises(UserError, match=r"no 'features.1.bias'"):
        params_from_torch(CONVNET, without, SHAPE)
    with pytest.raises(UserError, match=r"no place for PyTorch's features\.4\.weight"):
        params_from_torch(CONVNET, state | {"features.4.weight": tensor(1)}, SHAPE)
    with pytest.raises(UserError, match=r"'classifier\.\w+' has shape \(5,"):
        params_from_torch(CONVNET.clone(num_classes=6), state, SHAPE)
