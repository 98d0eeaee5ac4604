"""Neural feature regression with pooling (FRePo).

Zhou, Nezhadarya, Ba: "Dataset Distillation using Neural Feature Regression", NeurIPS 2022; section
3 and algorithm 1 there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jdd import ops
from jdd.augment import strategy_for
from jdd.data import DeviceData
from jdd.experts import Segment
from jdd.losses import kernel_ridge_regression
from jdd.methods import matching
from jdd.methods.base import Method, MethodSettings, MethodState, Metrics
from jdd.methods.presets import Preset, Row
from jdd.networks import NetworkLike
from jdd.settings import setting
from jdd.synthetic import SyntheticSet
from jdd.training import batch_loss


@dataclass(frozen=True)
class FrepoSettings(MethodSettings):
    """Settings of neural feature regression; the defaults are the published ones."""

    network_gives = ("embed",)
    real_batch_of_all_classes: ClassVar[bool] = True

    iterations: int = setting(500000, "updates of the synthetic set", min=1)
    batch_real: int = setting(1024, "real images an update, of all classes", min=1)
    batch_syn: int = setting(1000, "synthetic images a step of a pool's network, at most", min=1)
    pool: int = setting(10, "networks that are trained on the set, one of them an update", min=1)
    pool_steps: int = setting(100, "steps after which a network gives way to a fresh one", min=0)
    lr_net: float = setting(3e-4, "rate of Adam at which the networks are trained", above=0)
    lr_img: float = setting(
        3e-4, "rate of LAMB for images and labels, as a fraction of their norm", above=0
    )
    ridge: float = setting(
        1e-6, "of the regression, in units of the kernel's mean diagonal", above=0
    )
    learn_labels: bool = setting(True, "labels are learned")
    margin: float = setting(
        1.0, "weight of the term that keeps a label's largest entry ahead of the second", min=0
    )
    temperature: float = setting(
        0.4, "targets of the regression are this much of the set's label logits", above=0
    )
    flip: bool = setting(True, "the set's mirror images count too, where its dataset's DSA flips")

    @property
    def paced_by_iterations(self) -> bool:
        """As `lr_img` decays over them."""
        return True


class _Pool(NamedTuple):
    """Networks in training; each leaf has a leading axis of networks, or not, for one of them."""

    params: Any
    batch_stats: Any  # empty where the network has no batch norm
    moments: Any  # Adam's
    steps: jax.Array  # () int32


class _Progress(NamedTuple):
    """What is resumed from, apart from the set."""

    moments: Any  # LAMB's, of storage and label logits
    pool: _Pool


def frepo(settings: FrepoSettings, network: NetworkLike) -> Method:
    """Neural feature regression: images and labels are moved by the gradient of

        mean ½‖φ(X_r) φ(S)ᵀ (φ(S) φ(S)ᵀ + λ I)⁻¹ y − y_r‖² − mean min(y₍₁₎ − y₍₂₎, 1/C)

    where φ are the features of a network from a pool, which then takes one step of Adam on the set.
    Only φ(S) is differentiated. Real labels are one-hot less their mean, y_r.

    The set keeps label logits of which the targets y are `temperature` times as much. So y is
    learned as published, and networks train on the set by cross-entropy as on any other.
    """
    rate = optax.cosine_decay_schedule(settings.lr_img, settings.iterations, alpha=0.1)
    optimizer = optax.lamb(rate)

    def init(
        key: jax.Array, synthetic: SyntheticSet, data: DeviceData
    ) -> tuple[SyntheticSet, MethodState]:
        del data
        pool_key, key = jax.random.split(key)
        synthetic = synthetic.by_class().replace(learning_rate=None)
        if settings.learn_labels and synthetic.labels.ndim == 1:
            targets = first_targets(synthetic.labels, synthetic.num_classes)
            synthetic = synthetic.replace(labels=targets / settings.temperature)
        pool = _fresh_pool(settings, network, pool_key, synthetic.images)
        moments = optimizer.init(_learned(settings, synthetic))
        state = MethodState(jax.random.key_data(key), jnp.int32(0), _Progress(moments, pool))
        return synthetic, state

    def update(
        synthetic: SyntheticSet,
        state: MethodState,
        data: DeviceData,
        segment: Segment | None = None,
    ) -> tuple[SyntheticSet, MethodState, Metrics]:
        del segment
        keys = jax.random.split(state.iteration_key(), 4)
        moments, pool = state.optimizer
        which = jax.random.randint(keys[0], (), 0, settings.pool)
        member: _Pool = jax.tree.map(lambda leaf: leaf[which], pool)

        few = min(settings.batch_real, data.images.shape[0])
        chosen = jax.random.choice(keys[1], data.images.shape[0], (few,), replace=False)
        real, classes = data.batch(chosen)
        wanted = jax.nn.one_hot(classes, synthetic.num_classes) - 1 / synthetic.num_classes

        learned = _learned(settings, synthetic)
        loss = partial(_regression_loss, settings, network, synthetic, member, real, wanted)
        (value, accuracy), gradient = jax.value_and_grad(loss, has_aux=True)(learned)
        change, moments = optimizer.update(gradient, moments, learned)
        synthetic = _with(synthetic, optax.apply_updates(learned, change))

        images, targets = synthetic.images, _targets(settings, synthetic)
        is_old = member.steps > settings.pool_steps
        member = jax.lax.cond(
            is_old,
            lambda: member,
            lambda: _trained(settings, network, member, keys[3], images, targets),
        )
        member = jax.lax.cond(
            is_old | ~_is_sound(network, member, images[:1]),
            lambda: _fresh(settings, network, keys[2], jnp.int32(0), images),
            lambda: member,
        )
        pool = jax.tree.map(lambda leaf, new: leaf.at[which].set(new), pool, member)
        state = MethodState(state.key, state.iteration + 1, _Progress(moments, pool))
        return synthetic, state, {"loss": value, "real_accuracy": accuracy}

    return Method(init, update, settings.needs)


def _fresh_pool(
    settings: FrepoSettings, network: NetworkLike, key: jax.Array, like: jax.Array
) -> _Pool:
    """Random networks, counted as if they had begun one after another: they end at other times."""
    steps = jnp.arange(settings.pool, dtype=jnp.int32) * (settings.pool_steps // settings.pool)
    keys = jax.random.split(key, settings.pool)
    networks: _Pool = jax.lax.map(
        lambda of: _fresh(settings, network, of[0], of[1], like), (keys, steps)
    )
    return networks


def _fresh(
    settings: FrepoSettings, network: NetworkLike, key: jax.Array, steps: jax.Array, like: jax.Array
) -> _Pool:
    """A random network for images such as `like`, counted as having taken so many steps."""
    variables = matching.fresh_network(network, key, like)
    params, stats = variables["params"], variables.get("batch_stats", {})
    return _Pool(params, stats, optax.adam(settings.lr_net).init(params), steps)


def _variables(member: _Pool) -> dict[str, Any]:
    statistics = {"batch_stats": member.batch_stats} if member.batch_stats else {}
    return {"params": member.params, **statistics}


def _is_sound(network: NetworkLike, member: _Pool, image: jax.Array) -> jax.Array:
    """Whether the parameters, and the products of an image's features, are finite: where they are
    not, updates with this network are dropped, and it would stay."""
    features = network.apply(_variables(member), image, method="embed")
    leaves = [*jax.tree.leaves(member.params), jnp.sum(jnp.square(features))]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def _trained(
    settings: FrepoSettings,
    network: NetworkLike,
    member: _Pool,
    key: jax.Array,
    images: jax.Array,
    targets: jax.Array,
) -> _Pool:
    """A network after one more step on the set."""
    if images.shape[0] > settings.batch_syn:
        few = jax.random.choice(key, images.shape[0], (settings.batch_syn,), replace=False)
        images, targets = images[few], targets[few]

    def loss(params: Any) -> tuple[jax.Array, Any]:
        return batch_loss(network, params, member.batch_stats, images, targets, squared_error)

    gradient, stats = jax.grad(loss, has_aux=True)(member.params)
    change, moments = optax.adam(settings.lr_net).update(gradient, member.moments)
    params = optax.apply_updates(member.params, change)
    return _Pool(params, stats, moments, member.steps + 1)


def _regression_loss(
    settings: FrepoSettings,
    network: NetworkLike,
    synthetic: SyntheticSet,
    member: _Pool,
    real: jax.Array,
    wanted: jax.Array,
    learned: Any,
) -> tuple[jax.Array, jax.Array]:
    """The loss, and how many of the real images the regression classifies correctly."""
    variables = _variables(member)

    def features(variables: Any, images: jax.Array) -> Any:
        return network.apply(variables, images, method="embed")

    moved = _with(synthetic, learned)
    images, targets = moved.images, _targets(settings, moved)
    term = settings.margin * label_margin(targets) if settings.learn_labels else jnp.zeros(())
    if settings.flip and "flip" in strategy_for(synthetic.info.dataset):
        images = jnp.concatenate([images, images[:, :, ::-1]])
        targets = jnp.concatenate([targets, targets])
    theirs = ops.microbatched_map(features, variables, real)
    predicted = kernel_ridge_regression(
        features(variables, images), targets, theirs, settings.ridge
    )
    correct = jnp.mean(jnp.argmax(predicted, -1) == jnp.argmax(wanted, -1))
    return squared_error(predicted, wanted) + term, correct


def first_targets(labels: jax.Array, classes: int) -> jax.Array:
    """Targets `(n, classes)` that classes `(n,)` int32 start from: one-hot less their mean, by a
    factor of √(10 / classes) as in the released code."""
    centred: jax.Array = jax.nn.one_hot(labels, classes) - 1 / classes
    return centred * jnp.sqrt(10 / classes)


def squared_error(predicted: jax.Array, targets: jax.Array) -> jax.Array:
    """Half the squared distance `(n, classes)`, mean over examples."""
    distance: jax.Array = jnp.sum(jnp.square(predicted - targets), axis=-1)
    return jnp.mean(distance) / 2


def label_margin(targets: jax.Array) -> jax.Array:
    """Minus the lead of each label's largest entry over the second, as far as 1 / classes; mean."""
    largest, _ = jax.lax.top_k(targets, 2)
    return -jnp.mean(jnp.minimum(largest[:, 0] - largest[:, 1], 1 / targets.shape[1]))


