"""Distribution matching (DM).

Zhao, Bilen: "Dataset Condensation with Distribution Matching", WACV 2023; equation 6 and algorithm
1 there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from jdd.losses import distribution_matching
from jdd.methods.base import Method
from jdd.methods.features import FeatureSettings, feature_matching, looked_through
from jdd.methods.presets import Preset, Row
from jdd.networks import NetworkLike


@dataclass(frozen=True)
class DmSettings(FeatureSettings):
    """Settings of distribution matching; the defaults are the published ones below 100 images per
    class."""

    network_gives = ("embed",)


def dm(settings: DmSettings, network: NetworkLike) -> Method:
    """Distribution matching: images are moved by the gradient of

        Σ_c ‖mean ψ_θ(A_ω(real_c)) − mean ψ_θ(A_ω(synthetic_c))‖²

    with ψ_θ a random network's features before the classifier, A_ω one transform per class.
    """

    def describe(variables: dict[str, Any], images: jax.Array, train: bool) -> Any:
        return looked_through(network, variables, images, train, "embed")

    return feature_matching(settings, network, describe, distribution_matching)


_COUNTS: Mapping[int, Row] = {1: {}, 10: {}, 50: {}}
_LARGE: Mapping[int, Row] = {count: {"lr_img": 10.0} for count in (100, 200, 500, 1000, 1250)}
_PAPER = Preset(
    {
        "mnist": _COUNTS,
        "cifar10": {**_COUNTS, **_LARGE},
        "cifar100": {**_COUNTS, 100: {}, 125: {}},
        "tiny_imagenet": {count: {"depth": 4, "chunk": 5} for count in (1, 10, 50)},
    },
    "cifar10",
    {"chunk": 50, "eval_every": 2000},
)
_ZCA = {"preprocessing": "zca"}
# Losses of features sum over channels: width 32 wants four times the image rate of 128.
_QUICK_CIFAR10: Row = {"iterations": 1200, "lr_img": 4.0, "eval_every": 200, **_ZCA}
_QUICK = Preset(
    {
        "mnist": {
            1: {"iterations": 500, "lr_img": 4.0},
            10: {"iterations": 600, "lr_img": 10.0, "eval_every": 200},
        },
        "cifar10": {1: _QUICK_CIFAR10, 10: {**_QUICK_CIFAR10, "factor": 2, "eval_epochs": 300}},
        "digits": {1: {"iterations": 300, "lr_img": 3.0}},
    },
    "mnist",
    {"batch_real": 64, "chunk": 10},
)
PRESETS = {"quick": _QUICK, "paper": _PAPER, "released": _PAPER}
