"""Settings of experts that there are not, or that are out of range."""

import numpy as np
import pytest

from jdd.errors import SettingError
from jdd.experts import (
    ExpertSettings,
)
from tests.experts.small_store import spec_of


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_experts", 0),
        ("train_epochs", 0),
        ("batch_train", -1),
        ("real_images", -1),
        ("epoch_steps", -1),
        ("lr_teacher", 0.0),
        ("lr_teacher", float("nan")),
        ("mom_teacher", 1.0),
        ("expert_seed", -1),
        ("expert_dtype", "float16"),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(SettingError, match=f"`{name}`"):
        spec_of(settings={name: value})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"expert_optimizer": "adam"}, "`expert_optimizer` 'adam': .*choose from gsam, sgd"),
        ({"curriculum": "easy"}, "`curriculum` 'easy'"),
        ({"gsam_rho": -1.0}, "`gsam_rho` -1.0: at least 0"),
        ({"initial_fraction": 0.0}, "`initial_fraction` 0.0: above 0 and at most 1"),
        ({"second_drop_fraction": 1.0}, "`second_drop_fraction` 1.0: from 0 to below 1"),
        ({"first_drop_epoch": 0.7}, "`first_drop_epoch` 0.7"),
    ],
)
def test_ways_of_training_that_there_are_not(changes, named):
    with pytest.raises(SettingError, match=named):
        ExpertSettings(**changes)


def test_the_curriculum_changes_after_the_epochs_that_are_named():
    """Of 20 epochs: growing to 4, all to 10, then without the easiest third, without half."""
    settings = ExpertSettings(
        train_epochs=20,
        curriculum="pad",
        initial_fraction=0.5,
        full_from_epoch=0.2,
        first_drop_epoch=0.5,
        first_drop_fraction=0.3,
        second_drop_epoch=0.75,
        second_drop_fraction=0.5,
    )
    ranks = (np.arange(100) + 0.5) / 100
    counts = {epoch: int(settings.eligible(ranks, epoch).sum()) for epoch in range(20)}
    assert [counts[epoch] for epoch in (0, 2, 4, 10, 11, 15, 16)] == [50, 75, 100, 100, 70, 70, 50]
