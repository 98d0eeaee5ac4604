"""Which segments, start epochs and images an update or an epoch takes."""

import dataclasses

import numpy as np
import pytest

from jdd import difficulty
from jdd.errors import SettingError
from jdd.experts import (
    ExpertSettings,
    SegmentSampler,
    SegmentWindow,
)
from tests.experts.small_store import EPOCHS, EXPERTS, filled, leaves, params


def test_segments_are_what_is_stored_and_a_function_of_the_iteration(tmp_path):
    store = filled(tmp_path)
    window = SegmentWindow(expert_epochs=2, min_start_epoch=1, max_start_epoch=3, segments=3)
    source = SegmentSampler(store, window, experts=2, seed=5)
    origins = {
        leaves(params(e, t))[0].tobytes(): (e, t) for e in range(EXPERTS) for t in range(EPOCHS + 1)
    }
    seen = set()
    for iteration in range(40):
        drawn = source.draw(iteration)
        for i in range(3):
            start = origins[leaves(drawn.start)[0][i].tobytes()]
            target = origins[leaves(drawn.target)[0][i].tobytes()]
            assert target == (start[0], start[1] + 2)
            seen.add(start)
    assert seen == {(e, t) for e in range(2) for t in (1, 2)}
    chunked = list(source.chunks(3, 10, 4))
    assert [len(leaves(c.start)[0]) for c in chunked] == [4, 3]
    rows = np.concatenate([leaves(c.target)[1] for c in chunked])
    for row, iteration in zip(rows, range(3, 10), strict=True):
        np.testing.assert_array_equal(row, leaves(source.draw(iteration).target)[1])


@pytest.mark.parametrize(
    ("epochs", "start", "words"),
    [
        (5, 1, "`expert_epochs` 5: more than the experts' `train_epochs` 4"),
        (2, 4, "`max_start_epoch` 4: with `expert_epochs` 2 .*: at most 3 here"),
    ],
)
def test_segments_that_would_reach_past_the_end_are_refused(epochs, start, words):
    SegmentWindow(expert_epochs=2, max_start_epoch=3).check(4)
    with pytest.raises(SettingError, match=words):
        SegmentWindow(expert_epochs=epochs, max_start_epoch=start).check(4)


def test_the_window_of_start_epochs_grows(tmp_path):
    """From below 1 at first to below 4 by iteration 30, evenly; never beyond."""
    window = SegmentWindow(
        expert_epochs=1, max_start_epoch=4, initial_max_start_epoch=1, expansion_end=30
    )
    source = SegmentSampler(filled(tmp_path), window, experts=EXPERTS, seed=0)
    ends = [window.max_start_at(i) for i in (0, 9, 10, 19, 20, 29, 30, 1000)]
    assert ends == [1, 1, 2, 2, 3, 3, 4, 4]
    begun = {
        (expert, epoch): leaves(params(expert, epoch))[0].tobytes()
        for expert in range(EXPERTS)
        for epoch in range(EPOCHS)
    }
    for iteration in range(40):
        drawn = source.draw(iteration).start["block"]["kernel"][0].tobytes()
        (epoch,) = (epoch for (_, epoch), value in begun.items() if value == drawn)
        assert epoch < window.max_start_at(iteration)


def test_the_difficulty_curriculum_of_a_hundred_epochs():
    """75 % of the easiest at first, all by 20, without the easiest 10 % from 40, 20 % from 60."""
    settings = ExpertSettings(train_epochs=100, curriculum="pad")
    ranks = np.arange(1000) / 1000
    counts = {e: int(settings.eligible(ranks, e).sum()) for e in (0, 10, 20, 40, 41, 60, 61, 99)}
    expected = {0: 750, 10: 875, 20: 1000, 40: 1000, 41: 900, 60: 900, 61: 800, 99: 800}
    assert counts == expected
    assert settings.eligible(ranks, 0)[:750].all() and settings.eligible(ranks, 61)[200:].all()
    short = ExpertSettings(train_epochs=5, curriculum="pad")
    assert [int(short.eligible(ranks, e).sum()) for e in range(5)] == [750, 1000, 1000, 900, 800]


def test_the_difficulty_curriculum_keeps_small_classes():
    """Of a class of one image and of three a tenth is none, a fifth of three at most one."""
    labels = np.repeat([0, 1, 2], [20, 1, 3])
    ranks = difficulty.ranks(np.arange(24.0), labels)
    settings = ExpertSettings(train_epochs=10, curriculum="pad")
    counts = [np.bincount(labels[settings.eligible(ranks, e)]).tolist() for e in (0, 5, 7)]
    assert counts == [[15, 1, 2], [18, 1, 3], [16, 1, 2]]
    ranks = difficulty.ranks(np.arange(10.0), np.arange(10))  # one image a class, its rank a half
    few = dataclasses.replace(settings, initial_fraction=0.4, second_drop_fraction=0.6)
    assert [int(few.eligible(ranks, e).sum()) for e in (0, 9)] == [10, 10]
