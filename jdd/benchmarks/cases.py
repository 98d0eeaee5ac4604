"""What is measured: one update of a method, one training step, one test, each on random images."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdd import data, evaluation, networks, preprocessing, randomness, synthetic, training
from jdd.augment import strategy_for
from jdd.data import Dataset, Split
from jdd.errors import unknown
from jdd.experts import Segment
from jdd.methods import registry
from jdd.networks.base import Network
from jdd.recipe import Recipe
from jdd.synthetic import SetInfo, SyntheticSet
from jdd.training import Trainer

SHAPES = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
CLASSES = 10
STORED = 1000  # real images a class that a method's are drawn from

# Random images and experts are no problem that converges: at the published rates they would drift
# off to infinities. The rates do not change the work.
_LR_IMG, _LR_LR = 1e-3, 1e-9


@dataclass(frozen=True)
class Case:
    """One thing to measure. The network is a ConvNet of three blocks."""

    kind: str  # a method's name, "train" or "test"
    dataset: str
    ipc: int = 0  # images per class
    batch: int = 0  # images of a training step or a test, real images a class of an update
    syn_steps: int = 0  # of a student
    augmented: bool = True  # whether methods that have DSA use it

    def words(self) -> str:
        """What a step is."""
        if self.kind == "train":
            return f"forward and backward pass and SGD on {self.batch} images, momentum and decay"
        if self.kind == "test":
            return f"logits of {self.batch} images"
        dsa = "DSA" if self.augmented and self.kind != "dc" else "no DSA"
        if self.syn_steps:
            count = CLASSES * self.ipc
            return f"an update: {self.syn_steps} student steps of {count} images, {dsa}"
        update = "an outer step alone" if self.kind == "dc" else "an update"
        return f"{update}: a fresh network, {self.batch} real images a class, {dsa}"


def _cases(dataset: str) -> dict[str, Case]:
    return {
        f"dc-{dataset}-ipc10": Case("dc", dataset, 10, 256),
        f"dm-{dataset}-ipc10": Case("dm", dataset, 10, 256),
        f"datadam-{dataset}-ipc10": Case("datadam", dataset, 10, 256),
        f"mtt-{dataset}-ipc1": Case("mtt", dataset, 1, syn_steps=20),
        f"mtt-{dataset}-ipc10": Case("mtt", dataset, 10, syn_steps=20),
        f"train-{dataset}": Case("train", dataset, batch=256),
        f"test-{dataset}": Case("test", dataset, batch=2560),
    }


CASES: dict[str, Case] = {**_cases("mnist"), **_cases("cifar10")}


def case(name: str) -> Case:
    """A case by name; raises `UserError` naming the nearest for an unknown one."""
    if name not in CASES:
        raise unknown("case", name, CASES)
    return CASES[name]


class Problem(NamedTuple):
    """A case's arrays and settings, which our step and a peer's both start from."""

    case: Case
    network: Network
    dataset: Dataset  # random images; those of a training step or a test are its training images
    synthetic: SyntheticSet | None  # the start of a method
    settings: Any  # the method's; None without one
    segment: Segment | None  # of trajectory methods
    strategy: str  # DSA's, or "none"


class Step(NamedTuple):
    """A step as one compiled call makes it."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    onward: Callable[[tuple[Any, ...], Any], tuple[Any, ...]]
    """arguments and result of one step → arguments of the next"""
    turns: int
    """how often the step runs the body of a loop whose length is an argument"""


