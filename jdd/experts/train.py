"""Trains experts and stores each epoch's parameters; interrupted, it resumes to the same bits."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jdd import checkpoints, distributed, training
from jdd.data import DeviceData
from jdd.errors import Interrupted, UserError
from jdd.experts.settings import ExpertSpec
from jdd.experts.store import ExpertStore
from jdd.networks import NetworkLike
from jdd.sharding import models_per_call, over_models, stack
from jdd.training import FitState, Schedule, Trainer

SAVE_SECONDS = 30.0

Progress = Callable[[int, int, str], None]
"""called with expert epochs done, expert epochs in all, and a line about the newest"""


def open_compatible(
    directory: Path, spec: ExpertSpec, network: NetworkLike | None = None
) -> ExpertStore | None:
    """The store in `directory`, or None where there is none; nothing is written.

    Raises:
      UserError: there is one that does not fit `spec`, or whose parameters are not those of
        `network`; the message names the difference.
    """
    store = ExpertStore.open(directory)
    if store is None:
        return None
    differing = spec.differences(store.spec)
    if differing:
        raise UserError(
            f"the experts in {directory} do not fit: {'; '.join(differing)}; "
            "choose another `experts` directory or the stored settings"
        )
    if network is not None:
        store.check_network(_param_shapes(network, spec))
    return store


def open_or_create(directory: Path, spec: ExpertSpec, network: NetworkLike) -> ExpertStore:
    """The store in `directory` where it fits `spec`, a new one where there is none.

    Raises:
      UserError: see `open_compatible`.
    """
    store = open_compatible(directory, spec, network)
    distributed.barrier(f"looked into {directory}")  # before the first of us makes one
    if store is None:
        store = ExpertStore.create(directory, spec, _param_shapes(network, spec))
    store.extend(spec.settings.num_experts)
    return store


def _param_shapes(network: NetworkLike, spec: ExpertSpec) -> Any:
    """Shapes of the network's parameters on images as `spec` has them."""
    images = jax.ShapeDtypeStruct((1, *spec.preprocessing["image_shape"]), np.float32)
    return jax.eval_shape(network.init, jax.random.key(0), images)["params"]


def train_experts(
    store: ExpertStore,
    network: NetworkLike,
    strategy: str,
    data: DeviceData,
    validation: DeviceData,
    wanted: int,
    *,
    ranks: np.ndarray | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Progress = lambda done, total, line: None,
) -> None:
    """Trains experts until the store holds `wanted` of them.

    Expert i is a function of the store's settings and i alone, so that more can be added later.

    Args:
      store: where to.
      network: the module.
      strategy: the dataset's DSA.
      data: real images.
      validation: others, that each expert is tested on.
      wanted: experts in all.
      ranks: `jdd.difficulty.ranks` of the real images, where the curriculum goes by it.
      should_stop: asked after every epoch.
      progress: told how it goes.

    Raises:
      ValueError: the curriculum goes by difficulty, and there are no ranks.
      Interrupted: `should_stop()` said so after an epoch; the state is stored.
    """
    settings = store.spec.settings
    recipe = settings.recipe(store.spec.network, store.spec.options, strategy)
    trainer = settings.trainer(network, recipe, data.images.shape[0])
    if settings.curriculum == "all":
        ranks = None
    elif ranks is None:
        raise ValueError(f"the curriculum {settings.curriculum} needs the images' ranks")
    keeper = checkpoints.StateCheckpoints(store.directory / "state")
    root, epochs = jax.random.key(settings.expert_seed), settings.train_epochs
    while (first := store.complete) < wanted:
        members = list(range(first, min(first + models_per_call(wanted - first), wanted)))
        keys = [jax.random.fold_in(root, i) for i in members]
        fresh = stack([training.init(trainer, key, data.image_shape) for key in keys])
        states = _resumed(store, keeper, members, fresh)

        def told(at: int, states: FitState, members: list[int] = members) -> None:
            line = f"expert {members[-1] + 1}/{wanted}, epoch {at}: loss {states.loss.mean():.3f}"
            progress(members[0] * epochs + at * len(members), wanted * epochs, line)

        of = (trainer, states, data, training.schedule(recipe))
        states = _train(store, keeper, members, of, ranks, should_stop, told)
        single = [jax.tree.map(lambda leaf, i=i: leaf[i], states) for i in range(len(members))]
        tested = [training.eval_variables(trainer, state) for state in single]
        store.finish([training.accuracy(network, each, validation) for each in tested])
        keeper.clear()
        if should_stop() and store.complete < wanted:
            raise Interrupted


def _resumed(
    store: ExpertStore,
    keeper: checkpoints.StateCheckpoints,
    members: list[int],
    fresh: FitState,
) -> FitState:
    """The stored state of half-trained experts; `fresh`, stored as epoch 0, where there is none."""
    saved = keeper.newest(fresh, {"members": members})
    if saved is not None:
        resumed: FitState = jax.tree.map(jax.numpy.asarray, saved[0])
        return resumed
    keeper.clear()  # of other experts, whose later epochs would outlive these
    _write(store, members, jax.device_get(fresh.params), 0)
    return fresh


def _train(
    store: ExpertStore,
    keeper: checkpoints.StateCheckpoints,
    members: list[int],
    training_of: tuple[Trainer, FitState, DeviceData, Schedule],
    ranks: np.ndarray | None,
    should_stop: Callable[[], bool],
    told: Callable[[int, FitState], None],
) -> FitState:
    """Trains some experts side by side to their last epoch, and stores each epoch."""
    settings = store.spec.settings
    trainer, states, data, rates = training_of
    epochs, at = settings.train_epochs, int(states.epoch[0])
    saved_at = time.monotonic()
    while at < epochs:
        eligible = None if ranks is None else jax.numpy.asarray(settings.eligible(ranks, at))
        states = jax.block_until_ready(epoch_of_many(trainer, states, data, rates, eligible))
        at += 1
        params = jax.device_get(states.params)
        values = jax.tree.leaves((params, states.loss))
        if not all(np.isfinite(leaf).all() for leaf in values):
            raise UserError(
                f"expert {members[0] + 1} or a later one diverged in epoch {at}: lower "
                f"`lr_teacher` {settings.lr_teacher} (in another `experts` directory)"
            )
        _write(store, members, params, at)
        told(at, states)
        stop = should_stop() and at < epochs
        if stop or distributed.any_process(time.monotonic() - saved_at > SAVE_SECONDS):
            keeper.save(members[0] * epochs + at, states, {"members": members})
            saved_at = time.monotonic()
        if stop:
            raise Interrupted
    return states


@partial(jax.jit, static_argnums=(0,))
def epoch_of_many(
    trainer: Trainer,
    states: FitState,
    data: DeviceData,
    rates: Schedule,
    eligible: jax.Array | None,
) -> FitState:
    """One more epoch of experts side by side; their states have a leading axis.

    Args:
      trainer: how they are trained.
      states: of the experts.
      data: real images.
      rates: step sizes.
      eligible: as for `jdd.training.run`.
    """

    def of_expert(shared: Any, state: FitState) -> FitState:
        data, rates, eligible = shared
        return training.run(trainer, state, data, rates, 1, eligible)

    trained: FitState = over_models(
        of_expert, (data, rates, eligible), states, batch=trainer.batch_of(states, data)
    )
    return trained


def _write(store: ExpertStore, members: list[int], params: Any, epoch: int) -> None:
    for i, expert in enumerate(members):
        store.write(expert, epoch, jax.tree.map(lambda leaf, i=i: leaf[i], params))
