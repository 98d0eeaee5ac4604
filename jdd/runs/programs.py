"""A run's compiled programs, as functions of where their arrays lie; nothing is run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jdd import evaluation, experts, training, updates
from jdd.data import DeviceData
from jdd.experts import Segment
from jdd.ops.target import platform
from jdd.runs.dry_run import epochs_of_evaluations
from jdd.runs.problem import Problem, variable_shapes
from jdd.sharding import models_per_call
from jdd.training import FitState, Trainer

Place = Callable[[Any], Any]
"""pytree of shapes → the same, with where the arrays lie"""


@dataclass(frozen=True)
class Program:
    """One of a run's compiled programs."""

    name: str
    lower: Callable[[Place], Any]
    """traces it for what JAX compiles for; gives what `jax.jit(…).lower` does"""
    unit: str
    """what it makes so many of: "student step", "update", "training step", "batch" """
    units: int
    """how many of them one call makes"""
    turns: int
    """of a loop whose length is an argument"""
    calls: float
    """in the whole run"""


def programs(problem: Problem) -> list[Program]:
    """What a run compiles and spends its time in.

    An epoch of experts and a chunk of updates, where it has any; the training of the networks that
    evaluate a set, and their test. They are the run's own functions, with its own arguments; how
    many models they hold at once depends on what is compiled for.
    """
    result = []
    if problem.method.needs.segments is not None:
        result.append(_expert_epoch(problem))
    if problem.settings.iterations:
        result.append(_update(problem))
    return [*result, *_evaluation(problem)]


def after_experts(problem: Problem) -> list[Callable[[], Any]]:
    """What a run compiles once it has its experts: each gives one of those programs, traced."""

    def as_they_are(shapes: Any) -> Any:
        return shapes

    later = [*_evaluation(problem), *([_update(problem)] if problem.settings.iterations else [])]
    return [partial(program.lower, as_they_are) for program in later]


def _expert_epoch(problem: Problem) -> Program:
    settings, images = problem.settings.experts, problem.expert_images
    recipe = settings.recipe(problem.settings.network, problem.settings.options, problem.strategy)
    trainer = settings.trainer(problem.network, recipe, len(images))
    count = models_per_call(settings.num_experts)
    real = jax.eval_shape(partial(problem.on_device, images))
    states = _states(trainer, real, count)
    rates = jax.eval_shape(partial(training.schedule, recipe))
    eligible = None
    if settings.curriculum != "all":
        eligible = jax.ShapeDtypeStruct((len(images),), bool)

    def lower(place: Place) -> Any:
        return experts.epoch_of_many.lower(trainer, *map(place, (states, real, rates, eligible)))

    calls = settings.train_epochs * -(-settings.num_experts // count)
    return Program(
        "expert epoch", lower, "training step", trainer.steps, trainer.steps, float(calls)
    )


def _update(problem: Problem) -> Program:
    settings, method = problem.settings, problem.method
    chunk = min(settings.loop.chunk, settings.iterations, settings.evaluation.eval_every)
    real = jax.eval_shape(problem.real_data)
    key = jax.eval_shape(lambda: jax.random.key(0))
    synthetic, state = jax.eval_shape(method.init, key, problem.start, real)
    segments = None
    if (window := method.needs.segments) is not None:
        params = variable_shapes(problem.network, problem.dataset)["params"]
        leaves = _leading(params, chunk, window.segments)
        segments = Segment(leaves, leaves)

    def lower(place: Place) -> Any:
        updated = place(synthetic), place(state)
        return updates.of_run.lower(method, *updated, place(real), place(segments), chunk)

    steps = getattr(settings.method_settings, "syn_steps", 0)
    return Program(
        "update",
        lower,
        "student step" if steps else "update",
        chunk * max(1, steps),
        max(1, steps),
        settings.iterations / chunk,
    )


def _evaluation(problem: Problem) -> list[Program]:
    settings, network = problem.settings, problem.network
    recipe = settings.recipe(problem.strategy)
    start = jax.eval_shape(problem.start.data)
    trainer = Trainer.of(network, recipe, start.images.shape[0])
    count = models_per_call(settings.evaluation.eval_networks)
    states = _states(trainer, start, count)
    rates = jax.eval_shape(lambda: training.schedule(recipe))
    pieces = evaluation.pieces_of(recipe.epochs)
    epochs = max(pieces)

    def lower(place: Place) -> Any:
        placed = tuple(place(shapes) for shapes in (states, start, rates))
        if platform() != "cpu":
            return evaluation.train_many_at_length.lower(trainer, *placed, epochs)
        length = place(jax.ShapeDtypeStruct((), jnp.int32, weak_type=True))  # a Python number
        return evaluation.train_many.lower(trainer, *placed, length)

    networks = epochs_of_evaluations(settings) / recipe.epochs
    trained = Program(
        "evaluation",
        lower,
        "training step",
        epochs * trainer.steps,
        epochs,
        len(pieces) * networks / count,
    )
    test = jax.eval_shape(partial(problem.on_device, problem.dataset.test))
    variables = variable_shapes(network, problem.dataset)
    batches = -(-len(problem.dataset.test) // training.TEST_BATCH)

    def lower_test(place: Place) -> Any:
        return training.predict.lower(network, *map(place, (variables, test)))

    return [trained, Program("test", lower_test, "batch", batches, 1, networks)]


def _states(trainer: Trainer, real: DeviceData, count: int) -> FitState:
    """The shapes of the states of so many networks."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    one = jax.eval_shape(lambda key: training.init(trainer, key, real.image_shape), key)
    states: FitState = _leading(one, count)
    return states


def _leading(shapes: Any, *sizes: int) -> Any:
    """The shapes with more axes in front."""
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct((*sizes, *s.shape), s.dtype), shapes)