def problem(case: Case, width: int = 128, seed: int = 0, stored: int = STORED) -> Problem:
    """Random images, as many as the case asks for, and what goes with them.

    Args:
      case: which.
      width: channels of the ConvNet.
      seed: of all random numbers.
      stored: real images a class that a method's are drawn from.

    Raises:
      UserError: the network does not fit.
    """
    is_method = case.kind in registry.METHODS
    dataset = random_dataset(case.dataset, CLASSES * stored if is_method else case.batch, seed)
    network = networks.create("ConvNet", CLASSES, width=width, depth=3)
    if not is_method:
        return Problem(case, network, dataset, None, None, None, "none")
    found = registry.entry(case.kind)
    settings = found.settings(lr_img=_LR_IMG)
    if found.trajectories:
        settings = replace(settings, syn_steps=case.syn_steps, lr_lr=_LR_LR)
    elif case.batch:
        settings = replace(settings, batch_real=case.batch)
    if hasattr(settings, "dsa"):
        settings = replace(settings, dsa=case.augmented)
    uses_dsa = case.kind == "dsa" or getattr(settings, "dsa", False)
    segment = None
    if found.trajectories:
        segment = random_segments(network, dataset.image_shape, settings.segments, seed)
    return Problem(
        case,
        network,
        dataset,
        noise(dataset, case.ipc, seed),
        settings,
        segment,
        strategy_for(case.dataset) if uses_dsa else "none",
    )


def step(problem: Problem, seed: int = 0) -> Step:
    """The step that `jdd` makes of it, yet to be compiled."""
    network, dataset = problem.network, problem.dataset
    key = randomness.key(seed, "benchmark")
    if problem.case.kind == "test":
        variables = network.init(key, jnp.zeros((1, *dataset.image_shape)))
        shown = evaluation.real(dataset.train, dataset)

        def test(variables: Any, shown: training.TrainingData) -> jax.Array:
            return training.predict(network, variables, shown)

        return Step(test, (variables, shown), lambda arguments, _: arguments, 0)
    if problem.case.kind == "train":
        recipe = Recipe(batch_size=problem.case.batch)
        trainer = Trainer.of(network, recipe, len(dataset.train))
        state = training.init(trainer, key, dataset.image_shape)
        shown = evaluation.real(dataset.train, dataset)
        rates = training.schedule(recipe)

        def train(state: training.FitState, *others: Any) -> training.FitState:
            return training.run(trainer, state, *others)

        return Step(
            train,
            (state, shown, rates, jnp.int32(1)),
            lambda arguments, state: (state, *arguments[1:]),
            1,
        )
    method = registry.create(problem.case.kind, problem.settings, network)
    real = data.to_device(dataset.train, dataset.preprocess, CLASSES)
    assert problem.synthetic is not None
    start, state = method.init(key, problem.synthetic, real)
    return Step(
        method.update,
        (start, state, real, problem.segment),
        lambda arguments, result: (*result[:2], *arguments[2:]),
        0,  # with one outer step, DC's loop that trains the network is passed by
    )


def random_dataset(name: str, images: int, seed: int) -> Dataset:
    """A data set of `images` random images, class after class, in the shape of the one named.

    The test images are those of the training set.
    """
    rng = randomness.generator(seed, "random images")
    pixels = rng.integers(0, 256, (images, *SHAPES[name]), dtype=np.uint8)
    split = Split(pixels, np.sort(np.arange(images, dtype=np.int32) % CLASSES))
    names = tuple(str(label) for label in range(CLASSES))
    return Dataset(name, split, split, names, preprocessing.fit("standard", pixels))


def noise(dataset: Dataset, ipc: int, seed: int) -> SyntheticSet:
    """A synthetic set of standard normal noise."""
    images, labels = synthetic.from_noise(dataset, ipc, randomness.key(seed, "start"))
    info = SetInfo(dataset.name, dataset.class_names, dataset.preprocess.spec(), ipc, "noise")
    return SyntheticSet(images, labels, None, info)


def random_segments(
    network: Network, image_shape: tuple[int, int, int], count: int, seed: int
) -> Segment:
    """Expert segments that cost what real ones do: a random network, and one a little way off."""
    rng = randomness.generator(seed, "random segments")
    params = network.init(randomness.key(seed, "expert"), jnp.zeros((1, *image_shape)))["params"]

    def leaves(spread: float) -> Any:
        return jax.tree.map(
            lambda p: jnp.asarray(
                np.asarray(p) + spread * rng.standard_normal((count, *p.shape)).astype(np.float32)
            ),
            params,
        )

    return Segment(leaves(0.0), leaves(0.01))
