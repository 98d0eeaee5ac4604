"""Architecture search: does training on a distilled set rank networks as training on all data does?

Zhao et al., "Dataset Condensation with Gradient Matching" (2021), section 4.2; with the comparison
to random images and to early stopping of Zhao and Bilen, "Dataset Condensation with Differentiable
Siamese Augmentation" (2021).
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from jdd import randomness
from jdd.data import Dataset
from jdd.errors import UserError
from jdd.tasks.proxies import FULL, PROXIES, TESTED, Bench, NasSettings, Training
from jdd.tasks.search_spaces import SPACES, Options, name

_LEAST_TOP = 10  # networks below which a correlation over the best tenth says nothing
_RESAMPLES = 2000


class Plan(NamedTuple):
    """The networks that are compared."""

    candidates: tuple[Options, ...]
    sampled: tuple[Options, ...]  # the first of them: those trained on all data too
    skipped: tuple[Options, ...]  # the space's that do not fit the images


def plan(settings: NasSettings, dataset: Dataset, seed: int) -> Plan:
    """Draws the candidates, without replacement; more of them keep the first.

    Raises:
      UserError: more candidates than fit the images.
    """
    space = SPACES[settings.space]
    fitting: list[Options] = []
    skipped: list[Options] = []
    for options in space.options:
        fits = space.network(options, dataset.num_classes).fits(dataset.image_shape)
        (fitting if fits else skipped).append(options)
    if settings.candidates > len(fitting):
        raise UserError(
            f"--candidates {settings.candidates}: {len(fitting)} of the {len(space.options)} "
            f"networks of {settings.space} fit {dataset.name}; ask for at most those"
        )
    order = randomness.generator(seed, "nas candidates").permutation(len(fitting))
    chosen = tuple(fitting[i] for i in order[: settings.candidates])
    return Plan(chosen, chosen[: settings.sample or len(chosen)], tuple(skipped))


def search(
    bench: Bench,
    found: Plan,
    repeats: int,
    known: Iterable[Training] = (),
    keep: Callable[[Training], None] = lambda training: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Training]:
    """Trains every candidate on every proxy, those sampled in full, and tests the best of each.

    Args:
      bench: where they are trained.
      found: which networks.
      repeats: fresh networks a candidate on the distilled and the random images.
      known: trainings that need not be done again.
      keep: told each training once it is done.
      progress: told steps done and in all.

    Returns:
      The trainings asked for, known ones among them: on validation, and for the best candidate of
      each ranking the accuracy on the test images once trained in full.
    """
    asked = [
        (options, proxy, repeat)
        for options in found.candidates
        for proxy in PROXIES
        for repeat in range(1 if proxy == "early" else repeats)
    ] + [(options, FULL, 0) for options in found.sampled]
    there = {one.what: one for one in known}
    total = sum(bench.steps(proxy) for _, proxy, _ in asked)
    done = 0

    def stepped(steps: int) -> None:
        nonlocal done
        done += steps
        progress(min(done, total), total)

    trainings: list[Training] = []
    bests: list[Options] = []
    kept: dict[str, Mapping[str, Any]] = {}  # variables of those that may be tested
    for options, proxy, repeat in asked:
        if proxy == FULL and not bests:
            bests = [best(trainings, kind) for kind in PROXIES]
        if (before := there.get((name(options), proxy, repeat))) is not None:
            trainings.append(before)
            stepped(bench.steps(proxy))
            continue
        new, variables = bench.train(options, proxy, repeat, stepped)
        keep(new)
        trainings.append(new)
        if proxy == FULL and options in [*bests, best(trainings, FULL)]:
            kept[name(options)] = variables

    for options in {name(o): o for o in [*bests, best(trainings, FULL)]}.values():
        tested = there.get((name(options), TESTED, 0))
        if tested is None:
            if name(options) not in kept:
                kept[name(options)] = bench.train(options, FULL, 0, stepped)[1]
            accuracy = bench.accuracy(options, kept[name(options)], "test")
            tested = Training(options, TESTED, 0, accuracy, 0.0, 0)
            keep(tested)
        trainings.append(tested)
    return trainings


def accuracies(trainings: Iterable[Training], proxy: str) -> dict[str, float]:
    """By network, the mean accuracy of its trainings on a proxy; in the order of `trainings`."""
    found: dict[str, list[float]] = {}
    for one in trainings:
        if one.proxy == proxy:
            found.setdefault(name(one.candidate), []).append(one.accuracy)
    return {key: float(np.mean(values)) for key, values in found.items()}


def best(trainings: Sequence[Training], proxy: str) -> Options:
    """The network of the highest accuracy on a proxy; of equal ones the first drawn."""
    of = accuracies(trainings, proxy)
    winner = max(of, key=lambda key: of[key])
    return next(t.candidate for t in trainings if name(t.candidate) == winner)


def spearman(
    first: Sequence[float], second: Sequence[float], rng: np.random.Generator
) -> dict[str, float | None]:
    """Spearman's rank correlation, equal values at their mean rank, and its 95 % interval.

    The interval is between the 2.5 and 97.5 % quantiles over 2,000 resamples of the pairs (the
    percentile bootstrap); resamples without two different values on either side are left out.

    Returns:
      value, low, high; None where there are too few pairs, or no two different values.
    """
    if min(len(set(first)), len(set(second))) < 2 or len(first) < 3:
        return {"value": None, "low": None, "high": None}

    def correlation(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        ranks = [stats.rankdata(v, axis=axis) for v in (x, y)]
        a, b = (r - r.mean(axis, keepdims=True) for r in ranks)
        with np.errstate(invalid="ignore"):
            return (a * b).sum(axis) / np.sqrt((a * a).sum(axis) * (b * b).sum(axis))

    pairs = (np.asarray(first), np.asarray(second))
    with warnings.catch_warnings():  # of resamples that are all alike
        warnings.simplefilter("ignore")
        resampled = stats.bootstrap(
            pairs,
            correlation,
            n_resamples=_RESAMPLES,
            paired=True,
            vectorized=True,
            method="percentile",
            random_state=rng,
        ).bootstrap_distribution
    low, high = np.nanquantile(resampled, [0.025, 0.975])
    value = float(stats.spearmanr(*pairs).statistic)
    return {"value": value, "low": float(low), "high": float(high)}


def summary(found: Plan, trainings: Sequence[Training], seed: int) -> dict[str, Any]:
    """The result's figures, as plain JSON.

    By proxy, and by "full" itself: `best`, `best_accuracy` (on the test images, once trained in
    full), `proxy_seconds` (of all its trainings); by proxy `spearman` with full training over the
    networks sampled, and `spearman_top` over the tenth of them that is best in full training, where
    that is at least ten. `networks` has each candidate's accuracies on the validation split.
    """
    of = {kind: accuracies(trainings, kind) for kind in (*PROXIES, FULL, TESTED)}
    sampled = [name(options) for options in found.sampled]
    full = [of[FULL][key] for key in sampled]
    top = sorted(sampled, key=lambda key: -of[FULL][key])[: len(sampled) // 10]

    def correlation(proxy: str, keys: Sequence[str]) -> dict[str, float | None]:
        rng = randomness.generator(seed, f"nas spearman {proxy}")
        return spearman([of[proxy][key] for key in keys], [of[FULL][key] for key in keys], rng)

    def seconds(proxy: str, keys: Sequence[str]) -> float:
        return sum(t.seconds for t in trainings if t.proxy == proxy and name(t.candidate) in keys)

    bests = {kind: best(trainings, kind) for kind in (*PROXIES, FULL)}
    every = [name(options) for options in found.candidates]
    return {
        "best": {kind: dict(options) for kind, options in bests.items()},
        "best_accuracy": {kind: of[TESTED][name(options)] for kind, options in bests.items()},
        "spearman": {kind: correlation(kind, sampled) for kind in PROXIES},
        "spearman_top": (
            {kind: correlation(kind, top) for kind in PROXIES} if len(top) >= _LEAST_TOP else None
        ),
        "proxy_seconds": {kind: seconds(kind, every) for kind in PROXIES},
        "full_seconds": seconds(FULL, sampled),
        "share_of_full_time": {
            kind: seconds(kind, sampled) / seconds(FULL, sampled) for kind in PROXIES
        },
        "full_accuracy_range": [min(full), max(full)],
        "candidates": len(found.candidates),
        "sampled": len(found.sampled),
        "skipped": [name(options) for options in found.skipped],
        "networks": [
            {
                "options": dict(options),
                **{kind: of[kind].get(name(options)) for kind in (*PROXIES, FULL)},
            }
            for options in found.candidates
        ],
    }
