"""Trains networks of a search space on a proxy of the real data, or on all of it."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jdd import evaluation, randomness, synthetic, training
from jdd.data import Dataset, Split, hold_out, subset
from jdd.errors import UserError, unknown
from jdd.networks.fresh import fresh_variables
from jdd.networks.shared import Choice
from jdd.recipe import Recipe
from jdd.settings import flag
from jdd.synthetic import SyntheticSet
from jdd.tasks.search_spaces import SPACES, Options, Program, name
from jdd.training import FitState, Schedule, Trainer, TrainingData

PROXIES = ("distilled", "random", "early")
FULL = "full"
TESTED = "test"  # a full training's accuracy on the test images
_CERTAIN = 100.0  # logit of a hard label among soft ones: the softmax rounds to 0 and 1
_PIECES = 10  # compiled calls of a training, between which it can be stopped


@dataclass(frozen=True)
class NasSettings:
    """How architectures are searched for."""

    space: str = flag("convnets", "convnets: the papers' 720 ConvNets; seed: 12 small networks")
    candidates: int = flag(6, "networks drawn from the space")
    sample: int = flag(0, "of them, trained on all real images too; 0: all")
    repeats: int = flag(1, "fresh networks a candidate on the distilled and the random images")
    epochs: int = flag(10, "epochs on the distilled set; early stopping takes as many steps")
    full_epochs: int = flag(10, "epochs on all real images")
    batch: int = flag(16, "images a step, at most")
    learning_rate: float = flag(
        0.0, "0: the space's, 0.01 (SGD) for convnets, 0.001 (Adam) for seed"
    )
    augmentation: str = flag("none", "DSA strategy of all trainings, its kinds joined by _")
    held_out: float = flag(0.3, "share of the real training images that candidates are judged on")
    real_images: int = flag(0, "real training images used, before that share goes; 0: all")

    def check(self) -> None:
        """Raises `UserError` for values out of range."""
        if self.space not in SPACES:
            raise unknown("space", self.space, SPACES)
        for field in ("candidates", "repeats", "epochs", "full_epochs", "batch"):
            if getattr(self, field) < 1:
                words = field.replace("_", "-")
                raise UserError(f"--{words} {getattr(self, field)}: at least 1 is needed")
        for field in ("sample", "real_images"):
            if getattr(self, field) < 0:
                words = field.replace("_", "-")
                raise UserError(f"--{words} {getattr(self, field)}: at least 1, or 0 for all")
        if self.sample > self.candidates:
            raise UserError(
                f"--sample {self.sample} is more than --candidates {self.candidates}: at most those"
            )
        if not 0 <= self.learning_rate < math.inf:
            raise UserError(f"--learning-rate {self.learning_rate}: above 0, or 0 for the space's")
        if not 0 < self.held_out < 1:
            raise UserError(f"--held-out {self.held_out}: a share between 0 and 1")

    def identity(self) -> dict[str, Any]:
        """What a finished training depends on: all but how many of them there are."""
        counts = ("candidates", "sample", "repeats")
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in counts}


class Training(NamedTuple):
    """A network trained and judged."""

    candidate: Options
    proxy: str  # one of PROXIES, FULL, or "test": FULL's accuracy on the test images
    repeat: int  # which of several fresh networks
    accuracy: float  # fraction of 1, on the validation split unless the proxy is "test"
    seconds: float  # of training, without compiling
    steps: int

    @property
    def what(self) -> tuple[str, str, int]:
        """Which training it is."""
        return name(self.candidate), self.proxy, self.repeat


class Bench:
    """Trains networks of a space on a proxy of the data, or on all of it.

    All images lie in one array: the distilled ones, as many random real ones, all real ones. What a
    training may take is a mask over them, so that one compiled program serves every proxy, and
    every network with parameters of the same shapes.
    """

    def __init__(
        self, settings: NasSettings, stored: SyntheticSet, dataset: Dataset, seed: int
    ) -> None:
        """Puts the images on the device.

        Raises:
          UserError: too few real images, or an augmentation that is not known.
        """
        settings.check()
        self._settings, self._seed = settings, seed
        self._space, self._classes = SPACES[settings.space], dataset.num_classes
        real = dataset.train
        if settings.real_images:
            real = subset(real, settings.real_images, seed=0)
        train, validation = hold_out(real, settings.held_out, seed=0)
        size = stored.images.shape[0]
        ipc, fewest = size // self._classes, int(np.bincount(train.labels).min())
        if fewest < ipc:
            raise UserError(
                f"the distilled set has {ipc} images a class, but only {fewest} real ones are left "
                "to train on: give more --real-images, or a smaller --held-out"
            )
        rng = randomness.generator(seed, "nas random images")
        images, labels = synthetic.from_real(train, dataset, ipc, rng)
        parts = (size, len(images), len(train))
        all_labels = jnp.concatenate([stored.hard_labels(), labels, jnp.asarray(train.labels)])
        if stored.labels.ndim == 2:
            certain = _CERTAIN * jax.nn.one_hot(all_labels[size:], self._classes)
            all_labels = jnp.concatenate([stored.labels, certain])
        self._data = TrainingData(
            jnp.concatenate([stored.images, images, dataset.preprocess(train.images)]), all_labels
        )
        masks = [np.repeat(np.arange(3) == part, parts) for part in range(3)]
        self._masks = dict(zip(("distilled", "random", FULL), masks, strict=True))
        longest = max(len(validation), len(dataset.test))
        self._judges = {
            kind: (evaluation.real(_filled(split, longest), dataset), len(split))
            for kind, split in (("validation", validation), ("test", dataset.test))
        }
        self._recipe = Recipe(
            batch_size=settings.batch,
            learning_rate=settings.learning_rate or self._space.learning_rate,
            augmentation=settings.augmentation,
        )
        if self._space.adam:
            self._recipe = dataclasses.replace(
                self._recipe, momentum=0.0, weight_decay=0.0, decay_after=1.0
            )
        # Batches as the distilled set divides into them, for all proxies alike.
        self._batch = Trainer.of(nn.Module(), self._recipe, size).batch
        self._epoch_steps = {
            kind: max(1, int(mask.sum()) // self._batch) for kind, mask in self._masks.items()
        }
        self._compiled: dict[nn.Module, tuple[Any, Any, Any]] = {}
        self.compile_seconds = 0.0
        jax.eval_shape(
            lambda x: training.augmented(jax.random.key(0), x, settings.augmentation),
            self._data.images[:1],
        )

    @property
    def programs(self) -> int:
        """How many have been compiled."""
        return len(self._compiled)

    def steps(self, proxy: str) -> int:
        """Steps of one training."""
        if proxy == "early":
            return self.steps("distilled")
        return self._epochs(proxy) * self._epoch_steps[proxy]

    def train(
        self, options: Options, proxy: str, repeat: int, progress: Callable[[int], None]
    ) -> tuple[Training, dict[str, Any]]:
        """Trains a fresh network and judges it on the validation split.

        Args:
          options: the network.
          proxy: one of PROXIES, or FULL.
          repeat: which of several fresh networks.
          progress: told how many steps have just been taken.

        Returns:
          How it went, and the network's variables.
        """
        program = self._program(options)
        run, _, shapes = self._ready(program)
        label = f"nas {name(options)} {proxy} {repeat}"
        variables = fresh_variables(shapes, randomness.generator(self._seed, label))
        trainer = self._trainer(program.module)
        state = _begin(trainer, variables, randomness.key(self._seed, label))
        rates = training.schedule(dataclasses.replace(self._recipe, epochs=self._epochs(proxy)))
        seconds = 0.0
        for epochs, mask in self._pieces(proxy, label):
            began = time.perf_counter()
            state = jax.block_until_ready(
                run(program.choice, state, self._data, rates, np.int32(epochs), mask)
            )
            seconds += time.perf_counter() - began
            progress(epochs * max(1, int(mask.sum()) // self._batch))
        trained = training.tested_variables(trainer, state)
        accuracy = self.accuracy(options, trained, "validation")
        return Training(options, proxy, repeat, accuracy, seconds, self.steps(proxy)), trained

    def accuracy(self, options: Options, variables: Mapping[str, Any], kind: str) -> float:
        """Accuracy on "validation" or "test" images, a fraction of 1."""
        program = self._program(options)
        data, size = self._judges[kind]
        return int(self._ready(program)[1](program.choice, variables, data)) / size

    def _program(self, options: Options) -> Program:
        return self._space.program(self._space.network(options, self._classes))

    def _trainer(self, module: nn.Module) -> Trainer:
        trainer = Trainer.of(module, self._recipe, self._batch)
        return trainer._replace(steps=self._epoch_steps[FULL], adam=self._space.adam)

    def _epochs(self, proxy: str) -> int:
        """Of the schedule of step sizes: early stopping is the beginning of the full training."""
        whole = proxy in ("early", FULL)
        return self._settings.full_epochs if whole else self._settings.epochs

    def _pieces(self, proxy: str, label: str) -> Iterable[tuple[int, np.ndarray]]:
        """Epochs, and the images that they are made of."""
        if proxy != "early":
            epochs = self._epochs(proxy)
            ends = np.linspace(0, epochs, min(epochs, _PIECES) + 1).astype(int)
            return [(int(n), self._masks[proxy]) for n in np.diff(ends)]
        whole, rest = divmod(self.steps("early"), self._epoch_steps[FULL])
        pieces = [(1, self._masks[FULL])] * whole
        if rest:
            rng = randomness.generator(self._seed, f"{label} last epoch")
            places = np.flatnonzero(self._masks[FULL])
            some = np.zeros_like(self._masks[FULL])
            some[rng.choice(places, rest * self._batch, replace=False)] = True
            pieces.append((1, some))
        return pieces

    def _ready(self, program: Program) -> tuple[Any, Any, Any]:
        """(training, judging, shapes of the variables) for a module, compiled once."""
        module = program.module
        if module in self._compiled:
            return self._compiled[module]
        began = time.perf_counter()
        image = jax.ShapeDtypeStruct((1, *self._data.images.shape[1:]), jnp.float32)
        choice = () if program.choice is None else (program.choice,)
        shapes = jax.eval_shape(module.init, jax.random.key(0), image, *choice)
        trainer = self._trainer(module)
        run = _run.lower(
            trainer,
            program.choice,
            _begin(trainer, shapes, jax.random.key(0)),
            self._data,
            training.schedule(self._recipe),
            np.int32(0),
            self._masks[FULL],
        ).compile()
        judge = _right.lower(
            module, program.choice, shapes, self._judges["validation"][0]
        ).compile()
        self.compile_seconds += time.perf_counter() - began
        self._compiled[module] = run, judge, shapes
        return self._compiled[module]


class _Chosen(NamedTuple):
    """A shared module with its choice, in the place of a module."""

    module: nn.Module
    choice: Choice

    def apply(self, variables: Any, images: jax.Array, **options: Any) -> Any:
        return self.module.apply(variables, images, self.choice, **options)


def _bound(module: nn.Module, choice: Choice | None) -> Any:
    return module if choice is None else _Chosen(module, choice)


@partial(jax.jit, static_argnums=(0,))
def _run(
    trainer: Trainer,
    choice: Choice | None,
    state: FitState,
    data: TrainingData,
    rates: Schedule,
    epochs: jax.Array,
    eligible: jax.Array,
) -> FitState:
    trainer = trainer._replace(network=_bound(trainer.network, choice))
    return training.run(trainer, state, data, rates, epochs, eligible)


@partial(jax.jit, static_argnums=(0,))
def _right(
    module: nn.Module, choice: Choice | None, variables: Any, data: TrainingData
) -> jax.Array:
    """How many are classified rightly."""
    network, size = _bound(module, choice), data.labels.shape[0]
    batch = min(training.TEST_BATCH, size)
    index = jnp.arange(-(-size // batch) * batch).reshape(-1, batch)

    def right(at: jax.Array) -> jax.Array:
        images, labels = data.batch(at.clip(max=size - 1))
        hit = jnp.argmax(network.apply(variables, images), -1) == labels
        return jnp.sum(hit & (at < size))

    return jnp.sum(jax.lax.map(right, index))


def _begin(trainer: Trainer, variables: Mapping[str, Any], key: jax.Array) -> FitState:
    """A training's start, from a network's variables or from their shapes."""
    moments = jax.eval_shape(trainer.optimizer().init, variables["params"])
    return FitState(
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        optimizer=jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), moments),
        average={},
        key=jax.random.key_data(key),
        epoch=jnp.int32(0),
        loss=jnp.float32(0),
    )


def _filled(split: Split, size: int) -> Split:
    """The split, its end repeated up to `size` with a label that no network gives."""
    index = np.arange(size).clip(max=len(split) - 1)
    labels = np.where(np.arange(size) < len(split), split.labels[index], -1)
    return Split(split.images[index], labels.astype(np.int32))
