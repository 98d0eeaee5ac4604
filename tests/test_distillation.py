"""The loop: what an update draws, dropped updates, the best set, runs side by side."""

import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import checkpoints
from jdd.data import load
from jdd.distillation import Hooks, Listener, Listeners, Loop, Start, distill, distill_many
from jdd.errors import Interrupted, UserError
from jdd.methods import Needs, Rejection, guarded
from jdd.runs.directory import RunFiles
from jdd.synthetic import SyntheticSet
from jdd.updates import of_run
from tests.toy import (
    ITERATIONS,
    Heard,
    Kept,
    bits,
    bits_of,
    go,
    in_memory,
    rows,
    start,
    toy,
    updates,
)


def test_the_toys_walk_is_the_one_written_down(tmp_path):
    outcome = go(tmp_path, chunk=4)
    image, velocity = np.ones((4, 3, 3, 1)), 0.0
    for i in range(ITERATIONS):
        draw = jax.random.normal(jax.random.fold_in(jax.random.key(0), i), image.shape)
        velocity = 0.5 * velocity + np.asarray(draw) + 0.25
        image = image - 0.1 * velocity
    np.testing.assert_allclose(outcome.final.images, image, rtol=1e-5, atol=1e-5)
    assert updates(outcome.final) == ITERATIONS


def test_the_best_set_is_the_validation_splits(tmp_path):
    heard = Heard()
    scores = {0: 0.1, 4: 0.9, 8: 0.9, 11: 0.2}
    outcome = go(tmp_path, accuracies=scores, listener=heard)
    assert heard.looks == [(0, 0.1, True), (4, 0.9, True), (8, 0.9, True), (11, 0.2, False)]
    assert (outcome.best_iteration, outcome.best_accuracy) == (8, 0.9)
    assert updates(outcome.best) == 8 and updates(outcome.final) == 11
    assert updates(SyntheticSet.load(tmp_path)) == 8
    assert [update[0] for update in heard.updates] == list(range(1, 12))


def test_dropped_updates_are_counted_and_shown(tmp_path):
    heard = Heard()
    outcome = go(tmp_path, dropped=(2, 3, 9), listener=heard, chunk=2)
    assert outcome.dropped == 3 and updates(outcome.final) == 8
    reason = int(Rejection.NOT_FINITE)
    assert heard.dropped == [reason if i in (2, 3, 9) else 0 for i in range(1, 12)]
    lines = [row for row in rows(tmp_path) if "loss" in row]
    assert [row["iteration"] for row in lines if row["dropped"]] == [2, 3, 9]
    assert [row["iteration"] for row in lines if row["loss"] is None] == [2, 3, 9]


@pytest.mark.parametrize("chunk", [1, 7])
def test_too_many_dropped_in_a_row_end_the_run_with_the_last_good_set(tmp_path, chunk):
    bad = tuple(range(10, 60))
    with pytest.raises(UserError, match=r"in a row were dropped .*: lower `lr_img`") as e:
        go(tmp_path, dropped=bad, iterations=100, evaluate_every=8, chunk=chunk)
    assert "\n" not in str(e.value)
    assert len([r for r in rows(tmp_path) if r.get("dropped")]) in range(20, 20 + chunk)
    kept = SyntheticSet.load(tmp_path)
    assert updates(kept) == 9 and np.isfinite(kept.images).all()


@pytest.mark.parametrize(("threshold", "made"), [(33.5, 0), (33.8, 42)])
def test_updates_above_a_methods_threshold_end_no_run(threshold, made):
    """The walk begins with a loss of 36, its sum; what is above the threshold is not made."""
    heard = Heard()
    outcome = go(threshold=threshold, listener=heard, iterations=60, evaluate_every=60)
    assert set(heard.dropped) <= {0, int(Rejection.ABOVE_THRESHOLD)}
    assert outcome.dropped == 60 - made and updates(outcome.final) == made


