"""What a run will take, before it does: parameters, memory, time; nothing is written."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdd import cost, distillation, evaluation, randomness, training
from jdd import data as real_data
from jdd.augment import strategy_for
from jdd.experts import Segment
from jdd.methods import registry
from jdd.runs import pipeline
from jdd.runs.judging import machine
from jdd.runs.settings import RunSettings
from jdd.training import Trainer, TrainingData

_STEPS = 3  # steps of a training that are timed


def estimate(settings: RunSettings, data_dir: str | None = None) -> dict[str, Any]:
    """Compiles a run's steps, runs each a few times, and adds up.

    Returns:
      `parameters` of the network, `learned` numbers in the set, `peak_bytes` of a chunk of updates
      as XLA counts them, `seconds_per_update`, `experts_bytes` on disk, and `seconds`: `experts`
      (with the scoring that their schedule goes by), `distilling`, `evaluating` and `total`,
      without compilation.

    Raises:
      UserError: as `jdd.runs.run` does for settings, data set and network.
    """
    dataset = real_data.load(
        settings.dataset, data_dir, settings.loop.image_size or None, settings.loop.preprocessing
    )
    train, _ = pipeline.split(settings, dataset)
    network = pipeline.fitting_network(settings, dataset)
    pipeline.check_trajectories(settings, network, dataset)
    start = pipeline.start_of(settings, dataset, train)
    method = pipeline.method_of(settings, network)
    entry = registry.entry(settings.method)
    data = real_data.to_device(train, dataset.preprocess, dataset.num_classes)
    variables = network.init(jax.random.key(0), start.images[:1])
    params = variables["params"]
    found: dict[str, Any] = {
        "method": settings.method,
        "dataset": settings.dataset,
        "ipc": settings.ipc,
        "preset": settings.preset,
        "iterations": settings.iterations,
        "parameters": cost.parameters(params),
        "machine": machine(),
    }

    def of_training(trainer: Trainer, shown: TrainingData) -> float:
        """Seconds a step, from a few of them."""
        few = trainer._replace(steps=min(_STEPS, trainer.steps))
        state = training.init(few, jax.random.key(0), tuple(shown.images.shape[1:]))
        rates = training.Schedule(jnp.float32(1e-3), jnp.float32(jnp.inf))
        return cost.seconds(lambda: training.run_jit(few, state, shown, rates, 1)) / few.steps

    seconds = {"experts": 0.0, "distilling": 0.0, "evaluating": 0.0}
    if entry.trajectories:
        how = settings.experts
        how.check()
        settings.difficulty.check()
        images = pipeline.expert_images(settings, train)
        recipe = how.recipe(settings.network, settings.options, strategy_for(settings.dataset))
        trainer = Trainer.of(network, recipe, len(images), how.epoch_steps)
        trainer = trainer._replace(gsam=how.gsam())
        step = of_training(trainer, evaluation.real(images, dataset))
        seconds["experts"] = step * trainer.steps * how.train_epochs * how.num_experts
        if how.schedule == "pad":
            of = settings.difficulty
            plain = step / (2 if how.gsam() else 1)
            asked = 1 if of.score == "grand" else 0  # a gradient for every image: about an epoch
            epochs = of.score_networks * (of.score_epochs + asked)
            seconds["experts"] += epochs * plain * len(images) / trainer.batch
        width = 2 if how.expert_dtype == "bfloat16" else 4
        count = how.num_experts * (how.train_epochs + 1)
        found["experts_bytes"] = width * count * found["parameters"]

    synthetic, state = jax.tree.map(jnp.copy, jax.jit(method.init)(jax.random.key(0), start, data))
    found["learned"] = cost.parameters((synthetic.images, synthetic.learning_rate)) + (
        cost.parameters(synthetic.labels) if synthetic.labels.ndim == 2 else 0
    )
    if settings.iterations:
        chunk = min(settings.loop.chunk, settings.iterations)
        segment = None
        if entry.trajectories:
            segment = _segments(params, chunk, settings.method_settings.segments)
        compiled = distillation.compile_chunk(method, synthetic, state, data, segment, chunk)
        found["peak_bytes"] = cost.peak_bytes(compiled)

        def update() -> Any:  # copies, as a chunk gives its arrays' memory away
            ours = jax.tree.map(jnp.copy, (synthetic, state))
            return compiled(*ours, data, segment)

        found["seconds_per_update"] = cost.seconds(update) / chunk
        seconds["distilling"] = settings.iterations * found["seconds_per_update"]

    how_many = settings.evaluation
    recipe = settings.recipe(strategy_for(settings.dataset))
    trainer = Trainer.of(network, recipe, synthetic.images.shape[0])
    step = of_training(trainer, TrainingData(synthetic.images, synthetic.labels))
    looks = 1 + -(-settings.iterations // how_many.eval_every)
    epochs = how_many.validation_networks * looks * (how_many.validation_epochs or recipe.epochs)
    tested = 2 + how_many.eval_random if settings.iterations else 1 + how_many.eval_random
    epochs += tested * how_many.eval_networks * recipe.epochs
    seconds["evaluating"] = epochs * trainer.steps * step
    if how_many.whole_epochs:
        whole = Trainer.of(network, settings.whole_recipe(), len(dataset.train))
        step = of_training(whole, evaluation.real(dataset.train, dataset))
        seconds["evaluating"] += how_many.whole_epochs * whole.steps * step
    seconds["total"] = sum(seconds.values())
    found["seconds"] = {name: round(value, 1) for name, value in seconds.items()}
    return found


def _segments(params: Any, chunk: int, segments: int) -> Segment:
    """Segments that cost what real ones do: a random network, and one a little way off."""
    rng = randomness.generator(0, "segments of a dry run")

    def leaves(spread: float) -> Any:
        return jax.tree.map(
            lambda p: (
                np.asarray(p)
                + spread * rng.standard_normal((chunk, segments, *p.shape)).astype(np.float32)
            ),
            params,
        )

    return Segment(leaves(0.0), leaves(0.01))
