"""Neural characteristic function matching (NCFM).

Wang, Yang, Liu, Sun, Hu, He, Zhang: "Dataset Distillation with Neural Characteristic Function: A
Minmax Perspective", CVPR 2025; section 3 there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
import optax.contrib

from jdd import ops
from jdd.data import DeviceData
from jdd.errors import UserError
from jdd.experts import Segment, SegmentWindow
from jdd.losses import characteristic_function_discrepancy, cross_entropy
from jdd.methods import matching
from jdd.methods.base import (
    Method,
    MethodSettings,
    MethodState,
    Metrics,
    Needs,
    decoded,
    move_storage,
)
from jdd.methods.presets import Preset, Row
from jdd.networks import NetworkLike, layers
from jdd.settings import setting
from jdd.synthetic import SyntheticSet

_KINDS = ("color", "crop", "cutout")  # one after the other, not one of them as in DSA


@dataclass(frozen=True)
class NcfmSettings(MethodSettings):
    """Settings of characteristic function matching; the defaults are the published ones."""

    network_gives = ("embed",)
    iterations: int = setting(20000, "updates, each with the networks of one expert", min=1)
    batch_real: int = setting(1024, "real images a class and update", min=1)
    frequencies: int = setting(
        4096, "points that characteristic functions are compared at, a class and update", min=1
    )
    amplitude: float = setting(0.5, "weight of the amplitudes' difference, α in the paper", min=0)
    phase: float = setting(0.5, "weight of the phases' difference, 1 − α in the paper", min=0)
    loss_scale: float = setting(
        300.0, "factor on the discrepancy, as in the released code", above=0
    )
    calibration: float = setting(
        1.0, "weight of the trained network's cross-entropy on the set; 0: none", min=0
    )
    expert_epochs: int = setting(
        60, "epochs behind an expert's trained network, at most its `train_epochs`", min=1
    )
    optimizer: str = setting("adamw", "of the images: adamw or sgd", choices=("adamw", "sgd"))
    lr_img: float = setting(
        0.02, "rate at which images are updated, preprocessed pixels, by AdamW or SGD", above=0
    )
    weight_decay: float = setting(5e-4, "of AdamW, on what is stored", min=0)
    momentum: float = setting(0.5, "of SGD", min=0, below=1)
    patience: int = setting(
        500, "updates without a smaller loss after which the rate is halved; 0: it stays", min=0
    )
    learn_frequencies: bool = setting(
        False, "frequencies from a network that is trained for the largest discrepancy"
    )
    lr_frequencies: float = setting(1e-3, "rate of that network's SGD, momentum 0.5", above=0)
    dsa: bool = setting(True, "color, crop and cutout, the same on real and synthetic images")

    @property
    def needs(self) -> Needs:
        """Real images, and experts from their first values to their last."""
        return Needs(segments=SegmentWindow(self.expert_epochs, max_start_epoch=1))


class _Learned(NamedTuple):
    """What optimizers and the network of frequencies resume from."""

    images: Any  # moments of the storage
    network: Any  # variables of the network of frequencies; None where it is not learned
    moments: Any  # of its parameters


class FrequencyNetwork(nn.Module):
    """Noise `(k, d)` → frequencies `(k, d)` in [−1, 1]; their sampling network."""

    @nn.compact
    def __call__(self, noise: jax.Array) -> jax.Array:
        """Three linear layers with batch norm, leaky ReLU between them and tanh at the end."""
        x = noise
        for layer in range(3):
            x = layers.Dense(noise.shape[1])(x)
            x = nn.BatchNorm(use_running_average=False, epsilon=layers.EPSILON)(x)
            x = nn.leaky_relu(x, 0.2) if layer < 2 else jnp.tanh(x)
        return x


def ncfm(settings: NcfmSettings, network: NetworkLike) -> Method:
    """Characteristic function matching: images are moved by the gradient of

        Σ_c ( 300 · D(ψ(synthetic_c), ψ(real_c)) + w · CE(f(synthetic_c), c) )

    with D the discrepancy of `jdd.losses.characteristic_function_discrepancy` at random
    frequencies, ψ the features of length 1 of a network anywhere between an expert's first and last
    values, f the expert at its end.
    """
    optimizer = _optimizer(settings)

    def init(
        key: jax.Array, synthetic: SyntheticSet, data: DeviceData
    ) -> tuple[SyntheticSet, MethodState]:
        start_key, key = jax.random.split(key)
        synthetic, state = matching.start(key, synthetic, data, optimizer)
        one = synthetic.images[:1]
        variables = jax.eval_shape(network.init, key, one)
        if "batch_stats" in variables:
            raise UserError(
                "ncfm needs a network without batch norm, as experts keep no statistics: `norm` "
                "instance, or another `network`"
            )
        learned = _Learned(state.optimizer, None, None)
        if settings.learn_frequencies:
            features = jax.eval_shape(lambda v: network.apply(v, one, method="embed"), variables)
            learned = _with_frequencies(settings, learned, start_key, features.shape[1])
        return synthetic, state._replace(optimizer=learned)

    def update(
        synthetic: SyntheticSet,
        state: MethodState,
        data: DeviceData,
        segment: Segment | None = None,
    ) -> tuple[SyntheticSet, MethodState, Metrics]:
        if segment is None:
            raise ValueError("ncfm's update takes a segment: an expert's first and last values")
        images, to_storage = decoded(synthetic)
        mix_key, key = jax.random.split(state.iteration_key())
        weight = jax.random.uniform(mix_key)
        learned: _Learned = state.optimizer
        first, last = (jax.tree.map(lambda p: p[0], tree) for tree in segment)
        between = jax.tree.map(lambda a, b: weight * a + (1 - weight) * b, first, last)
        (matched, calibrated), gradients = matching.over_classes(
            lambda shared, *of: _of_class(settings, network, shared, *of),
            (between, last, learned.network, data),
            matching.by_class(images, data.num_classes),
            jnp.arange(data.num_classes, dtype=jnp.int32),
            jax.random.split(key, data.num_classes),
            pixels=settings.batch_real * images.shape[1] * images.shape[2],
        )
        metrics = {"discrepancy": jnp.sum(matched), "calibration": jnp.sum(calibrated)}
        metrics["loss"] = metrics["discrepancy"] + metrics["calibration"]
        gradient = to_storage(gradients[0].reshape(images.shape))
        state = state._replace(optimizer=learned.images)
        synthetic, state, metrics = move_storage(synthetic, state, gradient, optimizer, metrics)
        learned = learned._replace(images=state.optimizer)
        if settings.learn_frequencies:
            learned = _ascended(settings, learned, gradients[1])
        return synthetic, state._replace(optimizer=learned), metrics

    return Method(init, update, settings.needs)


def _optimizer(settings: NcfmSettings) -> optax.GradientTransformation:
    """AdamW or SGD on the storage, as PyTorch's scheduler of plateaus slows it down."""
    if settings.optimizer == "sgd":
        rule = matching.optimizer(settings.lr_img, settings.momentum)
    else:
        rule = optax.adamw(settings.lr_img, weight_decay=settings.weight_decay)
    if not settings.patience:
        return rule
    slower = optax.contrib.reduce_on_plateau(factor=0.5, patience=settings.patience + 1, rtol=1e-4)
    return optax.chain(rule, slower)


