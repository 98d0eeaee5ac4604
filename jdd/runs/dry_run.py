"""What a run will take, before it does: parameters, memory, time; nothing is written."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdd import cost, randomness, training, updates
from jdd.data import DeviceData
from jdd.experts import Segment
from jdd.methods.coresets import CoresetSettings, feature_trainer
from jdd.runs.problem import Problem, prepare
from jdd.runs.result import machine
from jdd.runs.settings import RunSettings
from jdd.training import Trainer

_STEPS = 3  # steps of a training that are timed


def estimate(settings: RunSettings, data_dir: str | None = None) -> dict[str, Any]:
    """Compiles a run's steps, runs each a few times, and adds up.

    Returns:
      `parameters` of the network, `learned` numbers in the set, `peak_bytes` of a chunk of updates
      as XLA counts them, `seconds_per_update`, `experts_bytes` on disk, and `seconds`: `experts`
      (with the scoring that their curriculum goes by), `distilling`, `evaluating` and `total`,
      without compilation.

    Raises:
      UserError: as `jdd.runs.run` does for settings, dataset and network.
    """
    problem = prepare(settings, data_dir)
    variables = problem.network.init(jax.random.key(0), problem.start.images[:1])
    params = variables["params"]
    result: dict[str, Any] = {
        "method": settings.method,
        "dataset": settings.dataset,
        "ipc": settings.ipc,
        "preset": settings.preset,
        "note": settings.note,
        "iterations": settings.iterations,
        "parameters": cost.parameters(params),
        "machine": machine(),
    }
    seconds = {"experts": 0.0, "distilling": 0.0, "evaluating": 0.0}
    if problem.method.needs.segments is not None:
        seconds["experts"] = _of_experts(problem)
        of = settings.experts
        width = 2 if of.expert_dtype == "bfloat16" else 4
        stored = of.num_experts * (of.train_epochs + 1)
        result["experts_bytes"] = width * stored * result["parameters"]
    data = problem.real_data()
    synthetic = problem.start
    chosen_by = settings.method_settings
    if isinstance(chosen_by, CoresetSettings) and chosen_by.features == "trained":
        assert data is not None  # all coresets need them
        trainer = feature_trainer(chosen_by, problem.network, data.images.shape[0])
        steps = chosen_by.feature_epochs * trainer.steps
        seconds["distilling"] = steps * _step_seconds(trainer, data)
    if settings.iterations:
        started = jax.jit(problem.method.init)(jax.random.key(0), problem.start, data)
        synthetic, state = jax.tree.map(jnp.copy, started)
        chunk = min(settings.loop.chunk, settings.iterations)
        window, segment = problem.method.needs.segments, None
        if window is not None:
            segment = _segments(params, chunk, window.segments)
        compiled = updates.of_run.lower(
            problem.method, synthetic, state, data, segment, chunk
        ).compile()
        result["peak_bytes"] = cost.peak_bytes(compiled)

        def update() -> Any:  # copies, as a chunk gives its arrays' memory away
            ours = jax.tree.map(jnp.copy, (synthetic, state))
            return compiled(*ours, data, segment)

        result["seconds_per_update"] = cost.seconds(update) / chunk
        seconds["distilling"] = settings.iterations * result["seconds_per_update"]
    result["learned"] = synthetic.numbers - synthetic.decoder.numbers()
    seconds["evaluating"] = _of_evaluations(problem, synthetic.data())
    seconds["total"] = sum(seconds.values())
    result["seconds"] = {name: round(value, 1) for name, value in seconds.items()}
    return result


def _step_seconds(trainer: Trainer, data: DeviceData) -> float:
    """Seconds a step of a training, from a few of them."""
    few = trainer._replace(steps=min(_STEPS, trainer.steps))
    state = training.init(few, jax.random.key(0), data.image_shape)
    rates = training.Schedule(jnp.float32(1e-3), jnp.float32(jnp.inf))
    return cost.seconds(lambda: training.run_jit(few, state, data, rates, 1)) / few.steps


def _of_experts(problem: Problem) -> float:
    settings, images = problem.settings.experts, problem.expert_images
    recipe = settings.recipe(problem.settings.network, problem.settings.options, problem.strategy)
    trainer = settings.trainer(problem.network, recipe, len(images))
    step = _step_seconds(trainer, problem.on_device(images))
    seconds = step * trainer.steps * settings.train_epochs * settings.num_experts
    if settings.curriculum == "pad":
        of = problem.settings.difficulty
        plain = step / (2 if settings.gsam() else 1)
        scoring = 1 if of.score == "grand" else 0  # a gradient for every image: about an epoch
        epochs = of.score_networks * (of.score_epochs + scoring)
        seconds += epochs * plain * len(images) / trainer.batch
    return seconds


def _of_evaluations(problem: Problem, data: DeviceData) -> float:
    settings, evaluation = problem.settings, problem.settings.evaluation
    recipe = settings.recipe(problem.strategy)
    trainer = Trainer.of(problem.network, recipe, data.images.shape[0])
    step = _step_seconds(trainer, data)
    seconds = epochs_of_evaluations(settings) * trainer.steps * step
    if evaluation.full_data_epochs:
        train = problem.dataset.train
        full = Trainer.of(problem.network, settings.full_data_recipe(), len(train))
        step = _step_seconds(full, problem.on_device(train))
        seconds += evaluation.full_data_epochs * full.steps * step
    return seconds


def epochs_of_evaluations(settings: RunSettings) -> int:
    """Epochs of fresh networks on sets, over all evaluations of a run."""
    evaluation = settings.evaluation
    chosen = evaluation.choose != "last"
    count = (1 + -(-settings.iterations // evaluation.eval_every)) * chosen
    epochs = evaluation.validation_networks * count
    epochs *= evaluation.validation_epochs or evaluation.eval_epochs
    tested = 1 + evaluation.eval_random + evaluation.eval_plain
    tested += bool(settings.iterations and chosen)  # the last set, which may not be the best
    return epochs + tested * evaluation.eval_networks * evaluation.eval_epochs


def _segments(params: Any, chunk: int, segments: int) -> Segment:
    """Segments that cost what real ones do: a random network, and one a little way off."""
    rng = randomness.generator(0, "segments of a dry run")

    def leaves(distance: float) -> Any:
        return jax.tree.map(
            lambda p: (
                np.asarray(p)
                + distance * rng.standard_normal((chunk, segments, *p.shape)).astype(np.float32)
            ),
            params,
        )

    return Segment(leaves(0.0), leaves(0.01))
