"""What is said of finished runs, from results that are kept."""

from pathlib import Path

import numpy as np

from jdd.report.run import several
from jdd.runs import RunResult

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
