"""What distill.py, train_experts.py and evaluate.py leave and say, on real digits."""

import dataclasses
import json
import shlex
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from jdd import SyntheticSet, checkpoints, locks
from jdd.cli import distill, evaluate, train_experts
from jdd.distillation import Look
from jdd.errors import Interrupted
from jdd.report.run import summary
from jdd.runs import RunResult, problem
from jdd.runs.directory import data_dir_of
from tests.cli.running import PROMISED, SMALL, call, content, json_lines


def stored(directory):
    return json.loads((directory / "result.json").read_text())


@pytest.fixture
def copied(finished, tmp_path):
    return shutil.copytree(finished.out, tmp_path / "run")


def test_what_a_run_finds_in_data_of_one_s_own_is_said_first(tmp_path, monkeypatch, capfd):
    images, labels = np.arange(30 * 64, dtype=np.uint8).reshape(30, 8, 8), np.arange(30) % 6
    np.savez(tmp_path / "own.npz", images=images, labels=labels)

    def stops(*_):
        raise Interrupted("nothing was begun")

    monkeypatch.setattr(sys.modules["jdd.runs.run"], "_make", stops)
    flags = ("--method", "dm", "--dataset", f"arrays:{tmp_path / 'own.npz'}", "--depth", 2)
    _, _, err = call(distill.main, capfd, *flags, "--out", tmp_path / "run")
    assert err[1].endswith("npz: 6 classes (0, 1, 2, 3, 4, …), 24 training and 6 test images")


def test_classes_that_nothing_is_tested_on_are_named(tmp_path, monkeypatch, capfd):
    """And a start from noise needs real images of a class only to compare with."""
    images, labels = np.zeros((40, 8, 8), np.uint8), np.repeat([0, 1, 2], [37, 2, 1])
    np.savez(tmp_path / "own.npz", images=images, labels=labels)

    def stops(*_):
        raise Interrupted("nothing was begun")

    monkeypatch.setattr(sys.modules["jdd.runs.run"], "_make", stops)
    flags = ("--method", "dm", "--dataset", f"arrays:{tmp_path / 'own.npz'}", "--depth", 2)
    flags = (*flags, "--factor", 1, "--out", tmp_path / "run")
    _, _, err = call(distill.main, capfd, *flags)
    missing = [line for line in err if " image is of " in line]
    assert "no validation image is of '1', '2': accuracies leave 2 of 3 classes out" in missing[0]
    assert "no test image is of '2': accuracies leave 1 of 3 classes out" in missing[1]
    code, _, err = call(distill.main, capfd, *flags, "--ipc", 2, "--init", "noise")
    assert (
        code == 2 and "are 2 real images a class, and '1' has 1; or switch --eval-random" in err[0]
    )


def test_what_a_run_leaves(finished):
    result = stored(finished.out)
    assert result.keys() >= PROMISED | {"version", "date"}
    assert RunResult.load(finished.out / "result.json").to_json() == result
    assert (result["method"], result["dataset"], result["ipc"]) == ("mtt", "digits", 1)
    assert (result["iterations"], result["resumed_from"], result["devices"]) == (40, 0, 1)
    assert result["accuracy_mean"] == pytest.approx(np.mean(result["accuracies"]))
    assert result["accuracy_std"] == pytest.approx(np.std(result["accuracies"]))
    assert len(result["accuracies"]) == 2 and all(0 <= a <= 1 for a in result["accuracies"])
    assert result["baselines"].keys() == {"random", "full_data"}
    rows = json_lines(finished.out / "metrics.jsonl")
    assert [r["iteration"] for r in rows if "loss" in r] == list(range(1, 41))
    looks = {r["iteration"]: r["validation_accuracy"] for r in rows if "validation_accuracy" in r}
    assert list(looks) == [0, 20, 40]
    best = max(looks, key=lambda i: (looks[i], i))
    assert result["best"]["iteration"] == best
    assert result["best"]["validation_accuracy"] == looks[best]
    made = SyntheticSet.load(finished.out)
    assert made.images.shape == (10, 8, 8, 1) and made.info.method == "mtt"
    names = {path.name for path in (finished.out / "images").iterdir()}
    pictures = {"000000.png", "000020.png", "000040.png", "best.png"}
    assert names == {*pictures, "start-and-best.png", "set.gif"}
    with Image.open(finished.out / "images" / "best.png") as picture:
        assert picture.size == (10 * 100 + 4, 2 * 18 + 104)  # two lines of words
    with Image.open(finished.out / "images" / "set.gif") as picture:
        assert picture.n_frames == 3
    assert json.loads((finished.out / "settings.json").read_text())["ipc"] == 1
    assert not [p for p in finished.out.rglob(".*") if p.name != ".lock"]