def test_without_updates_the_start_is_looked_at_and_stored(tmp_path):
    heard = Heard()
    first = go(tmp_path, iterations=0, listener=heard)
    again = go(tmp_path, iterations=0, listener=heard)
    assert heard.looks == [(0, 0.0, True)] and not heard.updates
    assert first.best_iteration == again.best_iteration == 0 and bits(first) == bits(again)
    np.testing.assert_array_equal(SyntheticSet.load(tmp_path).images, start().images)


@pytest.mark.parametrize("first", [0.1, float("nan")])
def test_an_accuracy_that_is_no_number_is_never_the_best_for_long(first):
    scores = {0: first, 4: 0.5, 8: float("nan"), 11: 0.3}
    outcome = go(accuracies=scores)
    assert (outcome.best_iteration, outcome.best_accuracy) == (4, 0.5)


def test_it_needs_neither_directory_nor_listener():
    """And the caller's set stays the caller's; without validation the last set is the best."""
    initial = start()
    outcome = distill(toy(), initial, jnp.float32(0.25), jax.random.key(0), Loop(11, 4))
    np.testing.assert_array_equal(initial.images, np.ones((4, 3, 3, 1)))
    assert bits(outcome) == [*bits_of(outcome.final), *bits_of(outcome.final)]
    assert bits_of(outcome.final) == bits_of(go().final)
    assert outcome.best_iteration == 11 and np.isnan(outcome.best_accuracy)


def test_what_is_prepared_is_given_to_the_start_and_can_be_stopped():
    """By a method that moves the images by what it has prepared, in three pieces."""
    method, heard, ended = toy(), [], []

    def prepare(key, data, told):
        for done in (1, 2, 3):
            told(done, 3)
        return jax.random.uniform(key) + data

    def init(key, synthetic, data, prepared):
        return method.init(key, synthetic.replace(storage=synthetic.storage + prepared), data)

    class Ends(Listener):
        def ended(self, outcome):
            ended.append(outcome)

    def make(stop_at):
        hooks = Hooks(
            preparing=lambda *told: heard.append(told),
            should_stop=lambda: len(heard) == stop_at,
            listener=Ends(),
        )
        prepared = method._replace(init=init, prepare=prepare)
        key = jax.random.key(3)
        return distill(prepared, start(), jnp.float32(0.25), key, Loop(0, 1), hooks).final

    images = make(stop_at=-1).images
    np.testing.assert_array_equal(images, 1 + jax.random.uniform(jax.random.key(3)) + 0.25)
    assert heard == [(1, 3), (2, 3), (3, 3)] and ended[0] is not None
    heard.clear()
    with pytest.raises(Interrupted, match="the first update was not begun"):
        make(stop_at=2)
    assert heard == [(1, 3), (2, 3)] and ended[1] is None


@pytest.mark.parametrize("needs", [Needs(), Needs(real_images=False, label_logits=True)])
def test_more_images_of_one_class_than_of_another_are_refused(needs):
    uneven = start().replace(labels=jnp.asarray([0, 0, 0, 1]))
    with pytest.raises(UserError, match="the set has 1 to 3 images per class"):
        distill(toy()._replace(needs=needs), uneven, None, jax.random.key(0), Loop(1, 1))


def test_runs_that_differ_in_their_description_share_a_program_and_keep_their_own():
    """Neither seed nor version makes a program compile again."""
    before = of_run._cache_size()
    infos = []
    for seed in (1, 2):
        first = start()
        first = first.replace(info=dataclasses.replace(first.info, seed=seed, version=str(seed)))
        outcome = distill(toy((5,)), first, jnp.float32(0.25), jax.random.key(0), Loop(6, 6, 3))
        infos.append((outcome.final.info.seed, outcome.best.info.version))
    assert infos == [(1, "1"), (2, "2")]
    assert of_run._cache_size() == before + 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"iterations": -2}, "`iterations` -2: at least 0"),
        ({"evaluate_every": 0}, "`evaluate_every` 0: at least 1"),
        ({"chunk": -1}, "`chunk` -1: at least 1"),
    ],
)
def test_a_loop_of_numbers_too_small_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        Loop(**{"iterations": 1, "evaluate_every": 1, **changes})


