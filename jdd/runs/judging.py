"""What a run's sets are worth: looks at the validation split, and the figures at the end."""

import dataclasses
import os
import platform
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from jdd import data as real_data
from jdd import evaluation, randomness, synthetic
from jdd.data import Dataset
from jdd.distillation import Outcome
from jdd.errors import Interrupted
from jdd.evaluation import Accuracy
from jdd.recipe import Recipe
from jdd.report.console import Stage
from jdd.runs.settings import RunSettings
from jdd.synthetic import SyntheticSet
from jdd.training import TrainingData


def validator(
    settings: RunSettings,
    network: nn.Module,
    validation: TrainingData,
    should_stop: Callable[[], bool],
) -> Callable[[SyntheticSet], float]:
    """How good a set is on the validation split, by which the best one is chosen.

    By `Accuracy.criterion`: accuracy, for data of two classes balanced accuracy.
    """
    key = randomness.key(settings.seed, "validation")
    epochs = settings.evaluation.validation_epochs

    def progress(done: int, total: int) -> None:
        if should_stop():
            raise Interrupted

    def accuracy(candidate: SyntheticSet) -> float:
        recipe = candidate.info.recipe
        return evaluation.evaluate(
            network,
            dataclasses.replace(recipe, epochs=epochs) if epochs else recipe,
            TrainingData(candidate.images, candidate.labels),
            validation,
            key,
            settings.evaluation.validation_networks,
            candidate.learning_rate,
            progress,
        ).criterion

    return accuracy


def judge(
    settings: RunSettings,
    dataset: Dataset,
    network: nn.Module,
    train: real_data.Split,
    outcome: Outcome,
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    """Reads the test set: for the best set, the last one, random images and all real ones."""
    how_many, recipe = settings.evaluation, outcome.best.info.recipe
    test = evaluation.real(dataset.test, dataset)
    key = randomness.key(settings.seed, "test")

    def accuracy(
        title: str, how: Recipe, shown: TrainingData, count: int, rate: jax.Array | None = None
    ) -> Accuracy:
        with Stage(f"testing {title}: epochs") as stage:
            progress = stage.watched(should_stop)
            return evaluation.evaluate(network, how, shown, test, key, count, rate, progress)

    def of_set(title: str, chosen: SyntheticSet) -> Accuracy:
        shown = TrainingData(chosen.images, chosen.labels)
        return accuracy(title, recipe, shown, how_many.eval_networks, chosen.learning_rate)

    best = of_set("the best set", outcome.best)
    last = best
    if outcome.best_iteration != settings.iterations:
        last = of_set("the last set", outcome.final)
    baselines: dict[str, Any] = {}
    if how_many.eval_random:
        rng = randomness.generator(settings.seed, "random baseline")
        drawn = synthetic.from_real(train, dataset, settings.ipc, rng)
        random = accuracy("random images", recipe, TrainingData(*drawn), how_many.eval_networks)
        baselines["random"] = random.to_json()
    if how_many.whole_epochs:
        whole = accuracy(
            "all real images", settings.whole_recipe(), evaluation.real(dataset.train, dataset), 1
        )
        baselines["whole"] = {**whole.to_json(), "images": len(dataset.train)}
    return {
        "method": settings.method,
        "dataset": settings.dataset,
        "ipc": settings.ipc,
        "classes": dataset.num_classes,
        "init": settings.init,
        "seed": settings.seed,
        "preset": settings.preset,
        "network": settings.network,
        "options": dict(settings.options),
        "iterations": settings.iterations,
        "resumed_from": outcome.resumed_from,
        **best.to_json(),
        "best": {
            "iteration": outcome.best_iteration,
            "validation_accuracy": outcome.best_accuracy,
            **best.to_json(),
        },
        "final": {"iteration": settings.iterations, **last.to_json()},
        "baselines": baselines,
        "dropped_updates": outcome.dropped,
        "distilling_seconds": round(outcome.seconds, 2),
        "recipe": recipe.to_json(),
    }


def machine() -> str:
    """What it was measured on, such as "2 CPU cores, x86_64, JAX 0.10.2"."""
    device = jax.devices()[0]
    kind = device.device_kind
    if device.platform == "cpu":
        usable = getattr(os, "sched_getaffinity", None)
        count = len(usable(0)) if usable else os.cpu_count() or 1
        kind = f"{count} CPU core{'s' * (count > 1)}, {platform.machine()}"
    return f"{kind}, JAX {jax.__version__}"
