"""The settings of a run: the preset's, what overrides them, and what cannot be."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from jdd import SyntheticSet, data, training
from jdd.augment import strategy_for
from jdd.errors import SettingError, UserError
from jdd.runs import Selection
from jdd.runs import settings as run_settings
from jdd.runs.dry_run import epochs_of_evaluations, estimate
from jdd.runs.problem import prepare
from jdd.synthetic import SetInfo, StorageSettings

SMALL = data.Traits(side=64, channels=3, classes=3, images=300, smallest=90)


def selected(dataset, ipc, preset="paper", method="mtt", init="real"):
    return Selection(method, dataset, ipc, init, preset=preset)


def built(dataset, ipc, preset="paper", overrides=None, method="mtt", init="real"):
    return run_settings.build(selected(dataset, ipc, preset, method, init), overrides)


def test_the_note_leaves_out_what_the_user_overrides():
    selection = selected("folder:pets", 1, "quick", "mtt")
    note = run_settings.build(selection, None, SMALL).note
    assert "real_images 0" in note and "batch_train 16" in note
    assert run_settings.build(selection, {"real_images": 50}, SMALL).note == note.replace(
        "real_images 0, ", ""
    )


def test_a_resumed_run_keeps_its_note():
    """All its settings are overrides then, of the same values."""
    selection = selected("folder:pets", 1, "quick", "mtt")
    made = run_settings.build(selection, None, SMALL)
    defaults = run_settings.defaults_of(selection, SMALL)
    stored = run_settings.stored_values(json.loads(json.dumps(made.to_json())), defaults)
    assert len(stored) > 30
    assert run_settings.build(selection, stored, SMALL) == made


@pytest.mark.parametrize(
    ("method", "dataset", "preset", "overrides", "augmentation"),
    [
        ("dm", "mnist", "quick", {}, "each_crop_scale_rotate"),
        ("dm", "mnist", "quick", {"eval_dsa": False}, "none"),
        ("dm", "mnist", "quick", {"eval_dsa": True}, "dsa"),
        ("ncfm", "cifar10", "paper", {}, "stacked_color_crop_flip_scale_rotate"),
        ("ncfm", "cifar10", "paper", {"eval_dsa": False}, "none"),
        ("ncfm", "cifar10", "paper", {"eval_stacked": False}, "dsa"),
        ("dm", "cifar10", "quick", {"eval_augment_per_image": True}, "each_crop_scale_rotate"),
    ],
)
def test_sets_are_tested_with_the_augmentation_that_the_user_chooses(
    method, dataset, preset, overrides, augmentation
):
    made = run_settings.build(Selection(method, dataset, 1, preset=preset), overrides)
    strategy = strategy_for(dataset)
    expected = strategy if augmentation == "dsa" else augmentation
    assert made.recipe(strategy).augmentation == expected


def test_two_ways_of_augmenting_at_once_are_refused():
    both = {"eval_stacked": True, "eval_augment_per_image": True}
    with pytest.raises(UserError, match="not together with `eval_augment_per_image`"):
        built("digits", 1, "quick", both)


def test_a_part_of_a_pass_stays_that_part_for_data_of_ones_own():
    """MNIST's experts at 10 per class are stored every half pass."""
    many = data.Traits(side=28, channels=1, classes=10, images=5000, smallest=500)
    made = run_settings.build(selected("folder:marks", 10, "quick", "mtt"), None, many).experts
    assert (made.batch_train, made.epoch_steps) == (16, 140)  # of 4,500 images


@pytest.mark.parametrize(("choose", "networks"), [("validation", 4 + 4 * 2), ("last", 3 * 2)])
def test_a_dry_run_counts_the_evaluations_that_are_made(choose, networks):
    """At 0, 10, 20, 30 on validation images; then best, last, random and plain."""
    words = {"iterations": 30, "eval_every": 10, "eval_networks": 2, "eval_epochs": 5}
    made = built("digits", 1, "quick", {**words, "choose": choose, "eval_plain": True})
    assert epochs_of_evaluations(made) == 5 * networks


