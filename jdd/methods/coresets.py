"""Coresets: real images chosen instead of made. The rows that distilled sets are compared with.

As in Zhao et al. 2021 (section 4.1): `random`; `herding` (Welling 2009; Rebuffi et al. 2017,
equation 4); `k_center` (Wolf 2011; Sener and Savarese 2018, algorithm 1); the latter two class by
class on features of a network trained on all real images.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jdd import training
from jdd.data import DeviceData
from jdd.experts import Segment
from jdd.methods.base import Method, MethodSettings, MethodState, Metrics, Told
from jdd.methods.presets import Preset
from jdd.networks import NetworkLike
from jdd.settings import setting
from jdd.synthetic import SyntheticSet
from jdd.training import Recipe, Schedule, Trainer

FEATURES = ("trained", "random")
_BATCH = 500  # images whose features are computed at once


@dataclass(frozen=True)
class RandomSettings(MethodSettings):
    """A random choice needs none."""


@dataclass(frozen=True)
class CoresetSettings(MethodSettings):
    """Where the features come from that images are chosen by."""

    network_gives = ("embed",)

    features: str = setting(
        "trained",
        "whose features are compared: those of trained or of random networks",
        choices=FEATURES,
    )
    feature_epochs: int = setting(20, "epochs of it on all real images", min=1)
    feature_lr: float = setting(0.01, "its SGD's rate; momentum is 0.9", above=0)
    feature_batch: int = setting(128, "images per step", min=1)


Choose = Callable[[jax.Array, jax.Array, int], jax.Array]
"""`(features (m, d), whose of them count (m,), how many)` → their places `(how many,)`"""


def random(settings: RandomSettings, network: NetworkLike) -> Method:
    """Random real images, `ipc` of each class."""
    del settings, network

    def choose(key: jax.Array, data: DeviceData, ipc: int, _: None) -> jax.Array:
        keys = jax.random.split(key, data.num_classes)
        labels = jnp.arange(data.num_classes, dtype=jnp.int32)
        return jax.vmap(lambda k, label: data.sample_positions(k, label, ipc))(keys, labels)

    return _coreset(choose)


def herding(settings: CoresetSettings, network: NetworkLike) -> Method:
    """Images whose mean feature stays nearest to their class's: see `herd`."""
    return _by_features(settings, network, herd)


def k_center(settings: CoresetSettings, network: NetworkLike) -> Method:
    """Images that no other of their class is far from: see `greedy_k_center`."""
    return _by_features(settings, network, greedy_k_center)


