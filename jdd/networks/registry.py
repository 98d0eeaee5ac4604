"""Networks by name."""

import dataclasses
from typing import Any

from jdd.errors import UserError, unknown
from jdd.networks.base import Network
from jdd.networks.convnet import ConvNet
from jdd.networks.lenet import LeNet
from jdd.networks.mlp import MLP
from jdd.networks.plain import VGG11, AlexNet
from jdd.networks.resnet import ResNet18

# The class, and the options that the name itself settles.
_NETWORKS: dict[str, tuple[type[Network], dict[str, Any]]] = {
    "ConvNet": (ConvNet, {}),
    "MLP": (MLP, {}),
    "LeNet": (LeNet, {}),
    "AlexNet": (AlexNet, {"norm": "none"}),
    "AlexNetBN": (AlexNet, {"norm": "batch"}),
    "VGG11": (VGG11, {"norm": "instance"}),
    "VGG11BN": (VGG11, {"norm": "batch"}),
    "ResNet18": (ResNet18, {"norm": "instance", "average_pool": False}),
    "ResNet18BN": (ResNet18, {"norm": "batch", "average_pool": False}),
    "ResNet18_AP": (ResNet18, {"norm": "instance", "average_pool": True}),
    "ResNet18BN_AP": (ResNet18, {"norm": "batch", "average_pool": True}),
}


# What each option is, for --help.
OPTION_WORDS = {
    "width": "channels of each layer",
    "depth": "blocks, each halving the image where there is pooling",
    "norm": "instance, batch, layer, group or none",
    "activation": "relu, leaky_relu, sigmoid or swish",
    "pooling": "avg, max or none",
}


def names() -> tuple[str, ...]:
    """The names that `create` knows, sorted."""
    return tuple(sorted(_NETWORKS))


def create(name: str, num_classes: int, **options: Any) -> Network:
    """A network by name, without parameters: `create("ConvNet", 10, width=64).init(key, images)`.

    Args:
      name: one of `names()`.
      num_classes: how many logits.
      **options: for "ConvNet" `width=128`, `depth=3`, `norm="instance"`, `activation="relu"`,
        `pooling="avg"`; for "MLP" `width=128`; the others take none.

    Returns:
      A Flax Linen module with `init(key, images)` and `apply(variables, images, train=False)` →
      logits; `method="embed"` gives the flattened features before the classifier,
      `method="feature_maps"` the post-activation maps in order. It is hashable, and so can be a
      static argument of a jitted function.

    Raises:
      UserError: an unknown name, option or choice; it names the nearest one.
    """
    network, settled = _entry(name)
    known = _free_options(name)
    for option in options:
        if not known:
            raise UserError(f"{name} takes no options, and so not '{option}'")
        if option not in known:
            raise unknown(f"option of {name}", option, known)
    return network(num_classes=num_classes, **settled, **options)


def options(name: str) -> dict[str, Any]:
    """The options that `create` takes for a network, with their defaults.

    Raises:
      UserError: an unknown name; it names the nearest one.
    """
    return _free_options(name)


def _free_options(name: str) -> dict[str, Any]:
    network, settled = _entry(name)
    fixed = {"num_classes", "parent", "name", *settled}
    return {f.name: f.default for f in dataclasses.fields(network) if f.name not in fixed}


def _entry(name: str) -> tuple[type[Network], dict[str, Any]]:
    if name not in _NETWORKS:
        raise unknown("network", name, _NETWORKS)
    return _NETWORKS[name]
