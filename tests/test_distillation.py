"""The loop: interrupted to the same bits, dropped updates, the best set, more iterations."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import distillation, storage
from jdd.distillation import Loop, distill
from jdd.errors import Interrupted, UserError
from jdd.methods.base import Method
from jdd.synthetic import SetInfo, SyntheticSet

ITERATIONS = 11


@functools.cache  # one method is compiled once
def toy(dropped=()):
    """A random walk with momentum; the step size counts the updates that were made."""
    dropped = jnp.asarray([*dropped, -1])

    def init(key, synthetic, data):
        state = (jax.random.key_data(key), jnp.int32(0), jnp.zeros_like(synthetic.images))
        return SyntheticSet(
            synthetic.images, synthetic.labels, jnp.float32(0), synthetic.info
        ), state

    def update(synthetic, state, data, segment=None):
        key, iteration, velocity = state
        draw = jax.random.fold_in(jax.random.wrap_key_data(key), iteration)
        moved = 0.5 * velocity + jax.random.normal(draw, velocity.shape) + data
        bad = jnp.any(iteration + 1 == dropped)
        velocity = jnp.where(bad, velocity, moved)
        images = jnp.where(bad, synthetic.images, synthetic.images - 0.1 * velocity)
        rate = synthetic.learning_rate + jnp.where(bad, 0.0, 1.0)
        metrics = {"loss": jnp.where(bad, jnp.nan, jnp.sum(images)), "dropped": jnp.int32(bad)}
        synthetic = SyntheticSet(images, synthetic.labels, rate, synthetic.info)
        return synthetic, (key, iteration + 1, velocity), metrics

    return Method(init, update, ("the toy is broken: lower --toy",))


class Heard:
    def __init__(self):
        self.updates, self.looks = [], []

    def updated(self, iteration, iterations, metrics):
        self.updates.append((iteration, iterations, metrics["dropped"]))

    def evaluated(self, iteration, synthetic, accuracy):
        self.looks.append((iteration, accuracy))


def start():
    info = SetInfo("digits", ("a", "b"), {"kind": "standard"}, 2)
    return SyntheticSet(jnp.ones((4, 3, 3, 1)), jnp.asarray([0, 0, 1, 1]), None, info)


def go(
    directory, *, dropped=(), skips=(), accuracies=None, listener=None, should_stop=None, **loop
):
    scores = accuracies or {}
    return distill(
        toy(dropped)._replace(skips=skips),
        start(),
        jnp.float32(0.25),
        jax.random.key(0),
        Loop(**{"iterations": ITERATIONS, "evaluate_every": 4, **loop}),
        evaluate=lambda s: scores.get(int(s.learning_rate), float(s.learning_rate) / 100),
        listener=listener or Heard(),
        directory=directory,
        should_stop=should_stop or (lambda: False),
    )


def bits(outcome):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((outcome.final, outcome.best))]


def rows(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").open()]


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("every", [1, 2, 5])
def test_interrupted_it_ends_in_the_same_bits(tmp_path, chunk, every):
    """Stopped whenever it asks for the `every`th time, until it is done."""
    scores = {0: 0.1, 4: 0.5, 8: 0.3, 11: 0.4}
    whole = go(tmp_path / "whole", accuracies=scores, chunk=chunk)
    stops = 0
    while stops < 50:
        asked = 0

        def stop():
            nonlocal asked
            asked += 1
            return asked >= every

        try:
            parts = go(tmp_path / "parts", accuracies=scores, chunk=chunk, should_stop=stop)
            break
        except Interrupted:
            stops += 1
    assert stops >= 1 and parts.resumed_from > 0 and whole.resumed_from == 0
    assert bits(parts) == bits(whole)
    assert parts.best_iteration == whole.best_iteration == 4
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    stored = [SyntheticSet.load(tmp_path / name) for name in ("parts", "whole")]
    assert bits_of(stored[0]) == bits_of(stored[1]) == bits_of(whole.best)


def bits_of(synthetic):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(synthetic)]


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    directory = tmp_path_factory.mktemp("uninterrupted")
    return go(directory), rows(directory)


@pytest.mark.parametrize("moment", [1, 2, 3, 4, 9, 17, 27])
def test_killed_at_any_write_it_ends_in_the_same_bits(tmp_path, uninterrupted, monkeypatch, moment):
    whole, lines = uninterrupted
    monkeypatch.setattr(distillation, "SAVE_SECONDS", -1.0)
    count = 0

    def dying(original, after):
        def write(*arguments, **named):
            nonlocal count
            count += 1
            if count == moment and not after:
                raise Killed
            found = original(*arguments, **named)
            if count == moment:
                raise Killed
            return found

        return write

    with monkeypatch.context() as patched:
        for owner, name, after in [
            (storage, "append_line", True),
            (storage.StateKeeper, "save", False),
            (SyntheticSet, "save", True),
        ]:
            patched.setattr(owner, name, dying(getattr(owner, name), after))
        with pytest.raises(Killed):
            go(tmp_path / "parts")
    parts = go(tmp_path / "parts")
    assert bits(parts) == bits(whole)
    assert rows(tmp_path / "parts") == lines
    assert bits_of(SyntheticSet.load(tmp_path / "parts")) == bits_of(whole.best)


def test_the_toys_walk_is_the_one_written_down(tmp_path):
    outcome = go(tmp_path, chunk=4)
    image, velocity = np.ones((4, 3, 3, 1)), 0.0
    for i in range(ITERATIONS):
        draw = jax.random.normal(jax.random.fold_in(jax.random.key(0), i), image.shape)
        velocity = 0.5 * velocity + np.asarray(draw) + 0.25
        image = image - 0.1 * velocity
    np.testing.assert_allclose(outcome.final.images, image, rtol=1e-5, atol=1e-5)
    assert float(outcome.final.learning_rate) == ITERATIONS


def test_the_best_set_is_the_validation_splits(tmp_path):
    heard = Heard()
    scores = {0: 0.1, 4: 0.9, 8: 0.9, 11: 0.2}
    outcome = go(tmp_path, accuracies=scores, listener=heard)
    assert heard.looks == [(0, 0.1), (4, 0.9), (8, 0.9), (11, 0.2)]
    assert (outcome.best_iteration, outcome.best_accuracy) == (8, 0.9)
    assert float(outcome.best.learning_rate) == 8 and float(outcome.final.learning_rate) == 11
    assert float(SyntheticSet.load(tmp_path).learning_rate) == 8
    assert [update[0] for update in heard.updates] == list(range(1, 12))


def test_dropped_updates_are_counted_and_shown(tmp_path):
    heard = Heard()
    outcome = go(tmp_path, dropped=(2, 3, 9), listener=heard, chunk=2)
    assert outcome.dropped == 3 and float(outcome.final.learning_rate) == 8
    assert [update[2] for update in heard.updates] == [1, 2, 2, 2, 3, 3]
    lines = [row for row in rows(tmp_path) if "loss" in row]
    assert [row["iteration"] for row in lines if row["dropped"]] == [2, 3, 9]
    assert [row["iteration"] for row in lines if row["loss"] is None] == [2, 3, 9]


@pytest.mark.parametrize("chunk", [1, 7])
def test_too_many_dropped_in_a_row_end_the_run_with_the_last_good_set(tmp_path, chunk):
    bad = tuple(range(10, 60))
    with pytest.raises(UserError, match=r"in a row were dropped .*: lower --toy; --init ") as e:
        go(tmp_path, dropped=bad, iterations=100, evaluate_every=8, chunk=chunk)
    assert "\n" not in str(e.value)
    assert len([r for r in rows(tmp_path) if r.get("dropped")]) in range(20, 20 + chunk)
    kept = SyntheticSet.load(tmp_path)
    assert float(kept.learning_rate) == 9 and np.isfinite(kept.images).all()


def test_skips_that_are_part_of_the_method_end_no_run(tmp_path):
    outcome = go(tmp_path, dropped=tuple(range(10, 60)), skips=(1,), iterations=70)
    assert outcome.dropped == 50 and float(outcome.final.learning_rate) == 20


def test_more_iterations_go_on(tmp_path):
    whole = go(tmp_path / "whole", evaluate_every=1)
    go(tmp_path / "parts", iterations=5, evaluate_every=1)
    parts = go(tmp_path / "parts", evaluate_every=1)
    assert parts.resumed_from == 5 and bits(parts) == bits(whole)
    done = go(tmp_path / "parts", evaluate_every=1)
    assert done.resumed_from == ITERATIONS and bits(done) == bits(whole)
    with pytest.raises(UserError, match="has come to iteration 11 already"):
        go(tmp_path / "parts", iterations=5)


def test_a_lost_or_damaged_set_is_written_again_from_the_state(tmp_path):
    scores = {0: 0.1, 4: 0.5}
    outcome = go(tmp_path, accuracies=scores)
    (tmp_path / "synthetic" / "info" / "metadata").write_text("{")
    go(tmp_path, accuracies=scores)
    assert bits_of(SyntheticSet.load(tmp_path)) == bits_of(outcome.best)


def test_without_updates_the_start_is_looked_at_and_stored(tmp_path):
    heard = Heard()
    first = go(tmp_path, iterations=0, listener=heard)
    again = go(tmp_path, iterations=0, listener=heard)
    assert heard.looks == [(0, 0.0)] and not heard.updates
    assert first.best_iteration == again.best_iteration == 0 and bits(first) == bits(again)
    np.testing.assert_array_equal(SyntheticSet.load(tmp_path).images, start().images)


def test_the_callers_set_stays_his(tmp_path):
    given = start()
    distill(
        toy(),
        given,
        jnp.float32(0),
        jax.random.key(0),
        Loop(2, 2),
        evaluate=lambda s: 0.0,
        listener=Heard(),
        directory=Path(tmp_path),
    )
    np.testing.assert_array_equal(given.images, np.ones((4, 3, 3, 1)))
