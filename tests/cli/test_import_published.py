"""Published files through the command line: to a set that is evaluated, to experts that serve."""

import re
import shlex

import numpy as np

from jdd import data
from jdd.cli import evaluate, export, import_published, train_experts
from jdd.interop import pickles
from jdd.runs import Selection, build, prepare
from jdd.synthetic import SyntheticSet
from tests.cli.running import call
from tests.interop import fakes

DIGITS = ["--dataset", "digits", "--preprocessing", "standard"]
SMALL = ["--width", "8", "--depth", "2"]


def test_a_set_is_evaluated_exported_and_started_from(tmp_path, capfd):
    images, targets = fakes.rcig(tmp_path)
    out = tmp_path / "set"
    arguments = [tmp_path, *DIGITS, "--network", "MLP", "--width", 8, "--epochs", 2]
    arguments += ["--augmentation", "none", "--temperature", 2, "--method", "rcig"]
    code, result, _ = call(import_published.main, capfd, *arguments, "--out", out, "--json")
    assert code == 0 and result["images"] == 20 and result["soft_labels"] and result["ipc"] == 2
    loaded = SyntheticSet.load(out, data.load("digits"))
    np.testing.assert_array_equal(loaded.images, images)
    np.testing.assert_allclose(loaded.labels, np.asarray(targets) / 2, rtol=1e-6)
    code, result, _ = call(evaluate.main, capfd, out, "--networks", 1, "--json")
    assert code == 0 and result["recipe"]["epochs"] == 2 and result["method"] == "rcig"
    assert call(export.main, capfd, out, "--to", tmp_path / "set.npz")[0] == 0
    run = build(Selection("dm", "digits", 2, init=str(out)), {"width": 8, "depth": 2})
    np.testing.assert_array_equal(prepare(run).start.labels, loaded.labels)


def test_experts_are_those_that_the_printed_command_asks_for(tmp_path, capfd, monkeypatch):
    every = {b"PK0": fakes.trajectories(2), b"PK1": fakes.trajectories(1)}
    monkeypatch.setattr(pickles, "loads", lambda content, where: every[content])
    for i, content in enumerate(every):
        (tmp_path / f"replay_buffer_{i}.pt").write_bytes(content)
    arguments = [*DIGITS, *SMALL, "--method", "datm", "--batch-train", 128, "--no-expert-dsa"]
    out = tmp_path / "experts"
    assert import_published.main([*map(str, [tmp_path, *arguments, "--out", out])]) == 0
    printed = capfd.readouterr().out
    assert "3 experts of 3 epochs" in printed and "THAT IS CHANCE" in printed
    (line,) = re.findall(r"try: python bin/distill\.py (.*)", printed)
    command = shlex.split(line)
    small = ["--expert-epochs", "1", "--max-start-epoch", "2", "--initial-max-start-epoch", "1"]
    # It trains none where there are enough that fit.
    code, result, err = call(train_experts.main, capfd, *command, *small, "--json")
    assert code == 0, err
    assert result["num_experts"] == 3 and result["settings"]["expert_optimizer"] == "gsam"
    code, _, err = call(train_experts.main, capfd, *command, *small, "--batch-train", 64)
    assert code == 2 and "stored with --batch-train 128, asked for 64" in err[-1]
