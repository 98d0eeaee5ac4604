"""`distill.py --seeds`: several runs at once, each as its own."""

import json
import shlex

import numpy as np
import pytest

from jdd.cli import distill
from jdd.runs import RunResult
from jdd.synthetic import SyntheticSet
from tests.cli.running import SMALL, call

FEW = [*SMALL, "--iterations", "6", "--eval-every", "3"]


@pytest.mark.slow
def test_each_seed_s_run_is_its_own(tmp_path, capfd):
    words = [*FEW, "--experts", tmp_path / "experts"]
    both = [*words, "--seeds", "1,3", "--out", tmp_path / "both", "--json"]
    code, output, _ = call(distill.main, capfd, *both)
    assert code == 0 and output["seeds"] == [1, 3]
    for result in output["runs"]:
        seed = result["seed"]
        place = tmp_path / "both" / f"seed{seed}"
        assert json.loads((place / "result.json").read_text()) == result
        assert RunResult.load(place / "result.json").together == 2
        assert result["command"].endswith(f"--seed {seed}") and "--seeds" not in result["command"]
        again = shlex.split(result["command"])[2:]
        single = [*again, "--experts", tmp_path / "experts", "--out", tmp_path / f"own{seed}"]
        assert call(distill.main, capfd, *single, "--json")[1]["accuracies"] == result["accuracies"]
        ours, theirs = (
            SyntheticSet.load(path / "last") for path in (place, tmp_path / f"own{seed}")
        )
        scale = float(np.abs(theirs.images).max())
        assert np.abs(ours.images - theirs.images).max() <= 1e-5 * scale
        np.testing.assert_allclose(ours.learning_rate, theirs.learning_rate, rtol=1e-5)
    means = [result["accuracy_mean"] for result in output["runs"]]
    assert output["accuracies"] == means and output["accuracy_std"] == pytest.approx(np.std(means))
    assert call(distill.main, capfd, *both, "--resume")[1]["runs"] == output["runs"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--method", "random", "--seeds", "0-1"), "--seeds: random chooses real images"),
        (("--seeds", "0,1", "--seed", "1"), "--seed and --seeds: give one of the two"),
        (("--seeds", "3-1"), "from a seed up to a larger one"),
        (("--seeds", "0-2,1"), "name each once"),
        (("--seeds", "0-x"), "'x' is not a whole number"),
    ],
)
def test_what_cannot_be_is_one_line(capfd, arguments, words):
    code, _, err = call(distill.main, capfd, "--dataset", "digits", *arguments)
    assert code == 2 and len(err) == 1 and words in err[0]