def test_a_decoder_that_the_user_chooses_comes_without_the_presets_numbers_for_another():
    chosen = Selection("frepo", "digits", 1, "real", preset="quick")
    assert run_settings.build(chosen).storage == StorageSettings("dct", coefficients=32)
    assert run_settings.build(chosen, {"decoder": "pixels"}).storage == StorageSettings()
    same = run_settings.build(chosen, {"decoder": "dct"}).storage
    assert same == StorageSettings("dct", coefficients=32)
    ncfm = chosen._replace(method="ncfm", dataset="mnist")
    assert run_settings.build(ncfm, {"decoder": "dct"}).storage == StorageSettings("dct")


def test_a_dry_run_of_a_coreset_trains_no_network_to_its_end(monkeypatch):
    steps, few = [], training.run_jit
    monkeypatch.setattr(
        training, "run_jit", lambda of, *rest: steps.append(of.steps * rest[-1]) or few(of, *rest)
    )
    words = {"width": 4, "depth": 1, "feature_epochs": 10**5, "full_data_epochs": 0}
    settings = run_settings.build(Selection("herding", "digits", 1, "real", preset="quick"), words)
    seconds = estimate(settings)["seconds"]
    assert 1 < seconds["distilling"] <= seconds["total"] and max(steps) <= 3


def test_what_the_user_overrides_goes_over_the_preset():
    run = built("digits", 1, "quick", {"syn_steps": 7, "width": 9, "lr_teacher": 0.3})
    assert run.method_settings.syn_steps == 7 and run.options["width"] == 9
    assert run.experts.lr_teacher == 0.3 and run.preset == "quick"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"preset": "fast"}, "`preset` 'fast'.*choose from paper, quick"),
        ({"method": "mt"}, "`method` 'mt': did you mean 'mtt'"),
        ({"overrides": {"syn_step": 3}}, "unknown setting 'syn_step': did you mean 'syn_steps'"),
        ({"overrides": {"chunk": 0}}, "`chunk` 0: at least 1"),
        ({"ipc": 0}, "`ipc` 0: at least 1"),
    ],
)
def test_unknown_names_are_told_with_the_nearest(change, words):
    with pytest.raises(UserError, match=words):
        built(**{"dataset": "digits", "ipc": 1, **change})


def test_an_epoch_of_more_steps_than_a_pass_is_refused():
    with pytest.raises(SettingError, match="`epoch_steps` 5000: a pass over 1293 images has 21"):
        prepare(built("digits", 1, "quick", {"epoch_steps": 5000}))


def test_a_stored_set_of_pixels_keeps_labels_and_step_size_as_it_is_encoded(tmp_path):
    """Its forty images become ten stored ones, that decode to forty in the same order."""
    digits = data.load("digits")
    info = SetInfo(digits.name, digits.class_names, digits.preprocess.spec(), ipc=4)
    images = np.random.default_rng(0).standard_normal((40, 8, 8, 1)).astype(np.float32)
    labels = np.random.default_rng(1).standard_normal((40, 10)).astype(np.float32)
    soft = SyntheticSet(jnp.asarray(images), jnp.asarray(labels), jnp.float32(0.5), info)
    soft.save(tmp_path / "soft")
    hard = soft.replace(labels=jnp.tile(jnp.arange(10, dtype=jnp.int32), 4), learning_rate=None)
    hard.save(tmp_path / "hard")
    smaller = {"decoder": "pixels", "factor": 2}
    start = prepare(built("digits", 1, "quick", smaller, init=str(tmp_path / "soft"))).start
    np.testing.assert_array_equal(start.labels, labels)
    assert float(start.learning_rate) == 0.5 and start.storage.shape == (10, 8, 8, 1)
    start = prepare(built("digits", 1, "quick", smaller, init=str(tmp_path / "hard"))).start
    np.testing.assert_array_equal(start.labels, np.repeat(np.arange(10), 4))
    assert start.learning_rate is None
