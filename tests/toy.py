"""A method whose every number can be written down, its runs and listeners."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np

from jdd.distillation import Hooks, Listener, Loop, distill
from jdd.methods import Method, MethodState
from jdd.runs.directory import RunFiles
from jdd.synthetic import SetInfo, SyntheticSet

ITERATIONS = 11
STEP = 1.01  # by which an update raises the step size


@functools.cache  # one method is compiled once
def toy(dropped=(), threshold=0.0):
    """A random walk with momentum; the step size counts the updates that were made.

    Those in `dropped` have a loss that is no number, and must leave no trace.
    """
    dropped = jnp.asarray([*dropped, -1])

    def init(key, synthetic, data):
        state = MethodState(
            jax.random.key_data(key), jnp.int32(0), jnp.zeros_like(synthetic.images)
        )
        return synthetic.replace(learning_rate=jnp.float32(1)), state

    def update(synthetic, state, data, segment=None):
        key, iteration, velocity = state
        draw = state.iteration_key()
        moved = 0.5 * velocity + jax.random.normal(draw, velocity.shape) + data
        bad = jnp.any(iteration + 1 == dropped)
        velocity = moved
        images = synthetic.images - 0.1 * velocity
        metrics = {"loss": jnp.where(bad, jnp.nan, jnp.sum(images))}
        synthetic = synthetic.replace(storage=images, learning_rate=synthetic.learning_rate * STEP)
        return synthetic, MethodState(key, iteration + 1, velocity), metrics

    return Method(init, update, threshold=threshold)


def updates(synthetic):
    """How many updates were made, as the step size counts them."""
    return round(np.log(float(synthetic.learning_rate)) / np.log(STEP))


class Heard(Listener):
    def __init__(self):
        self.updates, self.looks, self.dropped = [], [], []

    def updated(self, iteration, iterations, rows):
        self.updates.append((iteration, iterations))
        self.dropped += [row["dropped"] for row in rows]

    def evaluated(self, iteration, synthetic, accuracy, is_best):
        self.looks.append((iteration, accuracy, is_best))


def start():
    info = SetInfo("digits", ("a", "b"), {"kind": "standard"}, 2)
    return SyntheticSet(jnp.ones((4, 3, 3, 1)), jnp.asarray([0, 0, 1, 1]), None, info)


def go(
    directory=None,
    *,
    dropped=(),
    threshold=0.0,
    accuracies=None,
    listener=None,
    should_stop=lambda: False,
    **loop,
):
    scores = accuracies or {}
    files_of_run = listener if directory is None else RunFiles(directory, listener)
    return distill(
        toy(dropped, threshold),
        start(),
        jnp.float32(0.25),
        jax.random.key(0),
        Loop(**{"iterations": ITERATIONS, "evaluate_every": 4, **loop}),
        Hooks(
            evaluate=lambda s: scores.get(updates(s), updates(s) / 100),
            listener=files_of_run or Listener(),
            should_stop=should_stop,
        ),
    )


def bits(outcome):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((outcome.final, outcome.best))]


def rows(directory):
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def bits_of(synthetic):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(synthetic)]


class Kept(Listener):
    """Keeps a run's state in memory."""

    saved = None

    def restore(self, like):
        self.described = like[0].info.seed
        return self.saved

    def save(self, state):
        self.saved = state._replace(arrays=jax.tree.map(jnp.copy, state.arrays))


def in_memory(kept, iterations, evaluate=None, seed=0, method=None):
    first = start()
    first = first.replace(info=dataclasses.replace(first.info, seed=seed))
    hooks = Hooks(evaluate=evaluate, listener=kept)
    loop = Loop(iterations, 2)
    return distill(method or toy(), first, jnp.float32(0.25), jax.random.key(0), loop, hooks)
