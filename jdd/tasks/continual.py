"""Class-incremental learning with a distilled set as the memory of what was seen before.

The classes come in parts, one a step. After each step a network is tested on the test images of all
classes seen so far and, as nothing tells it which part an image is of, chooses among all of them.
It has a logit for every class from the start; those of classes not yet seen are masked where it
predicts (the mask of GDumb: Prabhu, Torr and Dokania 2020). In training they stay: no label asks
for them, so they only fall.

The memory of a class is its images of the set, or as many real ones, chosen class by class. The set
itself was made with all classes at hand. Distribution and attention matching take each class by
itself, so theirs is what a learner could have made step by step; experts, whose trajectories or
labels the other methods use, know of all classes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jdd import randomness, training
from jdd.data import Dataset, RealData, to_device
from jdd.errors import UserError, unknown
from jdd.methods import registry
from jdd.methods.coresets import CoresetSettings
from jdd.recipe import Recipe
from jdd.settings import flag
from jdd.synthetic import SyntheticSet, from_noise, from_real
from jdd.tasks.class_incremental import Memory, class_orders, parts_of, seen_accuracy, seen_after
from jdd.training import FitState, Schedule, Trainer, TrainingData

METHODS = {
    "papers": ("random", "herding", "distilled"),
    "seed": ("none", "random", "herding", "distilled"),
}
"""what each protocol compares; "none" leaves nothing to train on in the papers'"""
Progress = Callable[[int, int], None]
"""called with the images trained on so far, and in all"""
_PIECES = 10  # calls that a training is divided into, to show and to stop it


@dataclass(frozen=True)
class ContinualSettings:
    """What is learned in which order, and how on real images; for memories there is a recipe."""

    protocol: str = flag(
        "papers",
        "papers: at every step a fresh network, trained on the memory alone; seed: one network, "
        "trained on the real images of part after part, and then (for the test after a part, "
        "not for the next part) on the memory",
    )
    steps: int = flag(2, "parts that the classes come in, as equal as can be")
    order: str = flag("given", "of the classes: given, random, or each of them once as 2,0,1")
    orders: int = flag(1, "random orders; figures are means over them")
    repeats: int = flag(2, "fresh networks for each order; figures are means over them")
    epochs: int = flag(9, "seed: passes over the real images of each part")
    real_batch: int = flag(256, "seed: real images a step, at most")
    real_lr: float = flag(0.01, "seed: SGD's rate on real images")
    real_momentum: float = flag(0.9, "seed: SGD's momentum on real images")

    def check(self) -> None:
        """Raises `UserError` for values out of range."""
        if self.protocol not in METHODS:
            raise unknown("protocol", self.protocol, METHODS)
        for name in ("orders", "repeats", "epochs", "real_batch"):
            if getattr(self, name) < 1:
                words = name.replace("_", "-")
                raise UserError(f"--{words} {getattr(self, name)}: at least 1 is needed")
        if not 0 < self.real_lr < float("inf"):
            raise UserError(f"--real-lr {self.real_lr}: it must be above 0")
        if not 0 <= self.real_momentum < 1:
            raise UserError(f"--real-momentum {self.real_momentum}: from 0 to below 1")
        if self.orders > 1 and self.order != "random":
            raise UserError(f"--orders {self.orders}: several orders need --order random")


@dataclass(frozen=True)
class Outcome:
    """Accuracies on the test images of all classes seen, fractions of 1."""

    orders: list[tuple[int, ...]]
    values: Mapping[str, np.ndarray]
    """by method, `(orders · repeats, steps)`"""

    def seen(self, order: int = 0) -> list[list[int]]:
        """The classes seen after each step in one of the orders."""
        steps = next(iter(self.values.values())).shape[1]
        return [list(seen) for seen in seen_after(parts_of(self.orders[order], steps))]

    def mean(self) -> dict[str, list[float]]:
        """By method, one for each step."""
        return {name: np.mean(values, axis=0).tolist() for name, values in self.values.items()}

    def std(self) -> dict[str, list[float]]:
        """By method, one for each step; divided by n, as the papers give it."""
        return {name: np.std(values, axis=0).tolist() for name, values in self.values.items()}


