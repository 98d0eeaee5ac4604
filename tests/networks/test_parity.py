"""Logits of every published network that the parity file holds."""

import re

import jax
import pytest

from jdd import networks
from jdd.interop import params_from_torch
from tests import parity


def make(name):
    """'ConvNet-instancenorm-relu-avgpooling-w32-d3-1x28' → the network that it spells."""
    kind, *make_up = name.rsplit("-", 1)[0].split("-")
    if kind != "ConvNet":
        return networks.create(kind, 10)
    norm, activation, pooling, width, depth = make_up
    return networks.create(
        kind,
        10,
        norm=norm.removesuffix("norm"),
        activation={"leakyrelu": "leaky_relu"}.get(activation, activation),
        pooling=re.sub("pooling$", "", pooling),
        width=int(width[1:]),
        depth=int(depth[1:]),
    )


@pytest.mark.parametrize("name", parity.network_names())
def test_logits_are_the_published_networks(name):
    listed = parity.network(name)
    network = make(name)
    state = parity.state(listed["state"], listed["seed"])
    variables = params_from_torch(network, state, (28, 28, 1))
    logits = jax.jit(network.apply)(variables, parity.image(listed["seed"] + 1000, 3))
    assert parity.relative_error(logits, parity.outputs()[f"net/{name}/logits"]) < 1e-4
