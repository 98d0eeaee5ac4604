"""Search spaces: networks to choose from, and the compiled programs that they share."""

import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jdd.networks import create, layers
from jdd.networks.base import Network
from jdd.networks.convnet import ConvNet
from jdd.networks.sequential import Sequential
from jdd.networks.shared import ACTIVATIONS, Choice, SharedConvNet

Options = Mapping[str, Any]  # plain JSON


class Program(NamedTuple):
    """What is compiled for a network, and what that program is told when it runs."""

    module: Any  # a hashable Flax module
    choice: Choice | None = None  # for a `SharedConvNet`


class Space(NamedTuple):
    """Networks to choose from."""

    options: tuple[Options, ...]
    network: Callable[[Options, int], Network]
    """of these options, for so many classes"""
    program: Callable[[Network], Program]
    adam: bool  # how its networks are trained: by Adam, else by SGD as the published recipe has it
    learning_rate: float


def name(options: Options) -> str:
    """A network in a few characters: "width 64, depth 3, norm batch"."""
    return ", ".join(
        f"{key} {'-'.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for key, value in options.items()
    )


def _convnet(options: Options, num_classes: int) -> Network:
    network: Network = create("ConvNet", num_classes, **options)
    return network


def _sequential(options: Options, num_classes: int) -> Network:
    return Sequential(num_classes, tuple(options["channels"]), tuple(options["dense"]))


def _shared(network: Network) -> Program:
    assert isinstance(network, ConvNet)
    pooled = network.pooling != "none"
    module = SharedConvNet(network.num_classes, network.width, network.depth, pooled)
    return Program(module, Choice.of(network))


def _product(**values: Any) -> tuple[Options, ...]:
    return tuple(
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    )


SPACES = {
    # Zhao et al., "Dataset Condensation with Gradient Matching", 2021, section 4.2.
    "convnets": Space(
        _product(
            width=(32, 64, 128, 256),
            depth=(1, 2, 3, 4),
            norm=layers.NORMS,
            activation=ACTIVATIONS,
            pooling=("none", "max", "avg"),
        ),
        _convnet,
        _shared,
        adam=False,
        learning_rate=0.01,
    ),
    "sequential": Space(
        _product(
            channels=([32], [32, 64], [64, 128], [32, 64, 128]),
            dense=([128], [128, 64], [256]),
        ),
        _sequential,
        Program,
        adam=True,
        learning_rate=0.001,
    ),
}
