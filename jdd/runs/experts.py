"""Experts, and the difficulty that their curriculum goes by: found where they are, else made."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jdd import data, difficulty, distributed, locks
from jdd.augment import strategy_for
from jdd.checkpoints import Damaged
from jdd.data import Dataset, Split
from jdd.difficulty import DifficultySpec
from jdd.errors import Interrupted, UserError
from jdd.evaluation import evaluated_on
from jdd.experts import ExpertStore, open_compatible, open_or_create, train_experts
from jdd.networks import NetworkLike
from jdd.report.console import ProgressBar, say, warn
from jdd.runs.problem import Problem

Stop = Callable[[], bool]


def ready_experts(
    problem: Problem, directory: Path, should_stop: Stop, waiting: Stop | None = None
) -> ExpertStore:
    """The store in `directory`, with as many experts as the run wants: missing ones are trained.

    Another process that trains them is waited for until `waiting()` is true; None: not at all.

    Raises:
      UserError: the experts there do not fit.
      Interrupted: `should_stop()` said so; what is needed to resume is stored.
    """
    spec = problem.expert_spec
    wanted, epochs = spec.settings.num_experts, spec.settings.train_epochs
    store = open_compatible(directory, spec, problem.network)
    if store is not None and store.complete >= wanted:
        say(f"experts: {wanted} in {directory}")
        return store
    if should_stop():
        raise Interrupted("nothing was begun")
    with locks.locked(directory, "experts", waiting):
        store = open_or_create(directory, spec, problem.network)
        missing = wanted - store.complete
        if missing <= 0:  # another process trained them meanwhile
            say(f"experts: {wanted} in {directory}")
            return store
        say(f"experts: training {missing} of {epochs} epochs into {directory}")
        began = time.monotonic()
        try:
            _train(problem, store, wanted, should_stop)
        except BaseException:
            with contextlib.suppress(UserError):  # of the same full disk
                store.spent(time.monotonic() - began)
            raise
        store.spent(time.monotonic() - began)
    mean = sum(store.accuracies[:wanted]) / wanted
    split = evaluated_on(problem.settings.evaluation.choose)
    say(f"experts: {100 * mean:.1f} % on {split}, {time.monotonic() - began:.0f} s")
    return store


def _train(problem: Problem, store: ExpertStore, wanted: int, should_stop: Stop) -> None:
    images, ranks = problem.expert_images, None
    if (scored := problem.expert_spec.difficulty_spec()) is not None:
        place = store.directory / "difficulty"
        scores = difficulty_of(place, scored, problem.network, problem.dataset, images, should_stop)
        ranks = difficulty.ranks(scores, images.labels)
    with ProgressBar("experts' epochs") as bar:
        train_experts(
            store,
            problem.network,
            problem.strategy,
            problem.on_device(images),
            problem.on_device(problem.validation),
            wanted,
            ranks=ranks,
            should_stop=should_stop,
            progress=bar.at,
        )


def difficulty_of(
    directory: Path,
    spec: DifficultySpec,
    network: NetworkLike,
    dataset: Dataset,
    images: Split,
    should_stop: Stop,
) -> np.ndarray:
    """The scores in `directory`, float32 `(n,)`; they are made and stored where they are missing
    or damaged.

    Raises:
      UserError: those there are of something else.
      Interrupted: nothing is stored then.
    """
    try:
        scores = difficulty.load(directory, spec, images.labels)
    except Damaged:
        warn(f"difficulty: the scores in {directory} are damaged, they are made again")
        scores = None
    distributed.barrier(f"looked into {directory}")
    if scores is not None:
        say(f"difficulty: {spec.settings.score} of {len(images)} images in {directory}")
        return scores
    say(f"difficulty: {spec.settings.score} of {len(images)} images into {directory}")
    with ProgressBar("epochs of the networks that score") as bar:
        on_device = data.to_device(images, dataset.preprocess)
        told, strategy = bar.callback(should_stop), strategy_for(dataset.name)
        try:
            scores = difficulty.score(spec.settings, network, strategy, on_device, told)
        except Interrupted:
            raise Interrupted("the scores were not complete, they begin anew") from None
    difficulty.save(directory, spec, scores, images.labels)
    return scores
