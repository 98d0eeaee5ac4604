"""Distribution matching (DM).

Zhao, Bilen: "Dataset Condensation with Distribution Matching", WACV 2023; equation 6 and algorithm
1 there.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax

from jdd.losses import distribution_matching
from jdd.methods import matching
from jdd.methods.base import Method
from jdd.methods.features import feature_matching
from jdd.settings import flag


@dataclass(frozen=True)
class DmSettings:
    """Settings of distribution matching; the defaults are the published ones below 100 images per
    class."""

    iterations: int = flag(20000, "updates of the images, each with a fresh random network")
    batch_real: int = flag(256, "real images a class and update")
    lr_img: float = flag(1.0, "rate at which images are updated, pixels per unit of gradient")
    mom_img: float = flag(0.5, "momentum of the images' updates")
    dsa: bool = flag(True, "DSA, the same on real and synthetic images")


def dm(settings: DmSettings, network: nn.Module) -> Method:
    """Distribution matching: images are moved by the gradient of

        Σ_c ‖mean ψ_θ(A_ω(real_c)) − mean ψ_θ(A_ω(synthetic_c))‖²

    with ψ_θ a random network's features before the classifier, A_ω one transform per class.

    Raises:
      UserError: settings out of range.
    """
    matching.check_range(settings, iterations=1, batch_real=1, lr_img=0.0)

    def describe(variables: dict[str, Any], images: jax.Array, train: bool) -> Any:
        return network.apply(variables, images, train, method="embed")

    return feature_matching(settings, network, describe, distribution_matching)
