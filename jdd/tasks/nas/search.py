"""The search itself: which networks are trained on what, and which of them are tested."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from jdd import randomness
from jdd.data import Dataset
from jdd.errors import SettingError
from jdd.tasks.nas.settings import FULL, PROXIES, TESTED, NasSettings, Training
from jdd.tasks.nas.spaces import SPACES, Options, name


class Plan(NamedTuple):
    """The networks that are compared."""

    candidates: tuple[Options, ...]
    sampled: tuple[Options, ...]  # the first of them: those trained on all data too
    skipped: tuple[Options, ...]  # the space's that do not fit the images


class Trains(Protocol):
    """What a search asks of a `Bench`, which says more of each."""

    def steps(self, proxy: str) -> int:
        """Steps of one training."""

    def train(
        self, options: Options, proxy: str, repeat: int, progress: Callable[[int], None]
    ) -> tuple[Training, Any]:
        """Trains a fresh network: how it went, and the network's variables."""

    def accuracy(self, options: Options, variables: Any, kind: str) -> float:
        """Accuracy on "validation" or "test" images, a fraction of 1."""


def plan(settings: NasSettings, dataset: Dataset, seed: int) -> Plan:
    """Draws the candidates, without replacement; more of them keep the first.

    Raises:
      SettingError: more candidates than fit the images.
    """
    space = SPACES[settings.space]
    fitting: list[Options] = []
    skipped: list[Options] = []
    for options in space.options:
        fits = space.network(options, dataset.num_classes).fits(dataset.image_shape)
        (fitting if fits else skipped).append(options)
    if settings.candidates > len(fitting):
        raise SettingError(
            "candidates",
            settings.candidates,
            f"{len(fitting)} of the {len(space.options)} networks of {settings.space} fit "
            f"{dataset.name}; ask for at most those",
        )
    order = randomness.generator(seed, "nas candidates").permutation(len(fitting))
    drawn = tuple(fitting[i] for i in order[: settings.candidates])
    return Plan(drawn, drawn[: settings.sample or len(drawn)], tuple(skipped))


def search(
    bench: Trains,
    plan: Plan,
    repeats: int,
    stored: Iterable[Training] = (),
    keep: Callable[[Training], None] = lambda training: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Training]:
    """Trains every candidate on every proxy, those sampled in full, and tests the best of each.

    Args:
      bench: where they are trained.
      plan: which networks.
      repeats: fresh networks a candidate on the distilled and the random images.
      stored: trainings that need not be done again.
      keep: told each training once it is done.
      progress: told steps done and in all.

    Returns:
      The trainings asked for, stored ones among them: on validation, and for the best candidate of
      each ranking the accuracy on the test images once trained in full.
    """
    asked = [
        (options, proxy, repeat)
        for options in plan.candidates
        for proxy in PROXIES
        for repeat in range(1 if proxy == "early" else repeats)
    ] + [(options, FULL, 0) for options in plan.sampled]
    available = {training.identity: training for training in stored}
    total = sum(bench.steps(proxy) for _, proxy, _ in asked)
    done = 0

    def stepped(steps: int) -> None:
        nonlocal done
        done += steps
        progress(min(done, total), total)

    trainings: list[Training] = []
    bests: list[Options] = []
    variables: dict[str, Any] = {}  # of those that may be tested
    for options, proxy, repeat in asked:
        if proxy == FULL and not bests:
            bests = [best(trainings, kind) for kind in PROXIES]
        if (before := available.get((name(options), proxy, repeat))) is not None:
            trainings.append(before)
            stepped(bench.steps(proxy))
            continue
        training, trained = bench.train(options, proxy, repeat, stepped)
        keep(training)
        trainings.append(training)
        if proxy == FULL and options in [*bests, best(trainings, FULL)]:
            variables[name(options)] = trained

    for options in {name(o): o for o in [*bests, best(trainings, FULL)]}.values():
        tested = available.get((name(options), TESTED, 0))
        if tested is None:
            tested = _test(bench, options, variables, stepped)
            keep(tested)
        trainings.append(tested)
    return trainings


def _test(
    bench: Trains, options: Options, variables: Mapping[str, Any], progress: Callable[[int], None]
) -> Training:
    """Tests a network trained in full, after training it again where its variables are gone."""
    trained = variables.get(name(options))
    if trained is None:
        trained = bench.train(options, FULL, 0, progress)[1]
    return Training(options, TESTED, 0, bench.accuracy(options, trained, "test"), 0.0, 0)


def accuracies(trainings: Iterable[Training], proxy: str) -> dict[str, float]:
    """By network, the mean accuracy of its trainings on a proxy; in the order of `trainings`."""
    values: dict[str, list[float]] = {}
    for training in trainings:
        if training.proxy == proxy:
            values.setdefault(name(training.candidate), []).append(training.accuracy)
    return {key: float(np.mean(several)) for key, several in values.items()}


def best(trainings: Sequence[Training], proxy: str) -> Options:
    """The network of the highest accuracy on a proxy; of equal ones the first drawn."""
    of = accuracies(trainings, proxy)
    winner = max(of, key=lambda key: of[key])
    return next(t.candidate for t in trainings if name(t.candidate) == winner)