def _learned(settings: FrepoSettings, synthetic: SyntheticSet) -> tuple[Any, Any]:
    return synthetic.storage, synthetic.labels if settings.learn_labels else None


def _with(synthetic: SyntheticSet, learned: tuple[Any, Any]) -> SyntheticSet:
    storage, logits = learned
    labels = synthetic.labels if logits is None else logits
    return synthetic.replace(storage=storage, labels=labels)


def _targets(settings: FrepoSettings, synthetic: SyntheticSet) -> jax.Array:
    if synthetic.labels.ndim == 1:
        return first_targets(synthetic.labels, synthetic.num_classes)
    return settings.temperature * synthetic.labels


# Its networks double their channels from block to block, have batch norm in the pool and no norm
# when they are evaluated; these rows are for the field's ConvNet. Grey images are not whitened.
_ZCA = {"preprocessing": "normalize_zca"}
_COLOUR: Mapping[int, Row] = dict.fromkeys((1, 10, 50), _ZCA)
_NO_FLIP = {**_ZCA, "flip": False}
_GREY: Mapping[int, Row] = {1: {}, 10: {}, 50: {}}
_PAPER = Preset(
    {
        "mnist": _GREY,
        "fashion_mnist": {count: {"flip": False} for count in _GREY},
        "cifar10": _COLOUR,
        "cifar100": {1: _ZCA, 10: _NO_FLIP, 50: _NO_FLIP},
        "tiny_imagenet": {1: {**_ZCA, "depth": 4}, 10: {**_NO_FLIP, "depth": 4}},
    },
    "cifar10",
    {"chunk": 50, "eval_every": 10000},
)
_DIGITS: Row = {  # twice as many images in the storage; 143 validation images choose by chance
    "decoder": "dct",
    "coefficients": 32,
    "iterations": 1000,
    "eval_every": 1000,
}
_QUICK_FACTOR: Row = {"factor": 2, "lr_img": 0.003, "eval_epochs": 300}
_QUICK = Preset(
    {
        "mnist": {
            1: {"factor": 2, "iterations": 3000, "lr_img": 0.003},
            10: {**_QUICK_FACTOR, "iterations": 1500},
        },
        "cifar10": {
            1: {"factor": 2, "iterations": 1000, "lr_img": 0.003, **_ZCA},
            10: {**_QUICK_FACTOR, "iterations": 1000, **_ZCA},
        },
        "digits": {1: _DIGITS, 10: {"iterations": 600}},
    },
    "mnist",
    {"batch_real": 256, "lr_img": 0.01, "lr_net": 0.001, "chunk": 20, "eval_every": 500},
)
PRESETS = {"quick": _QUICK, "paper": _PAPER, "released": _PAPER}