def _frequency_optimizer(settings: NcfmSettings) -> optax.GradientTransformation:
    return optax.sgd(settings.lr_frequencies, momentum=0.5)


def _with_frequencies(
    settings: NcfmSettings, learned: _Learned, key: jax.Array, size: int
) -> _Learned:
    """With a network of frequencies for features of this size that is about to learn."""
    params = FrequencyNetwork().init(key, jnp.zeros((2, size)))["params"]
    return learned._replace(network=params, moments=_frequency_optimizer(settings).init(params))


def _ascended(settings: NcfmSettings, learned: _Learned, gradients: Any) -> _Learned:
    """The frequencies' network after a step up the loss; gradients have an axis of classes."""
    ascent = jax.tree.map(lambda g: -jnp.sum(g, axis=0), gradients)
    change, moments = _frequency_optimizer(settings).update(ascent, learned.moments)
    return learned._replace(network=optax.apply_updates(learned.network, change), moments=moments)


def _of_class(
    settings: NcfmSettings,
    network: NetworkLike,
    shared: tuple[Any, Any, Any, DeviceData],
    class_images: jax.Array,
    label: jax.Array,
    key: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, Any]]:
    """A class's two losses, and their gradients to its images and to the frequencies' network."""
    between, last, frequency_network, data = shared
    real_key, transform, other_transform, noise_key = jax.random.split(key, 4)

    def features(params: Any, images: jax.Array) -> jax.Array:
        embedded: jax.Array = network.apply({"params": params}, images, method="embed")
        square = jnp.sum(jnp.square(embedded), axis=1, keepdims=True)
        return embedded / jnp.sqrt(jnp.maximum(square, 1e-24))  # a slope of 0 at features of 0

    real = data.sample_class(real_key, label, settings.batch_real)
    theirs = ops.microbatched_map(features, between, augmented(settings, transform, real))
    noise = jax.random.normal(noise_key, (settings.frequencies, theirs.shape[1]))

    def loss(class_images: jax.Array, params: Any) -> tuple[jax.Array, tuple[Any, Any]]:
        frequencies: Any = noise
        if params is not None:
            learned = {"params": params}
            frequencies, _ = FrequencyNetwork().apply(learned, noise, mutable=["batch_stats"])
        matched = settings.loss_scale * characteristic_function_discrepancy(
            features(between, augmented(settings, transform, class_images)),
            theirs,
            frequencies,
            settings.amplitude,
            settings.phase,
        )
        calibrated = jnp.zeros(())
        if settings.calibration:
            transformed = augmented(settings, other_transform, class_images)
            logits: Any = network.apply({"params": last}, transformed)
            labels = jnp.full(class_images.shape[0], label)
            calibrated = settings.calibration * cross_entropy(logits, labels)
        return matched + calibrated, (matched, calibrated)

    gradients, losses = jax.grad(loss, (0, 1), has_aux=True)(class_images, frequency_network)
    return losses, gradients


