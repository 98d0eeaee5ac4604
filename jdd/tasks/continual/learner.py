"""Goes through an order of classes, and trains and tests on the way."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jdd import training
from jdd.data import Dataset, DeviceData, to_device
from jdd.evaluation import pieces_of
from jdd.networks import NetworkLike
from jdd.tasks.continual.classes import Memory, parts_of, seen_accuracy, seen_after
from jdd.tasks.continual.settings import ContinualSettings
from jdd.training import FitState, Recipe, Schedule, Trainer

Progress = Callable[[int, int], None]
"""called with the images trained on so far, and in all"""


class Learner:
    """Learns the classes in one of several orders, with one memory or another."""

    def __init__(
        self,
        settings: ContinualSettings,
        network: NetworkLike,
        recipe: Recipe,
        dataset: Dataset,
        data: DeviceData,
        orders: Sequence[Sequence[int]],
        progress: Progress | None,
    ) -> None:
        """Args as for `Comparison`; `data` are the dataset's training images."""
        self._network, self._recipe, self._progress = network, recipe, progress
        self._settings, self._real = settings, data
        self._labels, self._test_labels = dataset.train.labels, dataset.test.labels
        self._test = to_device(dataset.test, dataset.preprocess)
        self._parts = [parts_of(order, settings.steps) for order in orders]
        # One program for all parts: batches that the smallest fills, steps for the largest.
        sizes = [int(np.isin(self._labels, part).sum()) for parts in self._parts for part in parts]
        on_real = Recipe(
            epochs=settings.epochs,
            batch_size=settings.real_batch,
            learning_rate=settings.real_lr,
            momentum=settings.real_momentum,
            weight_decay=0.0,
            decay_after=1.0,
        )
        on_parts = Trainer.of(network, on_real, min(sizes))
        self._on_parts = on_parts._replace(steps=max(sizes) // on_parts.batch)
        self._part_rates = training.schedule(on_real)
        self._done = self._total = 0

    def plan(self, methods: Sequence[str], ipc: int, before: int) -> None:
        """Sets what progress is measured by; `before` are images trained on by others."""
        self._total += before
        memories = sum(name != "none" for name in methods)
        for parts in self._parts:
            remembered = ipc * sum(len(seen) for seen in seen_after(parts))
            self._total += self._settings.repeats * self._recipe.epochs * memories * remembered
            if self._settings.protocol == "finetune":
                self._total += self._settings.repeats * self._settings.epochs * len(self._labels)

    def learn(
        self, order: int, key: jax.Array, memories: Sequence[Memory | None]
    ) -> list[list[float]]:
        """Accuracies `[step][memory]` of one network, or of a fresh one a step, in an order."""
        parts = self._parts[order]
        accuracies: list[list[float]] = []
        network: FitState | None = None
        for step, seen in enumerate(seen_after(parts)):
            step_key = jax.random.fold_in(key, step)
            if self._settings.protocol == "finetune":
                network = self._on_real(parts[step], step_key, network)
            accuracies.append(
                [self._after_memory(memory, seen, step_key, network) for memory in memories]
            )
        return accuracies

    def _on_real(self, part: tuple[int, ...], key: jax.Array, network: FitState | None) -> FitState:
        eligible = jnp.asarray(np.isin(self._labels, part))
        state = _start(self._on_parts, key, self._real.image_shape, network)
        count, epochs = int(eligible.sum()), self._settings.epochs
        rates = self._part_rates
        return self._fit(self._on_parts, state, self._real, rates, epochs, count, eligible)

    def _after_memory(
        self, memory: Memory | None, seen: tuple[int, ...], key: jax.Array, network: FitState | None
    ) -> float:
        trainer, state = self._on_parts, network
        if memory is not None:
            data = memory.seen(seen)
            count = len(data.labels)
            trainer = Trainer.of(self._network, self._recipe, count)
            # Far from where the key is split, for the real images of this step.
            memory_key = jax.random.fold_in(key, 2**32 - 1)
            state = _start(trainer, memory_key, data.image_shape, network)
            rates = training.schedule(self._recipe, memory.learning_rate)
            state = self._fit(trainer, state, data, rates, self._recipe.epochs, count)
        assert state is not None
        variables = training.eval_variables(trainer, state)
        logits = training.predict(self._network, variables, self._test)
        return seen_accuracy(np.asarray(logits), self._test_labels, seen)

    def _fit(
        self,
        trainer: Trainer,
        state: FitState,
        data: DeviceData,
        rates: Schedule,
        epochs: int,
        count: int,
        eligible: jax.Array | None = None,
    ) -> FitState:
        for piece in pieces_of(epochs):
            state = training.run_jit(trainer, state, data, rates, piece, eligible)
            jax.block_until_ready(state)
            self.trained_on(piece * count)
        return state

    def trained_on(self, images: int) -> None:
        """Tells how far the comparison is with so many more."""
        self._done += images
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)


def _start(
    trainer: Trainer, key: jax.Array, shape: tuple[int, int, int], network: FitState | None
) -> FitState:
    """The start of a training: of a fresh network, or from the weights of one."""
    state = training.init(trainer, key, shape)
    if network is None:
        return state
    return state._replace(
        params=network.params,
        batch_stats=network.batch_stats,
        average=(network.params, network.batch_stats) if trainer.ema else {},
    )
