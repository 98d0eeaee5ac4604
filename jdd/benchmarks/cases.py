"""What is measured: one update of a method, one training step, one test, each on random images."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdd import data, networks, preprocessing, randomness, synthetic, training
from jdd.augment import strategy_for
from jdd.data import Dataset, DeviceData, Split
from jdd.errors import unknown_value
from jdd.experts import Segment
from jdd.methods import Method, MethodSettings, guarded, registry
from jdd.networks import NetworkLike
from jdd.settings import defaults
from jdd.synthetic import SetInfo, SyntheticSet
from jdd.training import FitState, Recipe, Trainer

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

    @property
    def uses_dsa(self) -> bool:
        """Whether a method's step augments its images; DC is DSA without."""
        return self.augmented and self.kind != "dc"

    def words(self) -> str:
        """What a step is."""
        if self.kind == "train":
            return f"forward and backward pass and SGD on {self.batch} images, momentum and decay"
        if self.kind == "test":
            return f"logits of {self.batch} images"
        dsa = "DSA" if self.uses_dsa else "no DSA"
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
        raise unknown_value("case", name, CASES)
    return CASES[name]


class Problem(NamedTuple):
    """A case's arrays and settings, which our step and a peer's both start from."""

    case: Case
    network: NetworkLike
    width: int  # its channels
    dataset: Dataset  # random images; those of a training step or a test are its training images
    synthetic: SyntheticSet | None  # the start of a method
    settings: Any  # the method's; None without one
    segment: Segment | None  # of methods that need them
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
        return Problem(case, network, width, dataset, None, None, None, "none")
    wanted = {
        "lr_img": _LR_IMG,
        "lr_lr": _LR_LR,
        "syn_steps": case.syn_steps,
        "batch_real": case.batch,
        "dsa": case.augmented,
    }
    kind: type[MethodSettings] = registry.entry(case.kind).settings
    settings = kind(**{name: value for name, value in wanted.items() if name in defaults(kind)})
    segment, window = None, settings.needs.segments
    if window is not None:
        segment = random_segments(network, dataset.image_shape, window.segments, seed)
    return Problem(
        case,
        network,
        width,
        dataset,
        noise(dataset, case.ipc, seed),
        settings,
        segment,
        strategy_for(case.dataset) if case.uses_dsa else "none",
    )


def step(problem: Problem, seed: int = 0) -> Step:
    """The step that `jdd` makes of it, yet to be compiled."""
    network, dataset = problem.network, problem.dataset
    key = randomness.key(seed, "benchmark")
    if problem.synthetic is not None:
        method = registry.create(problem.case.kind, problem.settings, network)
        return Step(
            guarded(method).update,
            (*begin(method, problem.synthetic, dataset, key), problem.segment),
            lambda arguments, result: (*result[:2], *arguments[2:]),
            0,  # with one outer step, DC's loop that trains the network is passed by
        )
    images = data.to_device(dataset.train, dataset.preprocess)
    if problem.case.kind == "test":
        variables = network.init(key, jnp.zeros((1, *dataset.image_shape)))

        def test(variables: Any, images: DeviceData) -> Any:
            return training.predict(network, variables, images)

        return Step(test, (variables, images), lambda arguments, _: arguments, 0)
    recipe = Recipe(batch_size=problem.case.batch)
    trainer = Trainer.of(network, recipe, len(dataset.train))
    state = training.init(trainer, key, dataset.image_shape)

    def train(state: FitState, *others: Any) -> FitState:
        return training.run(trainer, state, *others)

    return Step(
        train,
        (state, images, training.schedule(recipe), jnp.int32(1)),
        lambda arguments, state: (state, *arguments[1:]),
        1,
    )


def begin(
    method: Method, start: SyntheticSet, dataset: Dataset, key: jax.Array
) -> tuple[SyntheticSet, Any, DeviceData | None]:
    """Set and state of a method before its first update, and the real images, if it needs them."""
    real = None
    if method.needs.real_images:
        real = data.to_device(dataset.train, dataset.preprocess, CLASSES)
    return (*method.init(key, start, real), real)


def random_dataset(name: str, images: int, seed: int) -> Dataset:
    """A dataset of `images` random images, class after class, in the shape of the one named.

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
    network: NetworkLike, image_shape: tuple[int, int, int], count: int, seed: int
) -> Segment:
    """Expert segments that cost what real ones do: a random network, and one a little way off."""
    rng = randomness.generator(seed, "random segments")
    params = network.init(randomness.key(seed, "expert"), jnp.zeros((1, *image_shape)))["params"]

    def leaves(distance: float) -> Any:
        return jax.tree.map(
            lambda p: jnp.asarray(
                np.asarray(p) + distance * rng.standard_normal((count, *p.shape)).astype(np.float32)
            ),
            params,
        )

    return Segment(leaves(0.0), leaves(0.01))
