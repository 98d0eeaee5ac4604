"""What a search has come to: the best networks, and how well each proxy ranks."""

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from jdd import randomness
from jdd.tasks.nas.search import Plan, accuracies, best
from jdd.tasks.nas.settings import FULL, PROXIES, TESTED, Training
from jdd.tasks.nas.spaces import name

_FEWEST_TOP = 10  # networks below which a correlation over the best tenth says nothing
_RESAMPLES = 2000


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
            spread = np.sqrt((a * a).sum(axis) * (b * b).sum(axis))
            return np.asarray((a * b).sum(axis) / spread)

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


def summary(plan: Plan, trainings: Sequence[Training], seed: int) -> dict[str, Any]:
    """The result's figures, as plain JSON.

    By proxy, and by "full" itself: `best`, `best_accuracy` (on the test images, once trained in
    full), `proxy_seconds` (of all its trainings); by proxy `spearman` with full training over the
    networks sampled, and `spearman_top` over the tenth of them that is best in full training, where
    that is at least ten. `networks` has each candidate's accuracies on the validation split.
    """
    of = {kind: accuracies(trainings, kind) for kind in (*PROXIES, FULL, TESTED)}
    candidates = [name(options) for options in plan.candidates]
    sampled = [name(options) for options in plan.sampled]
    full = [of[FULL][key] for key in sampled]
    top = sorted(sampled, key=lambda key: -of[FULL][key])[: len(sampled) // 10]

    def correlations(keys: Sequence[str]) -> dict[str, Any]:
        rngs = {kind: randomness.generator(seed, f"nas spearman {kind}") for kind in PROXIES}
        return {
            kind: spearman([of[kind][key] for key in keys], [of[FULL][key] for key in keys], rng)
            for kind, rng in rngs.items()
        }

    full_seconds = _seconds(trainings, FULL, sampled)
    bests = {kind: best(trainings, kind) for kind in (*PROXIES, FULL)}
    return {
        "best": {kind: dict(options) for kind, options in bests.items()},
        "best_accuracy": {kind: of[TESTED][name(options)] for kind, options in bests.items()},
        "spearman": correlations(sampled),
        "spearman_top": correlations(top) if len(top) >= _FEWEST_TOP else None,
        "proxy_seconds": {kind: _seconds(trainings, kind, candidates) for kind in PROXIES},
        "full_seconds": full_seconds,
        "fraction_of_full_time": {
            kind: _seconds(trainings, kind, sampled) / full_seconds for kind in PROXIES
        },
        "full_accuracy_range": [min(full), max(full)],
        "candidates": len(candidates),
        "sampled": len(sampled),
        "skipped": [name(options) for options in plan.skipped],
        "networks": [
            {
                "options": dict(options),
                **{kind: of[kind].get(name(options)) for kind in (*PROXIES, FULL)},
            }
            for options in plan.candidates
        ],
    }


def _seconds(trainings: Iterable[Training], proxy: str, keys: Sequence[str]) -> float:
    return sum(t.seconds for t in trainings if t.proxy == proxy and name(t.candidate) in keys)
