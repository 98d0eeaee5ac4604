"""What a run's sets are worth: accuracy on the validation split, and the figures at the end."""

import dataclasses
from collections.abc import Callable

import jax

from jdd import randomness, synthetic
from jdd.data import DeviceData
from jdd.distillation import Outcome
from jdd.errors import Interrupted
from jdd.evaluation import train_and_test
from jdd.report.console import ProgressBar
from jdd.runs.problem import Problem
from jdd.runs.result import Figure, RunResult
from jdd.synthetic import SyntheticSet
from jdd.training import Accuracy, Recipe

Stop = Callable[[], bool]


def validator(problem: Problem, should_stop: Stop) -> Callable[[SyntheticSet], float] | None:
    """How good a set is on the validation split, by which the best one is chosen.

    By `Accuracy.criterion`: accuracy, for data of two classes balanced accuracy. None where the
    last set is the one that counts.
    """
    settings = problem.settings
    if settings.evaluation.choose == "last":
        return None
    key = randomness.key(settings.seed, "validation")
    epochs = settings.evaluation.validation_epochs
    validation = problem.on_device(problem.validation)

    def progress(done: int, total: int) -> None:
        if should_stop():
            raise Interrupted

    def accuracy(candidate: SyntheticSet) -> float:
        recipe = candidate.info.recipe
        return train_and_test(
            problem.network,
            dataclasses.replace(recipe, epochs=epochs) if epochs else recipe,
            candidate.data(),
            validation,
            key,
            settings.evaluation.validation_networks,
            candidate.learning_rate,
            progress,
        ).criterion

    return accuracy


def evaluate_outcome(problem: Problem, outcome: Outcome, should_stop: Stop) -> RunResult:
    """Reads the test set: for the best set, the last one, random images and all real ones."""
    settings, dataset = problem.settings, problem.dataset
    evaluation, recipe = settings.evaluation, outcome.best.info.recipe
    test = problem.on_device(dataset.test)
    key = randomness.key(settings.seed, "test")

    def accuracy(
        title: str, recipe: Recipe, data: DeviceData, count: int, rate: jax.Array | None = None
    ) -> Accuracy:
        with ProgressBar(f"testing {title}: epochs") as bar:
            progress = bar.callback(should_stop)
            return train_and_test(problem.network, recipe, data, test, key, count, rate, progress)

    def of_set(title: str, chosen: SyntheticSet) -> Accuracy:
        rate = chosen.learning_rate
        return accuracy(title, recipe, chosen.data(), evaluation.eval_networks, rate)

    best = of_set("the best set", outcome.best)
    last = best
    if outcome.best_iteration != settings.iterations:
        last = of_set("the last set", outcome.final)
    random = full_data = plain = None
    if evaluation.eval_random:
        rng = randomness.generator(settings.seed, "random baseline")
        info, decoder = problem.start.info, problem.start.decoder
        drawn, _ = synthetic.from_real(problem.train, dataset, decoder.encoded(settings.ipc), rng)
        data = SyntheticSet.encode(drawn, info, decoder).data()
        random = accuracy("random images", recipe, data, evaluation.eval_networks)
    if evaluation.eval_plain:
        plain = best
        plain_recipe = dataclasses.replace(recipe, augmentation="none", cutmix=0.0)
        if plain_recipe != recipe or outcome.best.labels.ndim == 2:
            data = DeviceData(outcome.best.images, outcome.best.hard_labels())
            rate, count = outcome.best.learning_rate, evaluation.eval_networks
            title = "the best set, hard labels, no augmentation"
            plain = accuracy(title, plain_recipe, data, count, rate)
    if evaluation.full_data_epochs:
        every = problem.on_device(dataset.train)
        full_data = accuracy("all real images", settings.full_data_recipe(), every, 1)
    validated = None if evaluation.choose == "last" else outcome.best_accuracy
    return RunResult(
        method=settings.method,
        dataset=settings.dataset,
        ipc=settings.ipc,
        classes=dataset.num_classes,
        init=settings.init,
        seed=settings.seed,
        preset=settings.preset,
        network=settings.network,
        options=dict(settings.options),
        storage={
            "numbers": outcome.best.numbers,
            "labels": outcome.best.label_numbers,
            "images": outcome.best.labels.shape[0],
            **dataclasses.asdict(settings.storage),
        },
        iterations=settings.iterations,
        resumed_from=outcome.resumed_from,
        best=Figure(best, outcome.best_iteration, validated),
        final=Figure(last, settings.iterations),
        recipe=recipe,
        random=random,
        plain=plain,
        full_data=full_data,
        full_data_images=len(dataset.train) if full_data is not None else 0,
        full_data_epochs=evaluation.full_data_epochs,
        choose=settings.evaluation.choose,
        dropped_updates=outcome.dropped,
        curve=outcome.curve,
        distilling_seconds=round(outcome.seconds, 2),
    )
