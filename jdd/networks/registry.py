"""Networks by name."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from jdd.errors import SettingError, UserError, nearest, unknown_value
from jdd.files import first_line
from jdd.networks.base import Network, NetworkLike
from jdd.networks.check import try_out
from jdd.networks.convnet import ConvNet, WideConvNet
from jdd.networks.lenet import LeNet
from jdd.networks.mlp import MLP
from jdd.networks.plain import VGG11, AlexNet
from jdd.networks.resnet import ResNet18

# The class, and the options that the name itself settles.
_NETWORKS: dict[str, tuple[type[Network], dict[str, Any]]] = {
    "ConvNet": (ConvNet, {}),
    "WideConvNet": (WideConvNet, {}),
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


# What each option is, for the command line's help.
OPTION_WORDS = {
    "width": "channels of each layer",
    "depth": "blocks, each halving the image where there is pooling",
    "norm": "instance, batch, layer, group or none",
    "activation": "relu, leaky_relu, sigmoid or swish",
    "pooling": "avg, max or none",
}


_REGISTERED: dict[str, tuple[Callable[..., NetworkLike], dict[str, Any]]] = {}


def names() -> tuple[str, ...]:
    """The names that `create` knows, sorted."""
    return tuple(sorted({*_NETWORKS, *_REGISTERED}))


def register(name: str, factory: Callable[..., NetworkLike], **options: Any) -> None:
    """Registers a network of the caller's by name.

    Args:
      name: what it is called wherever a network is named.
      factory: `(num_classes, **options)` → a hashable Flax module, or what `from_functions` gives.
      **options: the factory's options with their defaults; each becomes a setting of runs.

    Raises:
      UserError: the name is taken, or what the factory makes has no `init` or `apply`.
    """
    if name in _NETWORKS:
        raise UserError(f"network '{name}': there is one of this name already, choose another")
    try:
        made = factory(2, **options)
    except Exception as error:  # whatever the factory's own code raises
        words = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"network '{name}': its factory raises {words}") from error
    for part in ("init", "apply"):
        if not callable(getattr(made, part, None)):
            raise UserError(f"network '{name}': what its factory makes has no {part}")
    try:
        hash(made)
    except TypeError:
        raise UserError(f"network '{name}': what its factory makes is not hashable") from None
    _REGISTERED[name] = (factory, options)


def create(name: str, num_classes: int, **options: Any) -> Any:
    """A network by name, without parameters: `create("ConvNet", 10, width=64).init(key, images)`.

    Args:
      name: one of `names()`.
      num_classes: how many logits.
      **options: for "ConvNet" `width=128`, `depth=3`, `norm="instance"`, `activation="relu"`,
        `pooling="avg"`; for "WideConvNet" the same, but `norm="none"`; for "MLP" `width=128`; the
        others take none.

    Returns:
      A Flax Linen module with `init(key, images)` and `apply(variables, images, train=False)` →
      logits; `method="embed"` gives the flattened features before the classifier,
      `method="feature_maps"` the post-activation maps in order. It is hashable, and so can be a
      static argument of a jitted function.

    Raises:
      UserError: an unknown name, option or choice; it names the nearest one.
    """
    available = _free_options(name)
    for option, value in options.items():
        if not available:
            raise SettingError(option, value, f"{name} takes no options")
        if option not in available:
            hint = nearest(option, available)
            raise SettingError(option, value, f"{name} has no option '{option}': {hint}")
    if name in _REGISTERED:
        factory, defaults = _REGISTERED[name]
        return factory(num_classes, **{**defaults, **options})
    network, settled = _entry(name)
    return network(num_classes=num_classes, **settled, **options)


def check_own(
    name: str,
    network: NetworkLike,
    image_shape: tuple[int, int, int],
    num_classes: int,
    gives: Sequence[str] = (),
) -> None:
    """Raises `UserError` where a network that the caller registered cannot be trained here; see
    `jdd.networks.check.try_out`. Those of this package pass."""
    if name in _REGISTERED:
        try_out(name, network, image_shape, num_classes, gives)


def options(name: str) -> dict[str, Any]:
    """The options that `create` takes for a network, with their defaults.

    Raises:
      UserError: an unknown name; it names the nearest one.
    """
    return _free_options(name)


def _free_options(name: str) -> dict[str, Any]:
    if name in _REGISTERED:
        return dict(_REGISTERED[name][1])
    network, settled = _entry(name)
    fixed = {"num_classes", "parent", "name", *settled}
    return {f.name: f.default for f in dataclasses.fields(network) if f.name not in fixed}


def _entry(name: str) -> tuple[type[Network], dict[str, Any]]:
    if name not in _NETWORKS:
        raise unknown_value(
            "network", name, names(), "; one of your own: name its file by `plugin`"
        )
    return _NETWORKS[name]
