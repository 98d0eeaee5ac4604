"""Attention matching (DataDAM).

Sajedi, Khaki, Amjadian, Liu, Lawryshyn, Plataniotis: "DataDAM: Efficient Dataset Distillation with
Attention Matching", ICCV 2023; equations 3 to 5 there.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from jdd.errors import UserError
from jdd.losses import distribution_matching, spatial_attention
from jdd.methods import matching
from jdd.methods.base import Method
from jdd.methods.features import feature_matching
from jdd.networks.base import flatten
from jdd.settings import flag


@dataclass(frozen=True)
class DatadamSettings:
    """Settings of attention matching; the defaults are the paper's below 51 images per class.

    The factor of 100 is not in the paper's equations, but in its code, and the rate of 1 goes with
    it. The released code's own settings are the preset `released`.
    """

    iterations: int = flag(8000, "updates of the images, each with a fresh random network")
    batch_real: int = flag(256, "real images a class and update")
    lr_img: float = flag(1.0, "rate at which images are updated, pixels per unit of gradient")
    mom_img: float = flag(0.5, "momentum of the images' updates")
    dsa: bool = flag(True, "DSA, the same on real and synthetic images")
    power: float = flag(4.0, "exponent of the attention, p in the paper")
    balance: float = flag(0.01, "weight of the last layer's features, λ in the paper")
    loss_scale: float = flag(100.0, "factor on the whole loss, as the code of the paper has it")


class _Description(NamedTuple):
    """What a network makes of images."""

    attention: list[jax.Array]  # spatial, behind each activation but the last, each (n, h·w)
    features: jax.Array  # (n, d), before the classifier


def datadam(settings: DatadamSettings, network: nn.Module) -> Method:
    """Attention matching: images are moved by the gradient of

        Σ_c ( Σ_{layers but the last} ‖mean a(real_c) − mean a(synthetic_c)‖²
              + λ ‖mean ψ(real_c) − mean ψ(synthetic_c)‖² )

    with a the normalised spatial attention of a layer, ψ the features before the classifier, both
    of a fresh random network.

    Raises:
      UserError: settings out of range.
    """
    matching.check_range(settings, iterations=1, batch_real=1, lr_img=0.0, loss_scale=0.0)
    if not 1 <= settings.power < float("inf"):
        raise UserError(f"--power {settings.power}: at least 1 is needed")
    if not 0 <= settings.balance < float("inf"):
        raise UserError(f"--balance {settings.balance}: 0 or a number above it")
    # A whole power is products; any other costs a logarithm and an exponential for every entry.
    power = int(settings.power) if settings.power.is_integer() else settings.power

    def describe(variables: dict[str, Any], images: jax.Array, train: bool) -> _Description:
        traced: Any = network.apply(variables, images, train, method="trace")
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