def test_a_dataset_in_place_of_device_data_is_said():
    dataset = load("digits")
    with pytest.raises(UserError, match=r"`data` is a Dataset: jdd.data.to_device\("):
        distill(toy(), start(), dataset, jax.random.key(0), Loop(1, 1))


def test_validation_that_begins_late_chooses_from_then_on():
    kept = Kept()
    in_memory(kept, 4)
    outcome = in_memory(kept, 8, lambda _: 0.5)
    assert (outcome.best_iteration, outcome.best_accuracy) == (8, 0.5)


def test_a_method_that_is_guarded_already_counts_the_same():
    once, twice = (in_memory(Kept(), 8, method=m) for m in (toy((5,)), guarded(toy((5,)))))
    assert once.dropped == twice.dropped == 1 and bits_of(once.final) == bits_of(twice.final)


def several(seeds, place=None, stops=lambda: False):
    """`distill_many` of runs that differ in their keys, in directories below `place`."""

    def start_of(seed):
        listener = Listener() if place is None else RunFiles(place / str(seed))
        hooks = Hooks(lambda s: updates(s) / 100, listener=listener, should_stop=stops)
        return Start(start(), jax.random.key(seed), hooks)

    return distill_many(toy(), [start_of(s) for s in seeds], jnp.float32(0.25), Loop(12, 4, 4))


def same(ours, theirs):
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_runs_side_by_side_come_to_what_each_comes_to_alone(tmp_path):
    """Also where they were stopped, and one of them has to be brought up first."""
    alone = [several([seed])[0] for seed in range(2)]
    assert not np.allclose(alone[0].final.images, alone[1].final.images)
    calls = []

    def stop():
        calls.append(1)
        return len(calls) > 3  # asked before and after each evaluation

    with pytest.raises(Interrupted):
        several(range(2), tmp_path, stop)
    states = [checkpoints.StateCheckpoints(tmp_path / str(seed) / "state") for seed in range(2)]
    assert {each.iterations()[-1] for each in states} == {8}, "all of them are saved"
    shutil.rmtree(tmp_path / "1")
    together = several(range(2), tmp_path)
    assert [one.resumed_from for one in together] == [8, 0]
    for seed, (ours, theirs) in enumerate(zip(together, alone, strict=True)):
        same((ours.final, ours.best), (theirs.final, theirs.best))
        assert ours.best_iteration == theirs.best_iteration == 12
        counted = [row["iteration"] for row in rows(tmp_path / str(seed)) if "loss" in row]
        assert counted == list(range(1, 13))


class Raises(Listener):
    """Its directory is gone at an iteration, say."""

    def updated(self, iteration, iterations, rows):
        if iteration == 6:
            raise UserError("gone")


@pytest.mark.parametrize(
    ("method", "listener", "words"),
    [
        (toy(), Raises(), "gone"),
        (toy(tuple(range(7, 40))), Listener(), "20 updates in a row were dropped"),
    ],
)
def test_an_error_of_one_run_leaves_the_states_of_all(tmp_path, method, listener, words):
    """Also where the chunk that it comes in has given the arrays of all away."""
    kept, heard = [Kept(), Kept()], Heard()
    starts = [
        Start(start(), jax.random.key(i), Hooks(listener=Listeners(kept[i], told)))
        for i, told in enumerate([listener, heard])
    ]
    with pytest.raises(UserError, match=words):
        distill_many(method, starts, jnp.float32(0.25), Loop(100, 8, 2))
    ends = heard.updates[-1][0]
    assert [one.saved.iteration for one in kept] == [ends, ends] and ends % 8
    assert len(heard.dropped) == ends, "the other run heard of all that is stored"
