"""Networks of one's own: what cannot be trained here is said in one line."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import networks
from jdd.errors import UserError
from jdd.methods import DatadamSettings, DmSettings, datadam, dm
from jdd.networks.check import try_out
from tests.methods import small

SHAPE = (8, 8, 1)


class Plain(nn.Module):
    """A module of a user's: a hidden layer, with whatever stands behind it."""

    num_classes: int = small.CLASSES
    behind: str = ""

    def setup(self):
        self.hidden = nn.Dense(8)
        self.classifier = nn.Dense(self.num_classes)
        if self.behind == "norm":
            self.norm = nn.BatchNorm()
        elif self.behind == "dropout":
            self.dropout = nn.Dropout(0.5)

    def embed(self, images, train=False):
        hidden = self.hidden(images.reshape(len(images), -1))
        if self.behind == "norm":
            hidden = self.norm(hidden, use_running_average=not train)
        elif self.behind == "dropout":
            hidden = self.dropout(hidden, deterministic=not train)
        return nn.relu(hidden)

    def trace(self, images, train=False):
        features = self.embed(images, train)
        return [images, images], features[:, None, None]

    def __call__(self, images, train=False):
        return self.classifier(self.embed(images, train))


class NoTrain(nn.Module):
    @nn.compact
    def __call__(self, images):
        return nn.Dense(small.CLASSES)(images.reshape(len(images), -1))


def functions(params):
    return networks.from_functions(
        lambda key, images: params,
        lambda params, images: jnp.zeros((len(images), small.CLASSES)) + params["w"],
    )


@pytest.mark.parametrize(
    ("network", "gives", "words"),
    [
        (Plain(num_classes=2), (), r"apply gives \(2, 2\) for 2 images of 3 classes"),
        (Plain(behind="dropout"), (), "apply with train=True raises InvalidRngError"),
        (NoTrain(), (), "apply with train=True raises TypeError"),
        (Plain(), ("feature_maps",), "feature_maps raises AttributeError"),
        (functions({"w": jnp.zeros(3, jnp.int32)}), (), "a parameter is int32"),
        (functions({"w": jnp.zeros(3)}), ("embed",), "was made without embed"),
    ],
)
def test_what_a_network_lacks_is_said(network, gives, words):
    with pytest.raises(UserError, match=f"^network 'Own': .*{words}") as caught:
        try_out("Own", network, SHAPE, small.CLASSES, gives)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("network", [Plain(), Plain(behind="norm")])
def test_what_can_be_trained_passes(network):
    try_out("Own", network, SHAPE, small.CLASSES, ("embed", "trace"))
    for name in ("ConvNet", "MLP"):
        try_out(name, networks.create(name, small.CLASSES, width=4), SHAPE, small.CLASSES)


@pytest.mark.parametrize(("method", "kind"), [(dm, DmSettings), (datadam, DatadamSettings)])
def test_features_of_flaxs_own_batch_norm_are_matched(method, kind):
    """Which, unlike ours, moves its statistics whenever it is called to train."""
    made = method(kind(batch_real=4, lr_img=1.0), Plain(behind="norm"))
    of, start = small.digits(8), small.start(2)
    synthetic, state = made.init(jax.random.key(0), start, of)
    moved, _, metrics = jax.jit(made.update)(synthetic, state, of)
    assert np.isfinite(metrics["loss"]) and not np.allclose(moved.images, start.images)
