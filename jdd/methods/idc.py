"""Gradient matching at networks trained on real images (IDC).

Kim, Kim, Oh, Yun, Song, Jeong, Ha, Song: "Dataset Condensation via Efficient Synthetic-Data
Parameterization", ICML 2022; section 4 there. Settings from its released code
(snu-mllab/Efficient-Dataset-Condensation). Multi-formation, its other half, is in
`jdd.synthetic.decoders`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jdd.augment import augment_stacked, check_kinds
from jdd.data import DeviceData
from jdd.experts import Segment
from jdd.losses import GRADIENT_METRICS, gradient_matching, hidden_kernels
from jdd.methods import matching
from jdd.methods.base import (
    Method,
    MethodSettings,
    MethodState,
    Metrics,
    decoded,
    move_storage,
)
from jdd.methods.gradients import Pair, held_statistics, image_gradient
from jdd.methods.presets import Preset, Row
from jdd.networks import NetworkLike
from jdd.settings import setting
from jdd.synthetic import SyntheticSet
from jdd.training import STACKED, FitState, Recipe, Schedule, Trainer
from jdd.training import run as train


@dataclass(frozen=True)
class IdcSettings(MethodSettings):
    """Settings of IDC; the defaults are the released ones for CIFAR-10, 10 images per class."""

    iterations: int = setting(200000, "updates of the images, over all networks", min=1)
    outer_loop: int = setting(100, "updates of the images for each network", min=1)
    train_steps: int = setting(
        32,
        "steps of the network on real images between two of them, at most a pass over the images",
        min=0,
    )
    batch_real: int = setting(64, "real images a class and update", min=1)
    batch_train: int = setting(64, "real images per step of the network, at most", min=1)
    batch_syn: int = setting(128, "synthetic images a class and update, at most", min=1)
    lr_img: float = setting(
        0.124, "rate at which images are updated, pixels per unit of gradient", above=0
    )
    mom_img: float = setting(0.5, "momentum of the images' updates", min=0, below=1)
    lr_net: float = setting(0.01, "rate at which the network is trained", above=0)
    mom_net: float = setting(0.9, "momentum of the network's training", min=0, below=1)
    decay_net: float = setting(5e-4, "weight decay of the network's training", min=0)
    net_cutmix: float = setting(
        0.5, "probability that a batch of real images is mixed by CutMix", min=0, max=1
    )
    metric: str = setting(
        "mse",
        "distance of gradients: layerwise_cosine, mse, l1 or cosine",
        choices=GRADIENT_METRICS,
    )
    augmentation: str = setting(
        "color_crop_cutout",
        "kinds of DSA, on top of each other, the same on real and synthetic images, and without "
        "cutout on those that the network is trained on; or none",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_kinds(self.augmentation)


class _Learned(NamedTuple):
    """What `MethodState.optimizer` holds here."""

    moments: Any  # of the storage
    network: FitState  # of the update before


def idc(settings: IdcSettings, network: NetworkLike) -> Method:
    """Gradient matching at networks on their way. For random networks θ₀, t = 0 … T − 1,

        S ← S − η Σ_c ∇_S D(∇_θ ℓ(A S_c, θ_t), ∇_θ ℓ(A B_c, θ_t)),    θ_{t+1} = train(θ_t, real)

    with B_c a batch of real images of class c, A one transform for both, D the distance of the
    gradients to all kernels but the last layer's, and T = `outer_loop`.
    """
    optimizer = matching.optimizer(settings.lr_img, settings.mom_img)

    def distance(ours: Any, theirs: Any) -> jax.Array:
        return gradient_matching(hidden_kernels(ours), hidden_kernels(theirs), settings.metric)

    pair = Pair(
        settings.batch_real,
        partial(augment_stacked, strategy=settings.augmentation, siamese=True),
        distance,
    )

    def init(
        key: jax.Array, synthetic: SyntheticSet, data: DeviceData
    ) -> tuple[SyntheticSet, MethodState]:
        synthetic, state = matching.start(key, synthetic, data, optimizer)
        trainer = _trainer(settings, network, data)
        fit = FitState.start(trainer, matching.fresh_network(network, key, synthetic.images), key)
        return synthetic, state._replace(optimizer=_Learned(state.optimizer, fit))

    def update(
        synthetic: SyntheticSet,
        state: MethodState,
        data: DeviceData,
        segment: Segment | None = None,
    ) -> tuple[SyntheticSet, MethodState, Metrics]:
        del segment
        images, to_storage = decoded(synthetic)
        network_key, key = jax.random.split(state.iteration_key())
        fit = _next_network(settings, network, state, network_key, images, data)
        match_key, pick_key, real_key = jax.random.split(key, 3)
        stats = held_statistics(network, fit, data, real_key)
        picked, to_images = jax.vjp(partial(_some, settings, data, pick_key), images)
        held = fit._replace(batch_stats=stats)
        loss, gradient = image_gradient(pair, network, held, picked, data, match_key)
        gradient = to_storage(to_images(gradient)[0])
        state = state._replace(optimizer=state.optimizer.moments)
        moved, state, metrics = move_storage(synthetic, state, gradient, optimizer, {"loss": loss})
        return moved, state._replace(optimizer=_Learned(state.optimizer, fit)), metrics

    return Method(init, update, settings.needs)


def _trainer(settings: IdcSettings, network: NetworkLike, data: DeviceData) -> Trainer:
    kinds = [kind for kind in settings.augmentation.split("_") if kind not in ("cutout", "none")]
    recipe = Recipe(
        batch_size=settings.batch_train,
        equal_batches=False,
        momentum=settings.mom_net,
        weight_decay=settings.decay_net,
        augmentation=STACKED + "_".join(kinds) if kinds else "none",
        cutmix=settings.net_cutmix,
    )
    return Trainer.of(network, recipe, data.images.shape[0], max(1, settings.train_steps))


def _next_network(
    settings: IdcSettings,
    network: NetworkLike,
    state: MethodState,
    key: jax.Array,
    images: jax.Array,
    data: DeviceData,
) -> FitState:
    """A fresh network every `outer_loop` updates, else that of the update before, trained on."""
    trainer = _trainer(settings, network, data)
    rate = Schedule(jnp.float32(settings.lr_net), jnp.float32(jnp.inf))

    def fresh(_: FitState) -> FitState:
        return FitState.start(trainer, matching.fresh_network(network, key, images), key)

    def trained(fit: FitState) -> FitState:
        fit = fit._replace(key=jax.random.key_data(key))
        if not settings.train_steps:
            return fit._replace(epoch=fit.epoch + 1)
        return train(trainer, fit, data, rate, 1)

    # A dropped update puts the network before it back, also where it was to give way to a new one.
    before = state.optimizer.network
    is_old = before.epoch >= settings.outer_loop - 1
    is_new = is_old | (state.iteration % settings.outer_loop == 0)
    fit: FitState = jax.lax.cond(is_new, fresh, trained, before)
    return fit


def _some(settings: IdcSettings, data: DeviceData, key: jax.Array, images: jax.Array) -> jax.Array:
    """At most `batch_syn` images of each class, drawn anew for each update."""
    by_class = matching.by_class(images, data.num_classes)
    if by_class.shape[1] <= settings.batch_syn:
        return images

    def drawn(key: jax.Array, positions: jax.Array) -> jax.Array:
        return jax.random.permutation(key, positions)[: settings.batch_syn]

    some = jax.vmap(drawn)(jax.random.split(key, data.num_classes), by_class)
    return some.reshape(-1, *images.shape[1:])


# The released rates are for pixels in [0, 1]; preprocessed ones are 1/std as large, and want
# 1/std² times the rate: 24.8 on CIFAR-10, 14.1 on CIFAR-100, 25.4 on SVHN, 10.5 on MNIST, 8.0 on
# Fashion-MNIST. Its code then scales them by images per class / 10, and Fashion-MNIST's, but not
# MNIST's, by (28/32)².
def _rows(rate: float, **others: Any) -> dict[int, Row]:
    return {ipc: {"lr_img": rate * ipc / 10, **others} for ipc in (1, 10, 20, 50)}


_DIGITS = {"metric": "l1", "train_steps": 8}
_PAPER = Preset(
    {
        "mnist": _rows(
            1.05e-3,
            **_DIGITS,
            augmentation="color_crop",
            net_cutmix=0.0,
            eval_cutmix=0.0,
        ),
        "fashion_mnist": _rows(6.15e-4, **_DIGITS),
        "svhn": _rows(0.127, train_steps=8),
        "cifar10": _rows(0.124),
        "cifar100": _rows(0.0703),
    },
    "cifar10",
    {
        "factor": 2,
        "eval_stacked": True,
        "eval_batch": 64,
        "eval_cutmix": 0.5,
        "chunk": 20,
        "eval_every": 20000,
    },
)
# Networks that are trained longer want a lower rate, and more time for each update.
_QUICK_MNIST: Mapping[str, Any] = {"train_steps": 2, "outer_loop": 4}
_QUICK_CIFAR: Mapping[str, Any] = {
    "train_steps": 2,
    "outer_loop": 10,
    "augmentation": "color_crop_cutout",
    "eval_every": 200,
}
_QUICK_DIGITS: Mapping[str, Any] = {"train_steps": 2, "outer_loop": 10, "factor": 1}
_QUICK = Preset(
    {
        "mnist": {
            1: {**_QUICK_MNIST, "lr_img": 0.03},
            10: {**_QUICK_MNIST, "lr_img": 0.3, "iterations": 300, "eval_epochs": 300},
        },
        "cifar10": {
            1: {**_QUICK_CIFAR, "lr_img": 0.01, "iterations": 1000},
            10: {
                **_QUICK_CIFAR,
                "lr_img": 0.03,
                "iterations": 600,
                "preprocessing": "zca",
                "eval_epochs": 300,
            },
        },
        "digits": {
            1: {**_QUICK_DIGITS, "lr_img": 0.01},
            10: {**_QUICK_DIGITS, "lr_img": 0.1},
        },
    },
    "mnist",
    {
        "metric": "l1",
        "augmentation": "crop_scale_rotate",
        "net_cutmix": 0.0,
        "iterations": 200,
        "factor": 2,
        "chunk": 10,
    },
)
PRESETS = {"quick": _QUICK, "paper": _PAPER, "released": _PAPER}
