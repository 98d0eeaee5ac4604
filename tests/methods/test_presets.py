"""Presets: the published figures, names that exist, runs that can be made."""

import itertools

import numpy as np
import pytest

from jdd import data
from jdd.errors import SettingError
from jdd.methods import presets, registry
from jdd.runs import settings as run_settings
from tests.methods.selected import selected


def built(dataset, ipc, preset="paper", overrides=None, method="mtt"):
    return run_settings.build(selected(dataset, ipc, preset, method), overrides)


def test_what_the_author_gives_for_trajectory_matching():
    """The settings that made the results of Cazenavette et al. 2022: issue 7 of its repository."""
    wanted = {
        ("cifar10", 1): (50, 2, 2, 100.0, 1e-7, 0.01, 0, "zca"),
        ("cifar10", 10): (30, 2, 20, 100.0, 1e-5, 0.001, 0, "zca"),
        ("cifar10", 50): (30, 2, 40, 1000.0, 1e-5, 0.001, 0, "standard"),
        ("cifar100", 1): (20, 3, 20, 1000.0, 1e-5, 0.01, 0, "zca"),
        ("cifar100", 10): (20, 2, 20, 1000.0, 1e-5, 0.01, 0, "standard"),
        ("cifar100", 50): (80, 2, 40, 1000.0, 1e-5, 0.01, 125, "zca"),
        ("tiny_imagenet", 1): (10, 2, 10, 1e4, 1e-4, 0.01, 0, "standard"),
        ("tiny_imagenet", 10): (20, 2, 40, 1e4, 1e-4, 0.01, 200, "standard"),
        ("tiny_imagenet", 50): (20, 2, 40, 1e4, 1e-4, 0.01, 300, "standard"),
        ("folder:any#imagenette", 1): (20, 2, 10, 1e5, 1e-6, 0.01, 0, "standard"),
        ("folder:any#imagenette", 10): (20, 2, 10, 1e5, 1e-6, 0.01, 20, "standard"),
    }
    for (dataset, ipc), values in wanted.items():
        run = built(dataset, ipc)
        of = run.method_settings
        assert (of.syn_steps, of.expert_epochs, of.max_start_epoch) == values[:3], (dataset, ipc)
        assert (of.lr_img, of.lr_lr, of.lr_init) == values[3:6], (dataset, ipc)
        assert (of.batch_syn, run.loop.preprocessing) == values[6:], (dataset, ipc)
        assert (of.iterations, of.mom_img, of.dsa) == (5000, 0.5, True)
        experts = run.experts
        assert (experts.num_experts, experts.train_epochs, experts.batch_train) == (100, 50, 256)
        assert (experts.lr_teacher, experts.mom_teacher, experts.expert_dsa) == (0.01, 0.0, True)
        depth = {"cifar": 3, "tiny_": 4, "folde": 5}[dataset[:5]]
        assert (run.options["width"], run.options["depth"]) == (128, depth)
        recipe = run.recipe("color")
        assert (recipe.epochs, recipe.momentum, recipe.weight_decay) == (1000, 0.9, 5e-4)


