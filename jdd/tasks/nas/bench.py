"""Trains networks of a search space on a proxy of the real data, or on all of it."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdd import randomness, synthetic, training
from jdd.data import Dataset, DeviceData, Split, hold_out, subset, to_device
from jdd.errors import SettingError, UserError
from jdd.evaluation import pieces_of
from jdd.networks.fresh import fresh_variables
from jdd.networks.shared import Choice
from jdd.synthetic import SyntheticSet
from jdd.tasks.nas.settings import FULL, NasSettings, Training
from jdd.tasks.nas.spaces import SPACES, Options, Program, name
from jdd.training import FitState, Recipe, Schedule, Trainer

_CERTAIN = 100.0  # logit of a hard label among soft ones: the softmax rounds to 0 and 1


class _Compiled(NamedTuple):
    """The programs of a module."""

    run: Any
    count_correct: Any
    shapes: Any  # of the variables


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
          UserError: too few real images, an augmentation that is not known, or early stopping that
            would take more steps than full training.
        """
        self._settings, self._seed = settings, seed
        self._space, self._classes = SPACES[settings.space], dataset.num_classes
        real = dataset.train
        if settings.real_images:
            real = subset(real, settings.real_images, seed=0)
        train, validation = hold_out(real, settings.held_out, seed=0)
        self._data, self._masks = _pooled(stored, train, dataset, seed)
        longest = max(len(validation), len(dataset.test))
        self._tests = {
            kind: (to_device(_filled(split, longest), dataset.preprocess), len(split))
            for kind, split in (("validation", validation), ("test", dataset.test))
        }
        self._recipe = Recipe(
            batch_size=settings.batch,
            learning_rate=settings.learning_rate or self._space.learning_rate,
            augmentation=settings.augmentation,
        )
        if self._space.adam:
            self._recipe = dataclasses.replace(
                self._recipe, optimizer="adamw", weight_decay=0.0, decay_after=1.0
            )
        # Batches as the distilled set divides into them, for all proxies and networks alike.
        module = self._program(self._space.options[0]).module
        self._batch = Trainer.of(module, self._recipe, stored.labels.shape[0]).batch
        self._epoch_steps = {
            kind: max(1, int(mask.sum()) // self._batch) for kind, mask in self._masks.items()
        }
        early, full = self.steps("early"), self.steps(FULL)
        if early > full:
            raise SettingError(
                "epochs",
                settings.epochs,
                f"early stopping takes as many steps, {early}, and full training has {full}: fewer "
                "`epochs`, or more `full_epochs`",
            )
        self._compiled: dict[Any, _Compiled] = {}
        self.compile_seconds = 0.0
        jax.eval_shape(  # raises for an augmentation that is not known
            lambda x: training.augmented(jax.random.key(0), x, settings.augmentation),
            jax.ShapeDtypeStruct((1, *self._data.image_shape), jnp.float32),
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
        """Trains a fresh network and evaluates it on the validation split.

        Args:
          options: the network.
          proxy: one of PROXIES, or FULL.
          repeat: which of several fresh networks.
          progress: told how many steps have just been taken.

        Returns:
          How it went, and the network's variables.
        """
        program = self._program(options)
        compiled = self._ready(program)
        label = f"nas {name(options)} {proxy} {repeat}"
        variables = fresh_variables(compiled.shapes, randomness.generator(self._seed, label))
        trainer = self._trainer(program.module)
        state = FitState.start(trainer, variables, randomness.key(self._seed, label))
        rates = training.schedule(dataclasses.replace(self._recipe, epochs=self._epochs(proxy)))
        seconds = 0.0
        for epochs, mask in self._pieces(proxy, label):
            began = time.perf_counter()
            state = jax.block_until_ready(
                compiled.run(program.choice, state, self._data, rates, np.int32(epochs), mask)
            )
            seconds += time.perf_counter() - began
            progress(epochs * max(1, int(mask.sum()) // self._batch))
        trained = training.eval_variables(trainer, state)
        accuracy = self.accuracy(options, trained, "validation")
        return Training(options, proxy, repeat, accuracy, seconds, self.steps(proxy)), trained

    def accuracy(self, options: Options, variables: Mapping[str, Any], kind: str) -> float:
        """Accuracy on "validation" or "test" images, a fraction of 1."""
        program = self._program(options)
        data, size = self._tests[kind]
        return int(self._ready(program).count_correct(program.choice, variables, data)) / size

    def _program(self, options: Options) -> Program:
        return self._space.program(self._space.network(options, self._classes))

    def _trainer(self, module: Any) -> Trainer:
        trainer = Trainer.of(module, self._recipe, self._batch)
        return trainer._replace(steps=self._epoch_steps[FULL])

    def _epochs(self, proxy: str) -> int:
        """Of the schedule of step sizes: early stopping is the beginning of the full training."""
        full = proxy in ("early", FULL)
        return self._settings.full_epochs if full else self._settings.epochs

    def _pieces(self, proxy: str, label: str) -> Iterable[tuple[int, np.ndarray]]:
        """Epochs, and the images that they are made of."""
        if proxy != "early":
            return [(epochs, self._masks[proxy]) for epochs in pieces_of(self._epochs(proxy))]
        epochs, rest = divmod(self.steps("early"), self._epoch_steps[FULL])
        pieces = [(1, self._masks[FULL])] * epochs
        if rest:
            rng = randomness.generator(self._seed, f"{label} last epoch")
            places = np.flatnonzero(self._masks[FULL])
            some = np.zeros_like(self._masks[FULL])
            some[rng.choice(places, rest * self._batch, replace=False)] = True
            pieces.append((1, some))
        return pieces

    def _ready(self, program: Program) -> _Compiled:
        """The programs of a module, compiled once; the first run, which takes longer, is done."""
        module = program.module
        if module in self._compiled:
            return self._compiled[module]
        began = time.perf_counter()
        image = jax.ShapeDtypeStruct((1, *self._data.image_shape), jnp.float32)
        choice = () if program.choice is None else (program.choice,)
        shapes = jax.eval_shape(module.init, jax.random.key(0), image, *choice)
        trainer = self._trainer(module)
        start = jax.eval_shape(partial(FitState.start, trainer), shapes, jax.random.key(0))
        rates, mask = training.schedule(self._recipe), self._masks[FULL]
        run = _run.lower(
            trainer, program.choice, start, self._data, rates, np.int32(0), mask
        ).compile()
        validation, _ = self._tests["validation"]
        count = _count_correct.lower(module, program.choice, shapes, validation).compile()
        self.compile_seconds += time.perf_counter() - began
        variables = fresh_variables(shapes, randomness.generator(self._seed, "nas warm-up"))
        first = FitState.start(trainer, variables, jax.random.key(0))
        shortest = self._masks["distilled"]
        jax.block_until_ready(run(program.choice, first, self._data, rates, np.int32(1), shortest))
        self._compiled[module] = _Compiled(run, count, shapes)
        return self._compiled[module]


def _pooled(
    stored: SyntheticSet, train: Split, dataset: Dataset, seed: int
) -> tuple[DeviceData, dict[str, np.ndarray]]:
    """All images in one array, and by proxy which of them it may take: bool `(n,)`.

    Where the set has label logits, hard labels become such as are certain.

    Raises:
      UserError: too few real images.
    """
    size, classes = stored.labels.shape[0], dataset.num_classes
    ipc, fewest = stored.decoder.encoded(stored.info.ipc), int(np.bincount(train.labels).min())
    if fewest < ipc:
        raise UserError(
            f"the distilled set has {ipc} images a class, but only {fewest} real ones are left "
            "to train on: give more `real_images`, or a smaller `held_out`"
        )
    rng = randomness.generator(seed, "nas random images")
    drawn, _ = synthetic.from_real(train, dataset, ipc, rng)
    random = SyntheticSet.encode(drawn, stored.info, stored.decoder)
    images, labels = random.images, random.labels
    all_labels = jnp.concatenate([stored.hard_labels(), labels, jnp.asarray(train.labels)])
    if stored.labels.ndim == 2:
        certain = _CERTAIN * jax.nn.one_hot(all_labels[size:], classes)
        all_labels = jnp.concatenate([stored.labels, certain])
    all_images = jnp.concatenate([stored.images, images, dataset.preprocess(train.images)])
    parts = np.repeat(np.arange(3), (size, len(images), len(train)))
    kinds = ("distilled", "random", FULL)
    return DeviceData(all_images, all_labels), {k: parts == i for i, k in enumerate(kinds)}


class _Chosen(NamedTuple):
    """A shared module with its choice, in the place of a module."""

    module: Any
    choice: Choice

    def apply(self, variables: Any, images: jax.Array, **options: Any) -> Any:
        return self.module.apply(variables, images, self.choice, **options)


def _bound(module: Any, choice: Choice | None) -> Any:
    return module if choice is None else _Chosen(module, choice)


@partial(jax.jit, static_argnums=(0,))
def _run(
    trainer: Trainer,
    choice: Choice | None,
    state: FitState,
    data: DeviceData,
    rates: Schedule,
    epochs: jax.Array,
    eligible: jax.Array,
) -> FitState:
    trainer = trainer._replace(network=_bound(trainer.network, choice))
    return training.run(trainer, state, data, rates, epochs, eligible)


@partial(jax.jit, static_argnums=(0,))
def _count_correct(
    module: Any, choice: Choice | None, variables: Any, data: DeviceData
) -> jax.Array:
    """How many are classified correctly."""
    network, size = _bound(module, choice), data.labels.shape[0]
    batch = min(training.TEST_BATCH, size)
    index = jnp.arange(-(-size // batch) * batch).reshape(-1, batch)

    def of_batch(at: jax.Array) -> jax.Array:
        images, labels = data.batch(at.clip(max=size - 1))
        correct = jnp.argmax(network.apply(variables, images), -1) == labels
        return jnp.sum(correct & (at < size))

    return jnp.sum(jax.lax.map(of_batch, index))


def _filled(split: Split, size: int) -> Split:
    """The split, its end repeated up to `size` with a label that no network gives."""
    index = np.arange(size).clip(max=len(split) - 1)
    labels = np.where(np.arange(size) < len(split), split.labels[index], -1)
    return Split(split.images[index], labels.astype(np.int32))
