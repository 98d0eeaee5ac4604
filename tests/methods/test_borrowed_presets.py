"""Settings that are borrowed from other data."""

import itertools

import pytest

from jdd import data
from jdd.methods import presets, registry
from jdd.runs import settings as run_settings
from tests.methods.selected import selected


@pytest.mark.parametrize(
    ("cell", "source"),
    [
        (("paper", "mtt", "cifar10", 10), None),
        (("paper", "mtt", "cifar10", 20), "those for cifar10 at 10 per class are used"),
        (("paper", "mtt", "mnist", 1), "those for cifar10 at 1 per class are used"),
        (("paper", "dm", "cifar10", 60), "those for cifar10 at 50 per class are used"),
        (("paper", "dsa", "svhn", 50), None),
        (("quick", "mtt", "mnist", 1), None),
        (("quick", "mtt", "svhn", 1), "those for mnist at 1 per class are used"),
        (("quick", "mtt", "cifar10", 1), None),
        (("quick", "random", "cifar10", 3), None),
    ],
)
def test_borrowed_settings_are_said(cell, source):
    """Where nobody published, or tried, settings for a run, it says whose it takes."""
    note = registry.preset(*cell).note
    if source is None:
        assert note == ""
    else:
        assert source in note and f"for {cell[2]} at {cell[3]} per class" in note


SMALL = data.Traits(side=64, channels=3, classes=3, images=300, smallest=90)


@pytest.mark.parametrize(
    ("traits", "preset", "method", "source", "wanted"),
    [
        (SMALL, "quick", "dm", "cifar10 at 1", {"depth": 4, "lr_img": 8.0, "batch_real": 64}),
        (SMALL, "paper", "dm", "tiny_imagenet at 1", {"depth": 4, "lr_img": 1.0, "batch_real": 81}),
        (SMALL, "paper", "mtt", "tiny_imagenet at 1", {"depth": 4, "batch_train": 16}),
        (SMALL, "paper", "bptt", "tiny_imagenet at 10", {"batch_real": 270, "classes_syn": 3}),
        (SMALL, "quick", "mtt", "cifar10 at 1", {"real_images": 0, "batch_train": 16}),
        (SMALL._replace(channels=1), "quick", "idc", "mnist at 1", {"lr_img": 0.0686}),
        (SMALL._replace(side=128), "quick", "dc", "cifar10 at 1", {"depth": 5, "width": 16}),
        (SMALL._replace(side=128), "paper", "mtt", "imagenet at 1", {"depth": 5, "lr_img": 1e5}),
        (SMALL._replace(side=28, channels=1), "paper", "dc", "mnist at 1", {"depth": 3}),
        (SMALL._replace(side=32, classes=90), "paper", "dm", "cifar100 at 1", {"depth": 3}),
        (SMALL._replace(side=8), "quick", "idc", "digits at 1", {"depth": 2, "factor": 1}),
        (SMALL._replace(side=10), "quick", "frepo", "digits at 1", {"coefficients": 50}),
        (SMALL._replace(side=32, images=60000, smallest=9000), "quick", "mtt", "cifar10 at 1",
         {"real_images": 25000, "batch_train": 128}),
    ],
)  # fmt: skip
def test_data_of_ones_own_borrows_of_what_is_most_like_it(traits, preset, method, source, wanted):
    selection = selected("folder:pets", 1, preset, method)
    run = run_settings.build(selection, None, traits)
    assert f"those for {source} per class are used, whose images are most like" in run.note
    groups = (run.method_settings, run.experts, run.evaluation, run.storage)
    values = {**run.options, **{k: v for each in groups for k, v in vars(each).items()}}
    if "batch_train" in wanted:
        values["batch_train"] = run.experts.batch_train
    assert {name: values[name] for name in wanted} == wanted
    assert run.loop.preprocessing == "standard"


@pytest.mark.parametrize("method", registry.names())
@pytest.mark.parametrize("preset", presets.NAMES)
def test_every_method_has_settings_for_data_of_ones_own(preset, method):
    for side, channels, ipc in itertools.product((3, 16, 48, 224), (1, 3), (1, 10)):
        traits = data.Traits(side, channels, 2, 40, 15)
        selection = selected("arrays:a.npz", ipc, preset, method)
        run = run_settings.build(selection, None, traits)
        assert side >> run.options["depth"] >= 1 and run.loop.preprocessing == "standard"
        assert vars(run.method_settings).get("batch_real", 1) <= 40
        assert run.experts.real_images <= 36 or run.method_settings.needs.segments is None
        for each in run.note.partition(registry.SUITED)[2].split(", "):
            assert not each or len(each.split()) == 2