def test_what_the_papers_give_for_matching_class_by_class():
    """Zhao et al. 2021, 2021, 2023 and Sajedi et al. 2023; loops by images per class."""
    loops = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
    for method in ("dc", "dsa"):
        for ipc, wanted in loops.items():
            ours = built("cifar10", ipc, method=method).method_settings
            assert (ours.outer_loop, ours.inner_loop) == wanted
            assert (ours.iterations, ours.lr_img, ours.mom_img, ours.lr_net) == (
                1000,
                0.1,
                0.5,
                0.01,
            )
            assert (ours.batch_real, ours.batch_train) == (256, 256)
            assert ours.mom_net == (0.5 if method == "dc" else 0.0)
        assert built("cifar10", 1, "released", method=method).method_settings.mom_net == 0
        assert built("cifar100", 10, method=method).note == ""
        assert (
            "no published settings for cifar100 at 50" in built("cifar100", 50, method=method).note
        )
    for dataset, rates in {
        "mnist": {1: 1.0, 10: 1.0, 50: 1.0},
        "cifar10": {1: 1.0, 10: 1.0, 50: 1.0, 100: 10.0, 200: 10.0, 500: 10.0, 1250: 10.0},
        "cifar100": {1: 1.0, 10: 1.0, 50: 1.0, 100: 1.0, 125: 1.0},
    }.items():
        for ipc, rate in rates.items():
            run = built(dataset, ipc, method="dm")
            ours = run.method_settings
            assert (ours.lr_img, ours.mom_img) == (rate, 0.5), (dataset, ipc)
            assert (ours.iterations, ours.dsa, run.note) == (20000, True, "")
    for ipc, rate in [(1, 1.0), (50, 1.0), (51, 10.0), (200, 10.0)]:
        run = built("cifar10", ipc, method="datadam")
        ours = run.method_settings
        assert run.note == ""  # its table has one rate for all numbers above 50
        assert (ours.lr_img, ours.mom_img, ours.iterations, ours.dsa) == (rate, 0.5, 8000, True)
        assert (ours.power, ours.balance, ours.loss_scale) == (4.0, 0.01, 100.0)
    assert built("mhist", 10, method="datadam").method_settings.balance == 0.02
    for dataset, depth, methods in [
        ("tiny_imagenet", 4, ("dm", "datadam")),
        ("folder:any#imagenette", 5, ("datadam",)),
    ]:
        for method in methods:
            large = built(dataset, 10, method=method)
            assert (large.options["depth"], large.method_settings.lr_img) == (depth, 1.0)
            assert getattr(large.method_settings, "balance", 0.02) == 0.02
    released = built("cifar10", 10, "released", method="datadam").method_settings
    assert (released.power, released.batch_real, released.iterations) == (1.0, 64, 20000)
    assert (released.balance, released.loss_scale) == (0.01, 100.0)
    recipe = built("cifar10", 10, "released", method="datadam").recipe("color")
    assert (recipe.options["norm"], recipe.epochs, recipe.batch_size) == ("batch", 1800, 64)
    for dataset, network in [
        ("tiny_imagenet", (4, "instance")),
        ("folder:a#imagenette", (6, "batch")),
    ]:
        options = built(dataset, 10, "released", method="datadam").options
        assert (options["depth"], options["norm"]) == network


def test_what_back_propagation_through_time_has_published():
    """The commands of the README of Feng et al. 2024's code.

    It reads Tiny ImageNet whitened alone, though the command does not ask for that.
    """
    wanted = {  # steps, window, first start; images of a class, classes, real images; rates
        ("cifar10", 10): (200, 60, 0, 0, 0, 5000, 0.001, 0.0),
        ("cifar100", 1): (130, 90, 40, 1, 0, 5000, 3e-4, 3e-4),
        ("cifar100", 10): (300, 100, 0, 1, 0, 5000, 0.001, 0.001),
        ("tiny_imagenet", 10): (300, 100, 0, 1, 50, 1000, 3e-4, 3e-4),
    }
    for (dataset, ipc), values in wanted.items():
        run = built(dataset, ipc, method="bptt")
        of = run.method_settings
        assert (of.syn_steps, of.window, of.min_start) == values[:3], (dataset, ipc)
        assert (of.batch_syn, of.classes_syn, of.batch_real) == values[3:6], (dataset, ipc)
        assert (of.lr_img, of.lr_label) == values[6:], (dataset, ipc)
        assert (of.inner_optimizer, of.lr_net, of.iterations) == ("adam", 0.001, 60000)
        assert (of.augmentation, of.window_start, of.clip) == ("flip_rotate", "random", 2.0)
        recipe = run.recipe("color")  # the student's own optimiser
        assert (recipe.optimizer, recipe.learning_rate) == ("adamw", of.lr_net)
        assert (recipe.weight_decay, run.loop.preprocessing) == (0.0, "normalize_zca")