def augmented(settings: NcfmSettings, key: jax.Array, images: jax.Array) -> jax.Array:
    """Colour, crop and cutout on top of each other, each one draw for all images."""
    for i, kind in enumerate(_KINDS if settings.dsa else ()):
        images = matching.siamese(jax.random.fold_in(key, i), images, kind)
    return images


# Experts: SGD 0.01 with momentum 0.9, batches of 128, one rate throughout; theirs falls to a fifth
# twice, has weight decay and CutMix. The released code's AdamW steps after each class of a GPU and
# each of the two losses, 1e-3 in pixels of [0, 1]. Its commands divide the classes over 8 GPUs: of
# ten classes an image takes 2 steps an update, √2 as far as one, of 100 24 and of 200 50.
# CIFAR-100 at 10 per class alone has SGD, 0.01 in such pixels: 14.1 times that preprocessed.
_COUNTS: Mapping[int, Row] = {1: {}, 10: {}, 50: {}}
_SGD = {"optimizer": "sgd", "lr_img": 0.141}
_TEN_CLASSES = {"lr_img": 0.007}
_CIFAR10: Mapping[int, Row] = dict.fromkeys((1, 10, 50), _TEN_CLASSES)
_EPOCHS = {1: 2000, 10: 300, 50: 40}
_TINY = {
    ipc: {"depth": 4, "chunk": 1, "lr_img": 0.03, "eval_epochs": of} for ipc, of in _EPOCHS.items()
}
_SUBSET = {**_TEN_CLASSES, "depth": 5, "train_epochs": 80, "expert_epochs": 80}
_RECIPE = {"eval_optimizer": "adamw", "eval_cutmix": 0.5, "eval_stacked": True, "eval_batch": 128}
_PAPER = Preset(
    {
        "cifar10": _CIFAR10,
        "cifar100": {**_COUNTS, 10: _SGD},
        "tiny_imagenet": _TINY,
        "imagenet": {1: _SUBSET, 10: _SUBSET},
    },
    "cifar10",
    {
        "factor": 2,
        "num_experts": 20,
        "train_epochs": 60,
        "batch_train": 128,
        "mom_teacher": 0.9,
        "eval_epochs": 2000,
        "eval_schedule": "cosine",
        "eval_weight_decay": 0.01,
        **_RECIPE,
        "chunk": 10,
        "eval_every": 1000,
    },
)
_DIGITS = {
    "factor": 1,  # 8 × 8 pixels are few as they are
    "lr_img": 0.1,
    "num_experts": 8,
    "train_epochs": 20,
    "expert_epochs": 20,
    "batch_train": 64,
    "real_images": 0,
}
_QUICK = Preset(
    {
        "mnist": {1: {}, 10: {}},
        "cifar10": {1: {}, 10: {"iterations": 600, "eval_every": 200, "eval_epochs": 300}},
        "digits": {1: _DIGITS, 10: _DIGITS},
    },
    "mnist",
    {
        "factor": 2,
        "iterations": 300,
        "batch_real": 64,
        "frequencies": 512,
        "lr_img": 0.05,
        "num_experts": 6,
        "train_epochs": 4,
        "expert_epochs": 4,
        "lr_teacher": 0.02,
        "batch_train": 128,
        "expert_dsa": False,
        "real_images": 12000,
        "chunk": 10,
    },
)
PRESETS = {"quick": _QUICK, "paper": _PAPER, "released": _PAPER}
