"""Coresets: real images chosen instead of made. The rows that distilled sets are judged by.

As in Zhao et al. 2021 (section 4.1): `random`; `herding` (Welling 2009; Rebuffi et al. 2017,
equation 4); `k_center` (Wolf 2011; Sener and Savarese 2018, algorithm 1); the latter two class by
class on features of a network trained on all real images.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jdd import training
from jdd.data import RealData, sample_positions
from jdd.errors import UserError, unknown
from jdd.experts import Segment
from jdd.methods.base import Method, Metrics
from jdd.recipe import Recipe
from jdd.settings import flag
from jdd.synthetic import SyntheticSet
from jdd.training import Schedule, Trainer, TrainingData

FEATURES = ("trained", "random")
_BATCH = 500  # images whose features are computed at once


@dataclass(frozen=True)
class RandomSettings:
    """A random choice needs none."""


@dataclass(frozen=True)
class CoresetSettings:
    """Where the features come from that images are chosen by."""

    features: str = flag("trained", "of which network features are: trained or random")
    feature_epochs: int = flag(20, "epochs of it on all real images")
    feature_lr: float = flag(0.01, "its SGD's rate; momentum is 0.9")
    feature_batch: int = flag(128, "images a step")


class CoresetState(NamedTuple):
    """Nothing goes on; these are for the loop to store."""

    key: jax.Array  # (2,) uint32 key data
    iteration: jax.Array  # () int32


Choose = Callable[[jax.Array, jax.Array, int], jax.Array]
"""`(features (m, d), whose of them count (m,), how many)` → their places `(how many,)`"""


def random(settings: RandomSettings, network: nn.Module) -> Method:
    """Random real images, `ipc` of each class."""
    del settings, network

    def choose(key: jax.Array, data: RealData, ipc: int) -> jax.Array:
        keys = jax.random.split(key, data.num_classes)
        labels = jnp.arange(data.num_classes, dtype=jnp.int32)
        return jax.vmap(lambda k, label: sample_positions(k, data, label, ipc))(keys, labels)

    return _coreset(choose)


def herding(settings: CoresetSettings, network: nn.Module) -> Method:
    """Images whose mean feature stays nearest to their class's: see `herd`.

    Raises:
      UserError: settings out of range.
    """
    return _by_features(settings, network, herd)


def k_center(settings: CoresetSettings, network: nn.Module) -> Method:
    """Images that no other of their class is far from: see `cover`.

    Raises:
      UserError: settings out of range.
    """
    return _by_features(settings, network, cover)


def herd(features: jax.Array, counted: jax.Array, count: int) -> jax.Array:
    """Herding, greedily: the k-th is argmin_x ‖μ − (φ(x) + Σ_{j<k} φ(p_j)) / k‖, μ the mean.

    Features are taken as they are; Rebuffi et al. bring each to length 1 first.

    Args:
      features: `(m, d)`.
      counted: `(m,)` bool, which of them there are.
      count: how many to choose; each is chosen once.

    Returns:
      int32 `(count,)`, in the order of choice.
    """
    # About the mean the distance is ‖Σφ'‖ / k, and no large mean cancels.
    centred = _about_mean(features, counted)
    square = jnp.sum(centred * centred, axis=1)

    def choose(
        carry: tuple[jax.Array, jax.Array], _: None
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        total, free = carry
        distance = square + 2 * centred @ total  # and ‖total‖², the same for all
        best = jnp.argmin(jnp.where(free, distance, jnp.inf)).astype(jnp.int32)
        return (total + centred[best], free.at[best].set(False)), best

    start = (jnp.zeros(features.shape[1], features.dtype), counted)
    return jax.lax.scan(choose, start, None, length=count)[1]


def cover(features: jax.Array, counted: jax.Array, count: int) -> jax.Array:
    """k-center, greedily: first the image nearest to the mean, then the farthest from all chosen.

    Sener and Savarese start from images that are given; the first here is the one that a choice of
    one wants, and no draw decides.

    Args and returns: as `herd`.
    """
    features = _about_mean(features, counted)
    square = jnp.sum(features * features, axis=1)
    first = jnp.argmin(jnp.where(counted, square, jnp.inf)).astype(jnp.int32)

    def to(place: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(features - features[place]), axis=1)

    def choose(nearest: jax.Array, place: jax.Array) -> jax.Array:
        # −1 for what is chosen, or is none: two equal images are both chosen only at the end.
        return jnp.minimum(nearest, to(place)).at[place].set(-1)

    def step(nearest: jax.Array, _: None) -> tuple[jax.Array, jax.Array]:
        farthest = jnp.argmax(nearest).astype(jnp.int32)
        return choose(nearest, farthest), farthest

    nearest = choose(jnp.where(counted, jnp.inf, -1.0), first)
    rest = jax.lax.scan(step, nearest, None, length=count - 1)[1]
    return jnp.concatenate([first[None], rest])


def _by_features(settings: CoresetSettings, network: nn.Module, choose: Choose) -> Method:
    _check(settings)

    def of_all_classes(key: jax.Array, data: RealData, ipc: int) -> jax.Array:
        variables = _variables(settings, network, key, data)

        def of_class(row: jax.Array, count: jax.Array) -> jax.Array:
            features = _features(network, variables, data, row)
            return row[choose(features, jnp.arange(row.shape[0]) < count, ipc)]

        return jax.lax.map(lambda packed: of_class(*packed), (data.index, data.counts))

    return _coreset(of_all_classes)


def _coreset(choose: Callable[[jax.Array, RealData, int], jax.Array]) -> Method:
    def init(
        key: jax.Array, synthetic: SyntheticSet, data: RealData
    ) -> tuple[SyntheticSet, CoresetState]:
        classes = data.num_classes
        ipc = synthetic.images.shape[0] // classes
        positions = choose(key, data, ipc).reshape(-1)
        labels = jnp.repeat(jnp.arange(classes, dtype=jnp.int32), ipc)
        images = data.preprocess(data.images[positions])
        state = CoresetState(jax.random.key_data(key), jnp.int32(0))
        return SyntheticSet(images, labels, None, synthetic.info), state

    def update(
        synthetic: SyntheticSet,
        state: CoresetState,
        data: RealData,
        segment: Segment | None = None,
    ) -> tuple[SyntheticSet, CoresetState, Metrics]:
        """Leaves the set as it is."""
        del data, segment
        metrics = {"loss": jnp.float32(0), "dropped": jnp.int32(0)}
        return synthetic, state._replace(iteration=state.iteration + 1), metrics

    return Method(init, update)


def _variables(
    settings: CoresetSettings, network: nn.Module, key: jax.Array, data: RealData
) -> dict[str, Any]:
    """Of the network that features are taken from; trained without augmentation."""
    recipe = Recipe(batch_size=settings.feature_batch, weight_decay=0.0)
    trainer = Trainer.of(network, recipe, data.images.shape[0])
    images = jax.eval_shape(data.preprocess, data.images[:1])
    state = training.init(trainer, key, images.shape[1:])
    if settings.features == "trained":
        rate = Schedule(jnp.float32(settings.feature_lr), jnp.float32(jnp.inf))
        real = TrainingData(data.images, data.labels, data.preprocess)
        state = training.run(trainer, state, real, rate, settings.feature_epochs)
    return training.tested_variables(trainer, state)


def _features(
    network: nn.Module, variables: dict[str, Any], data: RealData, positions: jax.Array
) -> jax.Array:
    """`(m, d)`: what the classifier would see of the images at `positions` `(m,)`."""

    def of_batch(places: jax.Array) -> Any:
        images = data.preprocess(data.images[places])
        return network.apply(variables, images, method="embed")

    count = positions.shape[0]
    batch = min(_BATCH, count)
    filled = jnp.resize(positions, (-(-count // batch), batch))
    features = jax.lax.map(of_batch, filled)
    return features.reshape(-1, features.shape[-1])[:count]


def _about_mean(features: jax.Array, counted: jax.Array) -> jax.Array:
    mean = jnp.sum(jnp.where(counted[:, None], features, 0), axis=0) / jnp.sum(counted)
    return features - mean


def _check(settings: CoresetSettings) -> None:
    if settings.features not in FEATURES:
        raise unknown("features", settings.features, FEATURES)
    for name in ("feature_epochs", "feature_batch"):
        if getattr(settings, name) < 1:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} {getattr(settings, name)}: at least 1 is needed")
    if not 0 < settings.feature_lr < float("inf"):
        raise UserError(f"--feature-lr {settings.feature_lr}: it must be above 0")
