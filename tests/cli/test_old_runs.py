"""What jdd 0.1 has left is evaluated, exported and started from; it is not resumed."""

import json
import shutil

import numpy as np
import pytest

import jdd
from jdd import SyntheticSet, data
from jdd.cli import distill, evaluate, export
from jdd.runs import RunResult
from tests.cli.running import OLD_RUN, ROOT, call, content

SAME = ["--method", "mtt", "--dataset", "digits", "--ipc", "2", "--seed", "77"]
SAME += ["--preset", "quick", "--iterations", "6", "--eval-every", "6", "--eval-epochs", "20"]
SAME += ["--eval-networks", "2", "--full-data-epochs", "1"]


def test_its_result_is_read():
    value = json.loads((OLD_RUN / "result.json").read_text())
    result = RunResult.load(OLD_RUN / "result.json")
    assert result.version == "0.1" and result.best.accuracy.values == tuple(value["accuracies"])
    assert result.full_data.values == tuple(value["baselines"]["whole"]["accuracies"])
    assert result.full_data_images == 1437 and result.command == value["command"]


@pytest.mark.slow
def test_its_set_is_evaluated_to_the_same_accuracy(capfd):
    before = content(OLD_RUN)
    code, result, _ = call(evaluate.main, capfd, OLD_RUN, "--networks", 2, "--json")
    expected = json.loads((OLD_RUN / "result.json").read_text())
    assert code == 0 and result["accuracies"] == pytest.approx(expected["accuracies"], abs=0.01)
    assert (result["method"], result["ipc"], result["seed"]) == ("mtt", 2, 77)
    assert result["version"] == jdd.__version__ and content(OLD_RUN) == before


def test_its_set_is_exported(tmp_path, capfd):
    code, _, _ = call(export.main, capfd, OLD_RUN, "--to", tmp_path / "set.npz")
    assert code == 0
    with np.load(tmp_path / "set.npz") as arrays:
        assert arrays["images"].shape == (20, 8, 8, 1)
        assert arrays["labels"].tolist() == [i // 2 for i in range(20)]
        assert float(arrays["learning_rate"]) == pytest.approx(0.03, rel=0.1)


@pytest.mark.parametrize("ending", [[], ["--iterations", "7"]])
def test_it_is_not_resumed(tmp_path, capfd, ending):
    run = shutil.copytree(OLD_RUN, tmp_path / "run")
    before = content(tmp_path)
    code, _, err = call(distill.main, capfd, *SAME, *ending, "--out", run, "--resume")
    assert code == 2 and len(err) == 1 and content(tmp_path) == before
    words = "holds a run of jdd 0.1, which can be evaluated and exported but not resumed"
    assert words in err[0] and "choose another --out, or --overwrite it" in err[0]


def test_a_kept_set_is_read(data_dir, capfd):
    place = ROOT / "tests" / "fixtures" / "set-0.1"
    stored = SyntheticSet.load(place)
    assert stored.images.shape == (10, 28, 28, 1) and stored.info.method == "mtt"
    stored.check_fits(data.load("mnist", data_dir))
    code, result, _ = call(
        evaluate.main, capfd, place, "--data-dir", data_dir, "--networks", 1, "--epochs", 20,
        "--json",
    )  # fmt: skip
    assert code == 0 and result["accuracies"][0] > 0.5
