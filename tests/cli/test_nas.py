"""What nas.py leaves and says, on real digits."""

import json
from signal import SIGINT

import numpy as np
import pytest
from PIL import Image

from jdd import data
from jdd.cli import nas
from jdd.cli.program import Stopper
from jdd.report.nas import guessing
from tests.cli.running import call
from tests.cli.test_bad_input import refused
from tests.tasks.small_nas import real_set

SMALL = ("--space", "sequential", "--candidates", 2, "--epochs", 3, "--full-epochs", 1)
LESS = ("--real-images", 400)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A run's directory with a set in it."""
    run = tmp_path_factory.mktemp("run")
    real_set(data.load("digits")).save(run)
    return run


@pytest.fixture(scope="module")
def searched(stored, tmp_path_factory):
    """A small search's directory and result."""
    out = tmp_path_factory.mktemp("nas") / "tasks"
    arguments = [stored, *SMALL, *LESS, "--out", out]
    assert nas.main([str(argument) for argument in arguments]) == 0
    return out, json.loads((out / "nas.json").read_text()), arguments


def lines(out):
    return (out / "nas.jsonl").read_text().splitlines()


def test_what_a_search_leaves(searched):
    out, result, _ = searched
    assert {p.name for p in out.iterdir()} == {
        "nas.json",
        "nas.jsonl",
        "nas.md",
        "nas.png",
        ".lock",
    }
    assert (result["task"], result["method"], result["dataset"], result["ipc"]) == (
        *("nas", "none", "digits"),
        1,
    )
    assert (result["candidates"], result["sampled"], result["skipped"]) == (2, 2, [])
    assert result["seconds"] > result["full_seconds"] > 0
    of = {json.dumps(line["options"]): line for line in result["networks"]}
    trainings = [json.loads(line) for line in lines(out)[1:]]
    for training in trainings:
        if training["proxy"] != "test":
            assert of[json.dumps(training["candidate"])][training["proxy"]] == training["accuracy"]
    tested = {json.dumps(t["candidate"]): t["accuracy"] for t in trainings if t["proxy"] == "test"}
    for proxy in ("distilled", "random", "early", "full"):
        best = max(result["networks"], key=lambda line: line[proxy])
        assert result["best"][proxy] == best["options"]
        assert result["best_accuracy"][proxy] == tested[json.dumps(best["options"])]
        steps = [t["steps"] for t in trainings if t["proxy"] == proxy]
        # Ten images are one batch; of 400 real ones 120 are held out.
        assert steps == [28 if proxy == "full" else 3] * 2
    assert result["spearman"].keys() == {"distilled", "random", "early"}
    assert "| distilled set" in (out / "nas.md").read_text()
    with Image.open(out / "nas.png") as picture:
        assert np.asarray(picture).std() > 10  # not a blank sheet


def test_a_search_resumes_where_it_was_cut_off(searched, tmp_path, capfd):
    out, result, arguments = searched
    part = tmp_path / "tasks"
    part.mkdir()
    text = "\n".join(lines(out)[:4]) + '\n{"candidate": {"chan'
    (part / "nas.jsonl").write_text(text)
    code, again, _ = call(nas.main, capfd, *arguments[:-1], part, "--resume", "--json")
    assert code == 0 and again["resumed_from"] == 3
    for name in ("best", "best_accuracy", "spearman", "networks"):
        assert again[name] == result[name]
    assert len(lines(part)) == len(lines(out))
    assert "3 of the trainings are from an earlier command" in (part / "nas.md").read_text()
    assert again == json.loads((part / "nas.json").read_text())


def test_a_search_stopped_in_its_first_training_says_that_nothing_is_there(
    stored, tmp_path, capfd, monkeypatch
):
    begun = iter([False])
    monkeypatch.setattr(Stopper, "__call__", lambda self: next(begun, True))
    out = tmp_path / "tasks"
    assert nas.main([str(a) for a in (stored, *SMALL, *LESS, "--out", out)]) == 128 + SIGINT
    assert "stopped: nothing is stored, no training had ended" in capfd.readouterr().err
    assert not (out / "nas.jsonl").exists()


def test_lines_of_an_earlier_search_are_not_lost(searched, tmp_path, capfd):
    out, _, arguments = searched
    (tmp_path / "nas.jsonl").write_bytes((out / "nas.jsonl").read_bytes())
    same = [*arguments[:-1], tmp_path]
    words = "trainings already: add --resume to resume from them, --overwrite to delete existing"
    refused(nas.main, capfd, tmp_path, words, *same)
    words = "another search: --epochs is 3 there, 4 here"
    refused(nas.main, capfd, tmp_path, words, *same, "--epochs", 4, "--resume")
    refused(nas.main, capfd, tmp_path, "--seed is 0 there, 1 here", *same, "--seed", 1)
    (tmp_path / "nas.jsonl").write_text("mine\n")
    refused(nas.main, capfd, tmp_path, "is not of a search", *same, "--resume")


def test_a_ranking_of_networks_that_guess_is_named():
    networks = [{"distilled": a, "random": b, "early": 0.5} for a, b in ((0.1, 0.1), (0.5, 0.6))]
    networks += [{"distilled": 0.12, "random": 0.7, "early": None}] * 2
    proxies = {"distilled": {}, "random": {}, "early": {}}
    assert guessing({"classes": 10, "networks": networks, "spearman": proxies}) == [
        "\n3 of 4 networks only guess (distilled set): more epochs, or a smaller batch, would "
        "rank them better."
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nowhere", "does not exist"),
        ("RUN --space convnet", "--space 'convnet': did you mean 'convnets'?"),
        ("RUN --space seed", "--space seed has another name since jdd 0.2: --space sequential"),
        ("RUN --candidates 0", "--candidates 0: at least 1"),
        ("RUN --candidates 601", "600 of the 720 networks of convnets fit digits"),
        ("RUN --sample 7", "--sample 7: at most --candidates, 6"),
        ("RUN --held-out 2", "--held-out 2.0: above 0 and below 1"),
        ("RUN --real-images 5000", "--real-images 5000: from 1 to 1437"),
        ("RUN --augmentation colour", "did you mean 'color'?"),
        ("RUN --epoch 3", "did you mean --epochs?"),
        ("RUN --resume --overwrite", "not allowed with argument"),
    ],
)
def test_what_cannot_be_done_is_said(stored, tmp_path, capfd, arguments, words):
    arguments = [stored if a == "RUN" else a for a in arguments.split()]
    refused(nas.main, capfd, tmp_path, words, *arguments, "--out", tmp_path / "tasks")
    assert not (stored / "tasks").exists()