def test_what_characteristic_functions_have_published():
    """The settings files of Wang et al. 2025's code."""
    for dataset, ipc, depth, pretrained, epochs in [
        ("cifar10", 1, 3, 60, 2000),
        ("cifar100", 50, 3, 60, 2000),
        ("tiny_imagenet", 1, 4, 60, 2000),
        ("tiny_imagenet", 10, 4, 60, 300),
        ("tiny_imagenet", 50, 4, 60, 40),
        ("folder:any#imagenette", 10, 5, 80, 2000),
    ]:
        run = built(dataset, ipc, method="ncfm")
        of, recipe = run.method_settings, run.recipe("color_cutout_flip")
        assert (of.iterations, of.batch_real, of.frequencies) == (20000, 1024, 4096)
        assert (of.amplitude, of.phase, of.calibration, of.learn_frequencies) == (
            0.5,
            0.5,
            1,
            False,
        )
        assert (run.options["depth"], run.storage.factor) == (depth, 2), (dataset, ipc)
        experts = run.experts
        assert (
            (experts.num_experts, experts.train_epochs)
            == (20, pretrained)
            == (20, of.expert_epochs)
        )
        assert (experts.batch_train, experts.lr_teacher, experts.mom_teacher) == (128, 0.01, 0.9)
        assert (recipe.optimizer, recipe.learning_rate, recipe.epochs) == ("adamw", 0.001, epochs)
        assert recipe.weight_decay == 0.01  # that of PyTorch's AdamW where none is given
        assert (of.optimizer, of.weight_decay) == ("adamw", 5e-4)
        # Steps of an image an update where 8 GPUs share the classes, for pixels of mean deviation.
        classes = {"cifar100": 100, "tiny_imagenet": 200}.get(dataset, 10)
        deviation = 0.2 if dataset == "cifar10" else 0.26
        moved = 1e-3 * np.sqrt(2 * (classes // 8)) / deviation
        assert of.lr_img == pytest.approx(moved, rel=0.35), dataset
        assert (recipe.cutmix, recipe.cutmix_beta, recipe.batch_size) == (0.5, 1.0, 128)
        assert recipe.augmentation == "stacked_color_flip"
    of = built("cifar100", 10, method="ncfm").method_settings  # the one file with SGD: 0.01
    rate = 0.01 / np.mean(np.square([0.2673, 0.2564, 0.2762]))  # of preprocessed pixels
    assert (of.optimizer, of.momentum) == ("sgd", 0.5)
    assert of.lr_img == pytest.approx(rate, rel=0.01)


@pytest.mark.parametrize("method", ["datm", "pad"])
def test_soft_trajectories(method):
    """Guo et al. 2024, Li et al. 2024 and their settings files."""
    is_pad = method == "pad"
    wanted = {  # steps, expert epochs, window: first epoch, last at first, last; rates; batch; drop
        ("cifar10", 1): (80, 2, 0, 0, 4, 100.0, 1e-7, 5.0, 0, 0.0),
        ("cifar10", 10): (80, 2, 0, 10, 20, 100.0, 1e-5, 2.0, 0, 0.5),
        ("cifar10", 50): (80, 2, 0, 20, 40, 1000.0, 1e-5, 2.0, 500, 0.25),
        ("cifar10", 500): (40, 2, 40, 0, 60, 50.0, 1e-5, 10.0, 1000, 0.5),
        ("cifar10", 1000): (100, 2, 40, 0, 60, 50.0, 1e-5, 10.0, 1000, 0.5),
        ("cifar100", 1): (40, 3, 0, 10, 20, 1000.0, 1e-5, 10.0, 0, 0.5),
        ("cifar100", 10): (80, 2, 0, 30, 50, 1000.0, 1e-5, 10.0, 1000, 0.5),
        ("cifar100", 50): (80, 2, 20, 0, 70, 1000.0, 1e-5, 10.0, 1000, 0.0),
        ("cifar100", 100): (80, 2, 30, 0, 70, 50.0, 1e-5, 10.0, 1000, 0.5),
        ("tiny_imagenet", 1): (40, 2, 0, 15, 20, 1e4, 1e-4, 10.0, 0, 0.5),
        ("tiny_imagenet", 10): (40, 2, 10, 0, 50, 100.0, 1e-4, 10.0, 500, 0.5),
        ("tiny_imagenet", 50): (20, 2, 40, 0, 70, 100.0, 1e-4, 10.0, 1000, 0.5),
    }
    if is_pad:
        wanted |= {
            ("cifar10", 50): (80, 3, 0, 20, 40, 1000.0, 1e-5, 2.0, 1000, 0.25),
            ("cifar10", 500): (40, 2, 40, 60, 70, 50.0, 1e-5, 10.0, 1000, 0.5),
            ("cifar100", 1): (40, 3, 0, 20, 30, 1000.0, 1e-5, 10.0, 0, 0.5),
        }
    growing = {  # until which update
        ("cifar10", 10): 1000,
        ("cifar10", 50): 2000,
        ("cifar100", 1): 1000,
        ("cifar100", 10): 2000,
        ("tiny_imagenet", 1): 2000,
    }
    pad_growing = {("cifar10", 500): 2000}
    for (dataset, ipc), values in wanted.items():
        run = built(dataset, ipc, method=method)
        of = run.method_settings
        if grows := growing.get((dataset, ipc)) or (is_pad and pad_growing.get((dataset, ipc))):
            assert of.window_expansion_end == grows, (dataset, ipc)
        assert of.lr_init == 0.01
        assert run.evaluation.eval_every == (1000 if ipc in (500, 1000) else 500)
        window = of.min_start_epoch, of.initial_max_start_epoch, of.max_start_epoch
        assert (of.syn_steps, of.expert_epochs, *window) == values[:5], (dataset, ipc)
        assert (of.lr_img, of.lr_lr, of.lr_label, of.batch_syn) == values[5:9], (dataset, ipc)
        assert of.threshold == (1.1 if (dataset, ipc) == ("cifar10", 1) else 1.0)
        assert (of.iterations, of.mom_label) == (10000, 0.9)
        if is_pad:
            assert (of.drop, of.filter) == (values[9], "depth")
            released = built(dataset, ipc, "released", method=method)
            scores = released.difficulty
            assert released.method_settings.filter == "loss"
            assert (scores.score, scores.score_epochs, scores.score_lr) == ("grand_last", 40, 0.1)
        experts = run.experts
        gsam = experts.expert_optimizer, experts.gsam_rho, experts.gsam_alpha
        assert gsam == ("gsam", 0.01, 0.3)
        assert (experts.train_epochs, experts.lr_teacher) == (100, 0.01)
        assert experts.curriculum == ("pad" if is_pad else "all")
        assert run.loop.preprocessing == "zca" and run.recipe("color").batch_size == 128


def test_each_method_is_evaluated_as_its_paper_says():
    for method, dataset, wanted in [
        ("dc", "mnist", ("each_crop_scale_rotate", 1000)),
        ("dc", "cifar10", ("none", 300)),
        ("dsa", "mnist", ("color", 1000)),
        ("dm", "mnist", ("color", 1000)),
        ("datadam", "cifar10", ("color", 1000)),
    ]:
        recipe = built(dataset, 1, method=method).recipe("color")
        assert (recipe.augmentation, recipe.epochs) == wanted


@pytest.mark.parametrize("preset", presets.NAMES)
@pytest.mark.parametrize("method", registry.names())
def test_published_batches_have_a_smaller_last_one(method, preset):
    """196 steps of 256 for 50,000 images in `buffer.py`; 256 and 244 of 500 in `main.py`."""
    run, equal = built("cifar10", 50, preset, method=method), preset == "quick"
    assert run.evaluation.eval_equal_batches is equal
    if method in ("mtt", "datm", "pad", "ncfm"):
        assert run.experts.equal_batches is equal
    assert getattr(run.method_settings, "equal_batches", equal) is equal


def test_coresets_choose_real_images_from_no_start():
    assert built("digits", 1, method="herding").iterations == 0
    with pytest.raises(SettingError, match="`init` noise: herding chooses real images"):
        run_settings.build(selected("digits", 1, "quick", "herding", "noise"))


def test_grey_images_are_not_whitened():
    for dataset in ("mnist", "fashion_mnist", "digits"):
        for preset in presets.NAMES:
            assert built(dataset, 1, preset).loop.preprocessing == "standard"


@pytest.mark.parametrize("preset", presets.NAMES)
def test_every_name_in_a_preset_is_a_setting(preset):
    settings = {
        name
        for method in registry.names()
        for group in run_settings.defaults_of(selected("mnist", 1, preset, method)).groups
        for name in group.values
    }
    for method, dataset, ipc in itertools.product(registry.names(), data.names(), (1, 10, 50)):
        assert set(registry.preset(preset, method, dataset, ipc).values) <= settings


@pytest.mark.parametrize("dataset", data.names())
@pytest.mark.parametrize("preset", presets.NAMES)
def test_every_preset_makes_a_run(preset, dataset):
    """Values are of their fields' types, and segments end where their experts do."""
    for method, ipc in itertools.product(registry.names(), (1, 10, 50)):
        run = built(dataset, ipc, preset, method=method)
        for group in run_settings.defaults_of(selected(dataset, ipc, preset, method)).groups:
            for name, value in group.values.items():
                if group.kind is not None:
                    default = group.kind.__dataclass_fields__[name].default
                    assert type(value) is type(default), name
        window = registry.create(method, run.method_settings, None).needs.segments
        assert (window is not None) == (method in ("mtt", "datm", "pad", "ncfm"))
        if window is not None:
            window.check(run.experts.train_epochs)
