"""What is said of finished runs, from results that are kept."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from jdd.report.run import several, summary
from jdd.runs import RunResult
from jdd.training import Accuracy

KEPT = Path(__file__).parents[2] / "docs" / "results" / "digits"


def test_several_seeds_are_compared_with_random_images():
    results = [RunResult.load(KEPT / f"dm-ipc10-seed{seed}" / "result.json") for seed in range(3)]
    lines = several(results).splitlines()
    for words, means in (
        ("  3 seeds ", [result.best.accuracy.mean for result in results]),
        ("  random real images ", [result.random.mean for result in results]),
    ):
        (line,) = [line for line in lines if line.startswith(words)]
        assert f"{100 * np.mean(means):.1f} ± {100 * np.std(means):.1f} %" in line


@pytest.mark.parametrize(("epochs", "words"), [(0, ""), (1, ", 1 epoch"), (20, ", 20 epochs")])
def test_all_real_images_have_their_epochs_alongside(epochs, words, tmp_path):
    run = RunResult.load(KEPT / "dm-ipc10-seed0" / "result.json")
    of = {"full_data": Accuracy((0.98,)), "full_data_images": 60000, "full_data_epochs": epochs}
    result = RunResult.from_json(dataclasses.replace(run, **of).to_json())
    for text in (summary(result, tmp_path), several([result, result])):
        assert f"  all 60,000 real images{words} " in text