def test_evaluating_the_set_reproduces_the_runs_accuracy(finished, capfd):
    code, result, _ = call(evaluate.main, capfd, finished.out, "--networks", 2, "--json")
    assert code == 0 and result.keys() >= PROMISED
    assert result["accuracies"] == stored(finished.out)["accuracies"]
    code, other, _ = call(
        evaluate.main,
        capfd,
        finished.out,
        "--networks",
        1,
        "--epochs",
        1,
        "--measures",
        "--full-data-epochs",
        1,
        "--json",
    )
    assert code == 0 and other["recipe"]["epochs"] == 1
    assert other["accuracies"][0] != result["accuracies"][0]
    assert other["measures"]["own"]["accuracies"] == other["accuracies"]
    assert 0 < other["measures"]["lrs"] < 1 and "measures" not in result


def test_a_finished_run_is_given_back(finished, copied, capfd):
    before = content(copied)
    arguments = [*SMALL, "--out", copied, "--experts", finished.experts, "--resume", "--json"]
    code, result, _ = call(distill.main, capfd, *arguments)
    assert code == 0 and result == stored(finished.out) and content(copied) == before


def test_where_the_data_were_is_known_from_the_run(copied, tmp_path, monkeypatch):
    """By which its sets are evaluated where nothing else says it."""
    path = copied / "settings.json"
    settings = json.loads(path.read_text())
    assert data_dir_of(copied) is None  # the digits need no directory
    path.write_text(json.dumps({**settings, "places": {"data_dir": str(tmp_path)}}))
    assert data_dir_of(copied) == data_dir_of(copied / "last") == str(tmp_path)
    looked_in = []
    monkeypatch.delenv("JDD_DATA_DIR", raising=False)  # which would come first
    monkeypatch.setattr(problem.data, "load", lambda name, place, *_: looked_in.append(place))
    monkeypatch.setattr(SyntheticSet, "check_fits", lambda *_: None)
    problem.dataset_of(SyntheticSet.load(copied), copied)
    problem.dataset_of(SyntheticSet.load(copied), copied, "another")
    assert looked_in == [str(tmp_path), "another"]
    path.write_text(json.dumps({**settings, "places": {"data_dir": str(tmp_path / "gone")}}))
    assert data_dir_of(copied) is data_dir_of(tmp_path / "none") is None


def test_more_iterations_resume_from_the_state(finished, copied, capfd):
    more = [*SMALL, "--iterations", 45, "--out", copied, "--experts", finished.experts]
    code, result, _ = call(distill.main, capfd, *more, "--resume", "--json")
    assert code == 0 and (result["iterations"], result["resumed_from"]) == (45, 40)
    assert checkpoints.StateCheckpoints(copied / "state").iterations() == [40, 45]
    assert (
        (copied / "metrics.jsonl")
        .read_text()
        .startswith((finished.out / "metrics.jsonl").read_text())
    )
    before = content(copied)
    code, _, err = call(
        distill.main, capfd, *SMALL, "--out", copied, "--experts", finished.experts, "--resume"
    )
    assert code == 2 and "with 45 iterations already" in err[-1] and content(copied) == before


def test_resuming_needs_no_other_flag(finished, tmp_path, monkeypatch, capfd):
    """As settings.json knows them: what is distilled, each setting, where the experts are."""
    out = tmp_path / "run"
    at_first = ["--out", out, "--experts", finished.experts, "--iterations", 20, "--json"]
    code, first, _ = call(distill.main, capfd, *SMALL, *at_first)
    assert code == 0 and first["iterations"] == 20
    monkeypatch.chdir(tmp_path)
    code, again, _ = call(distill.main, capfd, "--resume", "--out", out, "--json")
    assert code == 0 and again == first
    more = ["--resume", "--out", out, "--iterations", 40, "--json"]
    code, result, _ = call(distill.main, capfd, *more)
    assert code == 0 and (result["iterations"], result["resumed_from"]) == (40, 20)
    expected = stored(finished.out)
    assert result["accuracies"] == expected["accuracies"]
    command = first["command"].replace("--iterations 20", "--iterations 40")
    assert result["command"] == command and command.count("--iterations") == 1
    code, _, err = call(distill.main, capfd, "--resume", "--out", out, "--syn-steps", 6)
    assert code == 2 and "--syn-steps is 5 there, 6 here" in err[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "holds a run already: add --resume to resume it, --overwrite to replace it"),
        (("--resume", "--seed", 1), "holds another run: --seed is 0 there, 1 here"),
        (("--resume", "--syn-steps", 6), "--syn-steps is 5 there, 6 here"),
        (("--resume", "--ipc", 2), "--ipc is 1 there, 2 here"),
        (("--resume", "--width", 9), "do not fit: stored with --width 8, asked for 9"),
        (("--resume", "--iterations", 20), "with 40 iterations already"),
    ],
)
def test_another_run_is_refused_and_nothing_changed(finished, copied, capfd, arguments, words):
    before = content(copied)
    shared = ["--out", copied, "--experts", finished.experts]
    code, _, err = call(distill.main, capfd, *SMALL, *shared, *arguments)
    assert code == 2 and len(err) <= 4 and words in err[-1]
    assert content(copied) == before


