"""Gradient matching (DC), and the same with differentiable siamese augmentation (DSA).

Zhao, Mopuri, Bilen: "Dataset Condensation with Gradient Matching", ICLR 2021; algorithm 1 there.
Zhao, Bilen: "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jdd.augment import strategy_for
from jdd.data import DeviceData
from jdd.experts import Segment
from jdd.losses import GRADIENT_METRICS, gradient_matching
from jdd.methods import matching
from jdd.methods.base import Method, MethodSettings, MethodState, Metrics, decoded
from jdd.methods.gradients import Pair, held_statistics, image_gradient
from jdd.methods.presets import Preset, Row
from jdd.networks import NetworkLike
from jdd.ops.target import platform
from jdd.settings import setting
from jdd.synthetic import SyntheticSet
from jdd.training import FitState, Recipe, Schedule, Trainer
from jdd.training import run as train


@dataclass(frozen=True)
class DcSettings(MethodSettings):
    """Settings of gradient matching; the defaults are those published of DC for 1 image per
    class."""

    iterations: int = setting(1000, "random networks, one after another; K in the paper", min=1)
    outer_loop: int = setting(1, "updates of the images for each network, T in the paper", min=1)
    inner_loop: int = setting(1, "epochs of the network on the set between two of them", min=0)
    batch_real: int = setting(256, "real images a class and update", min=1)
    batch_train: int = setting(256, "synthetic images per step of the network, at most", min=1)
    equal_batches: bool = setting(
        True,
        "batches of the network of one size, the few images left over not seen in that pass; off: "
        "full batches and a smaller last one, as published",
    )
    lr_img: float = setting(
        0.1, "rate at which images are updated, pixels per unit of gradient", above=0
    )
    mom_img: float = setting(0.5, "momentum of the images' updates", min=0, below=1)
    lr_net: float = setting(0.01, "rate at which the network is trained on the set", above=0)
    mom_net: float = setting(0.5, "momentum of the network's training", min=0, below=1)
    statistics: float = setting(
        1.0,
        "how far batch norm's statistics move to those of real images; the released code has 0.1",
        min=0,
        max=1,
    )
    metric: str = setting(
        "layerwise_cosine",
        "distance of gradients: layerwise_cosine, mse, l1 or cosine",
        choices=GRADIENT_METRICS,
    )


def dc(settings: DcSettings, network: NetworkLike) -> Method:
    """Gradient matching. For each of `iterations` random networks θ₀ and t = 0 … T − 1,

        S ← S − η Σ_c ∇_S D(∇_θ ℓ(S_c, θ_t), ∇_θ ℓ(B_c, θ_t)),    θ_{t+1} = train(θ_t, S)

    with B_c a batch of real images of class c, and D the layer-wise cosine distance. One update of
    the method is a whole network: `outer_loop` updates of the images.
    """
    return _gradient_matching(settings, network, augmented=False)


def dsa(settings: DcSettings, network: NetworkLike) -> Method:
    """DC with one transform drawn per class and update, for real and synthetic images alike.

    Where the network is trained on the set, each image has parameters of its own.
    """
    return _gradient_matching(settings, network, augmented=True)


def _gradient_matching(settings: DcSettings, network: NetworkLike, augmented: bool) -> Method:
    optimizer = matching.optimizer(settings.lr_img, settings.mom_img)

    def init(
        key: jax.Array, synthetic: SyntheticSet, data: DeviceData
    ) -> tuple[SyntheticSet, MethodState]:
        return matching.start(key, synthetic, data, optimizer)

    def update(
        synthetic: SyntheticSet,
        state: MethodState,
        data: DeviceData,
        segment: Segment | None = None,
    ) -> tuple[SyntheticSet, MethodState, Metrics]:
        del segment
        strategy = strategy_for(synthetic.info.dataset) if augmented else "none"
        recipe = Recipe(
            batch_size=settings.batch_train,
            equal_batches=settings.equal_batches,
            momentum=settings.mom_net,
            weight_decay=0.0,
            augmentation=strategy,
        )
        images, _ = decoded(synthetic)
        trainer = Trainer.of(network, recipe, images.shape[0])
        pair = Pair(
            settings.batch_real,
            partial(matching.siamese, strategy=strategy),
            partial(gradient_matching, metric=settings.metric),
        )
        rate = Schedule(jnp.float32(settings.lr_net), jnp.float32(jnp.inf))

        def step(carry: tuple[Any, ...], at: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
            storage, moments, fit = carry
            number, key = at
            match_key, train_key, real_key = jax.random.split(key, 3)
            images, to_storage = decoded(synthetic.replace(storage=storage))
            current = DeviceData(images, synthetic.labels)
            fit = _trained(trainer, settings, fit, current, rate, number, train_key)
            stats = held_statistics(network, fit, data, real_key, settings.statistics)
            fit = fit._replace(batch_stats=stats)
            loss, gradient = image_gradient(pair, network, fit, images, data, match_key)
            change, moments = optimizer.update(to_storage(gradient), moments, storage)
            return (optax.apply_updates(storage, change), moments, fit), loss

        network_key, key = jax.random.split(state.iteration_key())
        variables = matching.fresh_network(network, network_key, images)
        fit = FitState.start(trainer, variables, key)
        steps = settings.outer_loop
        (storage, moments, _), losses = jax.lax.scan(
            step,
            (synthetic.storage, state.optimizer, fit),
            (jnp.arange(steps), jax.random.split(key, steps)),
        )
        state = MethodState(state.key, state.iteration + 1, moments)
        return synthetic.replace(storage=storage), state, {"loss": jnp.mean(losses)}

    return Method(init, update, settings.needs)


def _trained(
    trainer: Trainer,
    settings: DcSettings,
    fit: FitState,
    data: DeviceData,
    rate: Schedule,
    number: jax.Array,
    key: jax.Array,
) -> FitState:
    """The network trained before every update of the images but the first, which is number 0."""
    epochs = jnp.where(number > 0, settings.inner_loop, 0)
    fit = fit._replace(key=jax.random.key_data(key))
    if platform() == "cpu":
        return train(trainer, fit, data, rate, epochs)
    if settings.outer_loop == 1:
        return fit
    # In vain before the first, but of a known length: the host of a GPU would look at each epoch of
    # a loop whose length is computed.
    trained = train(trainer, fit, data, rate, settings.inner_loop)
    kept: FitState = jax.tree.map(partial(jnp.where, number > 0), trained, fit)
    return kept


# Loops (outer, inner) are given for 1, 10, 20, 30, 40 and 50 images per class. DC is evaluated
# without augmentation, but on MNIST.
_LOOPS: Mapping[int, Row] = {
    1: {},
    10: {"outer_loop": 10, "inner_loop": 50},
    20: {"outer_loop": 20, "inner_loop": 25},
    30: {"outer_loop": 30, "inner_loop": 20},
    40: {"outer_loop": 40, "inner_loop": 15},
    50: {"outer_loop": 50, "inner_loop": 10},
}
_PUBLISHED = ("mnist", "fashion_mnist", "svhn", "cifar10")
_CIFAR100 = {count: _LOOPS[count] for count in (1, 10)}
_DSA = Preset(
    {**dict.fromkeys(_PUBLISHED, _LOOPS), "cifar100": _CIFAR100},
    "cifar10",
    {"equal_batches": False},
)
_DC = _DSA.extended(
    all={"eval_dsa": False, "eval_epochs": 300},
    datasets={"mnist": {"eval_augment_per_image": True, "eval_epochs": 1000}},
)
# The distance sums over channels: width 32 wants four times the image rate of 128.
_QUICK_1 = {"iterations": 200, "chunk": 10}
_QUICK_10 = {"outer_loop": 10, "inner_loop": 10, "chunk": 1, "eval_every": 10}
# Four smaller images in the place of one.
_QUICK_SMALLER = {**_QUICK_10, "lr_img": 1.0, "factor": 2, "eval_epochs": 300}
_ZCA = {"preprocessing": "zca"}
_QUICK = Preset(
    {
        "mnist": {
            1: {**_QUICK_1, "lr_img": 0.4},
            10: {**_QUICK_SMALLER, "iterations": 60, "eval_every": 20},
        },
        "cifar10": {
            1: {**_QUICK_1, "iterations": 600, "lr_img": 0.4, **_ZCA},
            10: {**_QUICK_SMALLER, "iterations": 40, **_ZCA},
        },
        "digits": {
            1: {**_QUICK_1, "lr_img": 0.1},
            10: {**_QUICK_10, "iterations": 20, "lr_img": 0.1},
        },
    },
    "mnist",
    {"batch_real": 64},
)
# The network's momentum is DC's alone, and its code has had none since DSA came into it.
_RELEASED = {"statistics": 0.1, "mom_net": 0.0}
DC_PRESETS = {"quick": _QUICK, "paper": _DC, "released": _DC.extended(all=_RELEASED)}
DSA_PRESETS = {
    "quick": _QUICK,
    "paper": _DSA.extended(all={"mom_net": 0.0}),
    "released": _DSA.extended(all=_RELEASED),
}