def compare(
    settings: ContinualSettings,
    network: nn.Module,
    recipe: Recipe,
    stored: SyntheticSet,
    dataset: Dataset,
    seed: int,
    *,
    methods: Sequence[str] = (),
    features: CoresetSettings | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Learns the classes step by step, with memories of one size side by side.

    In both protocols a network is trained on a memory by `recipe`: in the papers' (Zhao and Bilen
    2023, section 4.3, after GDumb) a fresh one; in the seed's one that was trained on the real
    images of the parts so far, plain SGD at a constant rate without weight decay. That one goes on
    to the next part as it was before its memory, so that the last step is what the seed did: all
    parts in a row, then the memory of all classes.

    Random images are drawn anew for every network. Herding's features are those of one network with
    random weights, or of one trained on the real images of all classes; only the former can be had
    at the first step.

    Args:
      settings: what is learned in which order.
      network: for all classes.
      recipe: how it is trained on a memory; its rate is not for a set that has learned its own.
      stored: the distilled set; its images per class are every memory's.
      dataset: its data set, preprocessed as the set was.
      seed: of every draw.
      methods: of `METHODS[protocol]`; all of them where empty.
      features: herding's.
      progress: told how far it has come.

    Raises:
      UserError: settings out of range, or more images per class than there are real ones; before
        any training.
    """
    methods = methods or METHODS.get(settings.protocol, ())
    features = features or CoresetSettings()
    _check(settings, network, recipe, stored, dataset, methods, features)
    orders = class_orders(settings.order, settings.orders, dataset.num_classes, seed)
    data = to_device(dataset.train, dataset.preprocess, dataset.num_classes)
    learner = _Learner(settings, network, recipe, dataset, data, orders, progress)
    learner.plan(methods, stored.info.ipc)

    memories = {"distilled": Memory.of(stored)}
    if "herding" in methods:
        herding = registry.create("herding", features, network)
        blank = from_noise(dataset, stored.info.ipc, jax.random.key(0))
        start = SyntheticSet(*blank, None, stored.info)
        chosen, _ = jax.jit(herding.init)(randomness.key(seed, "herding"), start, data)
        memories["herding"] = Memory.of(chosen)
    found: list[list[list[float]]] = []
    for i in range(len(orders)):
        for j in range(settings.repeats):
            key = jax.random.fold_in(jax.random.fold_in(randomness.key(seed, "continual"), i), j)
            if "random" in methods:
                rng = randomness.generator(seed, f"random memory {i} {j}")
                images, labels = from_real(dataset.train, dataset, stored.info.ipc, rng)
                memories["random"] = Memory(images, labels, np.asarray(labels))
            found.append(learner.learn(i, key, [memories.get(name) for name in methods]))
    values = np.array(found)  # (orders · repeats, steps, methods)
    return Outcome(orders, {name: values[..., m] for m, name in enumerate(methods)})


class _Learner:
    """Goes through an order of classes, and trains and tests on the way."""

    def __init__(
        self,
        settings: ContinualSettings,
        network: nn.Module,
        recipe: Recipe,
        dataset: Dataset,
        data: RealData,
        orders: Sequence[Sequence[int]],
        progress: Progress | None,
    ) -> None:
        self._network, self._recipe, self._progress = network, recipe, progress
        self._settings, self._shape = settings, dataset.image_shape
        self._labels, self._test_labels = dataset.train.labels, dataset.test.labels
        self._real = TrainingData(data.images, data.labels, data.preprocess)
        self._test = TrainingData(
            jnp.asarray(dataset.test.images), jnp.asarray(dataset.test.labels), data.preprocess
        )
        self._parts = [parts_of(order, settings.steps) for order in orders]
        # One program for all parts: batches that the smallest fills, steps for the largest.
        sizes = [int(np.isin(self._labels, part).sum()) for parts in self._parts for part in parts]
        how = Recipe(
            epochs=settings.epochs,
            batch_size=settings.real_batch,
            learning_rate=settings.real_lr,
            momentum=settings.real_momentum,
            weight_decay=0.0,
            decay_after=1.0,
        )
        on_parts = Trainer.of(network, how, min(sizes))
        self._on_parts = on_parts._replace(steps=max(sizes) // on_parts.batch)
        self._part_rates = training.schedule(how)
        self._done = self._total = 0

    def plan(self, methods: Sequence[str], ipc: int) -> None:
        """Sets what progress is measured by."""
        memories = sum(name != "none" for name in methods)
        for parts in self._parts:
            shown = ipc * sum(len(seen) for seen in seen_after(parts))
            self._total += self._settings.repeats * self._recipe.epochs * memories * shown
            if self._settings.protocol == "seed":
                self._total += self._settings.repeats * self._settings.epochs * len(self._labels)

    def learn(
        self, order: int, key: jax.Array, memories: Sequence[Memory | None]
    ) -> list[list[float]]:
        """Accuracies `[step][memory]` of one network, or of a fresh one a step, in an order."""
        parts, found = self._parts[order], []
        network: FitState | None = None
        for step, seen in enumerate(seen_after(parts)):
            step_key = jax.random.fold_in(key, step)
            if self._settings.protocol == "seed":
                network = self._on_real(parts[step], step_key, network)
            found.append(
                [self._after_memory(memory, seen, step_key, network) for memory in memories]
            )
        return found

    def _on_real(self, part: tuple[int, ...], key: jax.Array, network: FitState | None) -> FitState:
        eligible = np.isin(self._labels, part)
        state = _start(self._on_parts, key, self._shape, network)
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
            state = _start(trainer, jax.random.fold_in(key, 1), self._shape, network)
            rates = training.schedule(self._recipe, memory.learning_rate)
            state = self._fit(trainer, state, data, rates, self._recipe.epochs, count)
        assert state is not None
        variables = training.tested_variables(trainer, state)
        logits = training.predict(self._network, variables, self._test)
        return seen_accuracy(np.asarray(logits), self._test_labels, seen)

    def _fit(
        self,
        trainer: Trainer,
        state: FitState,
        data: TrainingData,
        rates: Schedule,
        epochs: int,
        count: int,
        eligible: np.ndarray | None = None,
    ) -> FitState:
        for piece in np.diff(np.linspace(0, epochs, min(epochs, _PIECES) + 1).astype(int)):
            state = training.run_jit(trainer, state, data, rates, int(piece), eligible)
            state = jax.block_until_ready(state)
            self._done += int(piece) * count
            if self._progress is not None:
                self._progress(min(self._done, self._total), self._total)
        return state


def _start(
    trainer: Trainer, key: jax.Array, shape: tuple[int, int, int], network: FitState | None
) -> FitState:
    """The start of a training: of a fresh network, or going on with the weights of one."""
    # How long an epoch is does not matter here, and would only compile the same program again.
    state = training.init(trainer._replace(batch=1, steps=1), key, shape)
    if network is None:
        return state
    return state._replace(
        params=network.params,
        batch_stats=network.batch_stats,
        average=network.params if trainer.ema else {},
    )


def _check(
    settings: ContinualSettings,
    network: nn.Module,
    recipe: Recipe,
    stored: SyntheticSet,
    dataset: Dataset,
    methods: Sequence[str],
    features: CoresetSettings,
) -> None:
    settings.check()
    recipe.check()
    registry.create("herding", features, network)  # checks them
    for name in methods:
        if name not in METHODS[settings.protocol]:
            known = METHODS[settings.protocol]
            raise unknown(f"method of the protocol {settings.protocol}", name, known)
    counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
    if {"random", "herding"} & set(methods) and counts.min() < stored.info.ipc:
        raise UserError(
            f"class '{dataset.class_names[counts.argmin()]}' has {counts.min()} real images, the "
            f"set {stored.info.ipc} per class: leave random and herding out, --methods distilled"
        )
    for order in class_orders(settings.order, 1, dataset.num_classes, 0):
        parts_of(order, settings.steps)
    images = jax.ShapeDtypeStruct((1, *dataset.image_shape), jnp.float32)
    jax.eval_shape(network.init, jax.random.key(0), images)
    jax.eval_shape(
        lambda key, x: training.augmented(key, x, recipe.augmentation), jax.random.key(0), images
    )