def test_fewer_iterations_than_made_are_refused_before_anything_is_written(copied, capfd):
    (copied / "result.json").unlink()  # as of a run that was stopped
    before = content(copied)
    arguments = ["--resume", "--out", copied, "--iterations", "20"]
    code, _, err = call(distill.main, capfd, *arguments)
    assert code == 2 and "has come to iteration 40 already" in err[-1]
    assert content(copied) == before


def test_a_method_that_is_paced_by_its_iterations_is_not_resumed_with_more(tmp_path, capfd):
    words = shlex.split(
        "--method frepo --dataset digits --preset quick --decoder pixels --width 4 --iterations 2 "
        "--batch-real 20 --pool 2 --eval-epochs 1 --eval-networks 1 --full-data-epochs 0 --json"
    )
    out = tmp_path / "run"
    assert call(distill.main, capfd, *words, "--out", out)[0] == 0
    before = content(out)
    code, _, err = call(distill.main, capfd, "--resume", "--out", out, "--iterations", "4")
    assert code == 2 and "--iterations is 2 there, 4 here" in err[-1] and content(out) == before


def test_the_last_set_has_no_figure_that_it_was_chosen_by(finished, tmp_path, capfd):
    few = ["--iterations", "1", "--choose", "last", "--experts", tmp_path / "experts", "--json"]
    few += ["--train-epochs", "4", "--max-start-epoch", "1", "--eval-plain", "--no-eval-random"]
    code, result, _ = call(distill.main, capfd, *SMALL, *few, "--out", tmp_path / "run")
    assert code == 0 and "validation_accuracy" not in result["best"]
    assert "NaN" not in (tmp_path / "run" / "result.json").read_text()


def test_overwriting_replaces_the_run_and_keeps_other_files(finished, copied, capfd):
    (copied / "notes.txt").write_text("mine")
    shared = ["--out", copied, "--experts", finished.experts, "--init", "noise", "--overwrite"]
    code, result, _ = call(distill.main, capfd, *SMALL, *shared, "--iterations", 1, "--json")
    assert code == 0 and (result["init"], result["iterations"]) == ("noise", 1)
    assert (copied / "notes.txt").read_text() == "mine"
    assert not (copied / "images" / "000020.png").exists()
    assert checkpoints.StateCheckpoints(copied / "state").iterations() == [1]


def test_a_run_starts_from_a_stored_set(finished, tmp_path, capfd):
    shared = ["--experts", finished.experts, "--iterations", 1, "--init", finished.out, "--json"]
    code, result, _ = call(distill.main, capfd, *SMALL, *shared, "--out", tmp_path / "run")
    assert code == 0 and result["ipc"] == 1
    rows = json_lines(tmp_path / "run" / "metrics.jsonl")
    rate = float(SyntheticSet.load(finished.out).learning_rate)
    assert rows[1]["learning_rate"] == pytest.approx(rate, rel=0.1) and rate != 0.02
    assert rows[0]["validation_accuracy"] == stored(finished.out)["best"]["validation_accuracy"]


def test_a_directory_in_use_is_refused(finished, copied, capfd):
    with locks.locked(copied):
        code, _, err = call(
            distill.main, capfd, *SMALL, "--out", copied, "--experts", finished.experts,
            "--resume", "--iterations", 41,
        )  # fmt: skip
    assert code == 2 and "is writing there: --wait for it to end" in err[-1]


def test_experts_can_be_trained_beforehand(finished, capfd):
    code, result, err = call(
        train_experts.main, capfd, *SMALL, "--experts", finished.experts, "--json"
    )
    assert code == 0 and any("experts: 1 in" in line for line in err)
    assert result["num_experts"] == 1 and len(result["validation_accuracies"]) == 1
    assert 0.3 < result["validation_accuracies"][0] <= 1


def test_a_run_whose_accuracy_fell_says_so_at_the_end(finished):
    result = RunResult.load(finished.out / "result.json")
    steady = dataclasses.replace(result, curve=tuple(Look(i, 0.8, 1.0) for i in (0, 20, 40)))
    assert "FELL" not in summary(steady, finished.out)
    fallen = dataclasses.replace(
        result,
        dropped_updates=7,
        best=dataclasses.replace(result.best, iteration=20),
        curve=(Look(0, 0.6, 1.0), Look(20, 0.8, 2.0), Look(40, 0.3, 3.0)),
    )
    words = summary(fallen, finished.out)
    assert "7 of 40 updates were dropped" in words
    assert "THE ACCURACY FELL on validation, from 80.0 % at iteration 20 to 30.0 % at the" in words
    assert "the set of iteration 20 is stored; lower `lr_img`" in words
