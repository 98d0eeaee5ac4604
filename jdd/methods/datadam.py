"""Attention matching (DataDAM).

Sajedi, Khaki, Amjadian, Liu, Lawryshyn, Plataniotis: "DataDAM: Efficient Dataset Distillation with
Attention Matching", ICCV 2023; equations 3 to 5 there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from jdd.losses import distribution_matching, spatial_attention
from jdd.methods.base import Method
from jdd.methods.features import FeatureSettings, feature_matching, looked_through
from jdd.methods.presets import Preset, Row
from jdd.networks import NetworkLike
from jdd.networks.base import flatten
from jdd.settings import setting


@dataclass(frozen=True)
class DatadamSettings(FeatureSettings):
    """Settings of attention matching; the defaults are the paper's below 51 images per class.

    The factor of 100 is not in the paper's equations, but in its code, and the rate of 1 goes with
    it. The released code's own settings are the preset `released`.
    """

    network_gives = ("trace",)

    iterations: int = setting(8000, "updates, each with a fresh random network", min=1)
    power: float = setting(4.0, "exponent of the attention, p in the paper", min=1)
    balance: float = setting(0.01, "weight of the last layer's features, λ in the paper", min=0)
    loss_scale: float = setting(
        100.0, "factor on the whole loss, as the code of the paper has it", above=0
    )


class _Description(NamedTuple):
    """What a network makes of images."""

    attention: list[jax.Array]  # spatial, behind each activation but the last, each (n, h·w)
    features: jax.Array  # (n, d), before the classifier


def datadam(settings: DatadamSettings, network: NetworkLike) -> Method:
    """Attention matching: images are moved by the gradient of

        Σ_c ( Σ_{layers but the last} ‖mean a(real_c) − mean a(synthetic_c)‖²
              + λ ‖mean ψ(real_c) − mean ψ(synthetic_c)‖² )

    with a the normalised spatial attention of a layer, ψ the features before the classifier, both
    of a fresh random network.
    """
    # A whole power is products; any other costs a logarithm and an exponential for every entry.
    power = int(settings.power) if float(settings.power).is_integer() else settings.power

    def describe(variables: dict[str, Any], images: jax.Array, train: bool) -> _Description:
        traced: Any = looked_through(network, variables, images, train, "trace")
        maps, last = traced
        # Not the maps: attention is a hundredth of their size, and all the loss takes of them.
        return _Description([spatial_attention(m, power) for m in maps[:-1]], flatten(last))

    def distance(synthetic: _Description, real: _Description) -> jax.Array:
        # `jdd.losses.attention_matching` is this sum.
        pairs = zip(synthetic.attention, real.attention, strict=True)
        attention = sum(distribution_matching(ours, theirs) for ours, theirs in pairs)
        last = distribution_matching(synthetic.features, real.features)
        return settings.loss_scale * (attention + settings.balance * last)

    return feature_matching(settings, network, describe, distance)


_DATASETS = ("cifar10", "cifar100", "tiny_imagenet", "imagenet")
_LARGE: Mapping[str, Row] = {  # the paper's "high resolution"
    "mhist": {"balance": 0.02, "chunk": 5},
    "tiny_imagenet": {"balance": 0.02, "depth": 4, "chunk": 5},
    "imagenet": {"balance": 0.02, "depth": 5, "chunk": 5},
}
_FROM_51: Mapping[int, Row] = {1: {}, 10: {}, 50: {}, 51: {"lr_img": 10.0}}  # above 50
_FROM_100: Mapping[int, Row] = {1: {}, 10: {}, 50: {}, 100: {"lr_img": 10.0}}
_PAPER = Preset(
    dict.fromkeys(_DATASETS, _FROM_51),
    "cifar10",
    {"chunk": 50, "eval_every": 1000},
    _LARGE,
    any_from=51,
)
_RELEASED = Preset(
    dict.fromkeys(_DATASETS, _FROM_100),
    "cifar10",
    {
        "chunk": 50,
        "power": 1.0,
        "batch_real": 64,
        "iterations": 20000,
        "norm": "batch",
        "eval_epochs": 1800,
        "eval_batch": 64,
        "eval_every": 2000,
    },
    {  # its networks for these: `ConvNetD4`, `ConvNet128IN`
        **_LARGE,
        "tiny_imagenet": {**_LARGE["tiny_imagenet"], "norm": "instance"},
        "imagenet": {**_LARGE["imagenet"], "depth": 6},
    },
)
_ZCA = {"preprocessing": "zca"}
_QUICK_SMALLER = {"factor": 2, "eval_every": 200, "eval_epochs": 300}  # four images in one's place
_QUICK = Preset(
    {
        "mnist": {
            1: {"iterations": 500, "lr_img": 0.1},
            10: {**_QUICK_SMALLER, "iterations": 400, "lr_img": 1.0, "batch_real": 256},
        },
        "cifar10": {
            1: {"iterations": 1200, "lr_img": 0.1, "eval_every": 200, **_ZCA},
            10: {**_QUICK_SMALLER, "iterations": 800, "lr_img": 1.0, **_ZCA},
        },
        "digits": {1: {"iterations": 300, "lr_img": 0.3}},
        "mhist": {50: {"iterations": 500, "lr_img": 0.1}},
    },
    "mnist",
    {"batch_real": 64, "chunk": 10},
)
PRESETS = {"quick": _QUICK, "paper": _PAPER, "released": _RELEASED}