def herd(features: jax.Array, mask: jax.Array, count: int) -> jax.Array:
    """Herding, greedily: the k-th is argmin_x ‖μ − (φ(x) + Σ_{j<k} φ(p_j)) / k‖, μ the mean.

    Features are taken as they are; Rebuffi et al. bring each to length 1 first.

    Args:
      features: `(m, d)`.
      mask: `(m,)` bool, which of them there are.
      count: how many to choose; none comes again before all have come.

    Returns:
      int32 `(count,)`, in the order of choice.
    """
    # About the mean the distance is ‖Σφ'‖ / k, and no large mean cancels.
    centred = _about_mean(features, mask)
    square = jnp.sum(centred * centred, axis=1)

    def choose(
        carry: tuple[jax.Array, jax.Array], _: None
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        total, free = carry
        distance = square + 2 * centred @ total  # and ‖total‖², the same for all
        best = jnp.argmin(jnp.where(free, distance, jnp.inf)).astype(jnp.int32)
        return (total + centred[best], free.at[best].set(False)), best

    start = (jnp.zeros(features.shape[1], features.dtype), mask)
    return _repeated(jax.lax.scan(choose, start, None, length=count)[1], mask)


def _repeated(chosen: jax.Array, mask: jax.Array) -> jax.Array:
    """Where more are wanted than there are: all of them, in their order, again and again."""
    return chosen[jnp.arange(chosen.shape[0]) % jnp.sum(mask)]


def greedy_k_center(features: jax.Array, mask: jax.Array, count: int) -> jax.Array:
    """k-center, greedily: first the image nearest to the mean, then the farthest from all chosen.

    Sener and Savarese start from images that are given; the first here is the one that a choice of
    one wants, and no draw decides.

    Args and returns: as `herd`.
    """
    features = _about_mean(features, mask)
    square = jnp.sum(features * features, axis=1)
    first = jnp.argmin(jnp.where(mask, square, jnp.inf)).astype(jnp.int32)

    def to(place: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(features - features[place]), axis=1)

    def choose(nearest: jax.Array, place: jax.Array) -> jax.Array:
        # −1 for what is chosen, or is none: two equal images are both chosen only at the end.
        return jnp.minimum(nearest, to(place)).at[place].set(-1)

    def step(nearest: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        farthest = jnp.argmax(nearest).astype(jnp.int32)
        return choose(nearest, farthest), farthest

    nearest = choose(jnp.where(mask, jnp.inf, -1.0), first)
    rest = jax.lax.scan(step, nearest, None, length=count - 1)[1]
    return _repeated(jnp.concatenate([first[None], rest]), mask)


def _by_features(settings: CoresetSettings, network: NetworkLike, choose: Choose) -> Method:
    def prepare(key: jax.Array, data: DeviceData, told: Told) -> dict[str, Any]:
        return _feature_network(settings, network, key, data, told)

    def of_all_classes(
        key: jax.Array, data: DeviceData, ipc: int, variables: dict[str, Any] | None
    ) -> jax.Array:
        if variables is None:
            variables = _feature_network(settings, network, key, data)
        index = data.class_index

        def of_class(row: jax.Array, count: jax.Array) -> jax.Array:
            features = _features(network, variables, data, row)
            return row[choose(features, jnp.arange(row.shape[0]) < count, ipc)]

        classes = (index.positions, index.counts)
        places: jax.Array = jax.lax.map(lambda packed: of_class(*packed), classes)
        return places

    return _coreset(of_all_classes, prepare)


def _coreset(
    choose: Callable[[jax.Array, DeviceData, int, Any], jax.Array],
    prepare: Callable[[jax.Array, DeviceData, Told], Any] | None = None,
) -> Method:
    def init(
        key: jax.Array, synthetic: SyntheticSet, data: DeviceData, prepared: Any = None
    ) -> tuple[SyntheticSet, MethodState]:
        ipc, decoder = synthetic.info.ipc, synthetic.decoder
        images, _ = data.batch(choose(key, data, decoder.encoded(ipc), prepared).reshape(-1))
        state = MethodState(jax.random.key_data(key), jnp.int32(0), ())
        return SyntheticSet.encode(images, synthetic.info, decoder), state

    def update(
        synthetic: SyntheticSet,
        state: MethodState,
        data: DeviceData,
        segment: Segment | None = None,
    ) -> tuple[SyntheticSet, MethodState, Metrics]:
        """Leaves the set as it is."""
        del data, segment
        metrics = {"loss": jnp.float32(0)}
        return synthetic, state._replace(iteration=state.iteration + 1), metrics

    return Method(init, update, prepare=prepare)


def feature_trainer(settings: CoresetSettings, network: NetworkLike, size: int) -> Trainer:
    """Of the network that features are taken from, on `size` real images."""
    recipe = Recipe(batch_size=settings.feature_batch, weight_decay=0.0)
    return Trainer.of(network, recipe, size)


def _feature_network(
    settings: CoresetSettings,
    network: NetworkLike,
    key: jax.Array,
    data: DeviceData,
    told: Told | None = None,
) -> dict[str, Any]:
    """Of the network that features are taken from; trained without augmentation, and with `told`
    in a call for each epoch."""
    trainer = feature_trainer(settings, network, data.images.shape[0])
    state = training.init(trainer, key, data.image_shape)
    if settings.features == "trained":
        rate = Schedule(jnp.float32(settings.feature_lr), jnp.float32(jnp.inf))
        epochs = settings.feature_epochs
        each = epochs if told is None else 1
        for done in range(each, epochs + 1, each):
            state = training.run_jit(trainer, state, data, rate, each)
            if told is not None:
                jax.block_until_ready(state.epoch)
                told(done, epochs)
    return training.eval_variables(trainer, state)


def _features(
    network: NetworkLike, variables: dict[str, Any], data: DeviceData, positions: jax.Array
) -> jax.Array:
    """`(m, d)`: what the classifier would see of the images at `positions` `(m,)`."""

    def of_batch(places: jax.Array) -> Any:
        images, _ = data.batch(places)
        return network.apply(variables, images, method="embed")

    count = positions.shape[0]
    batch = min(_BATCH, count)
    filled = jnp.resize(positions, (-(-count // batch), batch))
    features: jax.Array = jax.lax.map(of_batch, filled)
    return features.reshape(-1, features.shape[-1])[:count]


def _about_mean(features: jax.Array, mask: jax.Array) -> jax.Array:
    mean = jnp.sum(jnp.where(mask[:, None], features, 0), axis=0) / jnp.sum(mask)
    return features - mean


_EPOCHS: Mapping[str, Any] = {"feature_epochs": 20}  # digits are few
_QUICK = Preset(
    {
        "mnist": {1: {}, 10: {}},
        "cifar10": {1: {}, 10: {}},
        "digits": {1: _EPOCHS, 10: _EPOCHS},
    },
    "mnist",
    {"feature_epochs": 2},
)
_PUBLISHED = Preset({name: {1: {}, 10: {}, 50: {}} for name in ("mnist", "cifar10")}, "cifar10")
PRESETS = {"quick": _QUICK, "paper": _PUBLISHED, "released": _PUBLISHED}
