"""`distill.py --recommend`: the measured tables' command, and nothing run."""

import json
import shlex

import pytest

from jdd.cli import distill, results
from jdd.errors import UserError
from jdd.report import recommendation
from jdd.runs.settings import Selection, build
from tests.cli.running import OLD_RUN, ROOT, call

ROWS = [
    {"dataset": "mnist", "ipc": 1, "method": "slow", "accuracy": 0.9, "minutes": 9.0},
    {"dataset": "mnist", "ipc": 1, "method": "fast", "accuracy": 0.8, "minutes": 0.5},
    {"dataset": "mnist", "ipc": 10, "method": "other", "accuracy": 0.99, "minutes": 0.1},
]


def test_the_best_within_the_time_is_taken():
    for minutes, method in ((100, "slow"), (9, "slow"), (8.9, "fast"), (0.5, "fast")):
        assert recommendation.recommend(ROWS, "mnist", 1, minutes)["method"] == method
    for arguments, words in (
        (("mnist", 1, 0.4), "the fastest measured is fast, 0.5 minutes"),
        (("mnist", 5, 9), "mnist was measured at 1, 10 per class"),
        (("svhn", 1, 9), "no method was measured on svhn, only on mnist"),
    ):
        with pytest.raises(UserError, match=words):
            recommendation.recommend(ROWS, *arguments)


def test_what_is_stored_can_be_run_and_is_in_the_tables(tmp_path, capfd):
    code, _, _ = call(
        results.main, capfd, ROOT / "docs/results", "--out", tmp_path / "R.md", "--measured",
        tmp_path / "measured.json",
    )  # fmt: skip
    assert code == 0
    stored = recommendation.stored()
    assert stored == json.loads((tmp_path / "measured.json").read_text())
    for row in stored:
        words = shlex.split(row["command"])
        assert words[:2] == ["python", "bin/distill.py"]
        assert build(Selection(row["method"], row["dataset"], row["ipc"])).method == row["method"]
    assert {row["dataset"] for row in stored} >= {"digits", "mnist"}


def test_the_command_is_printed_and_nothing_is_run(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["--recommend", "--dataset", "digits", "--ipc", "1", "--minutes", "30", "--json"]
    code, row, _ = call(distill.main, capfd, *arguments)
    assert code == 0 and row["dataset"] == "digits" and row["minutes"] <= 30
    assert distill.main(["--recommend"]) == 0
    printed = capfd.readouterr().out
    assert printed.startswith("python bin/distill.py --") and "expected: " in printed
    assert "--eval-plain" not in printed
    for flags, words in (
        (["--dataset", "minst"], "'minst'"),
        (["--minutes", "0"], "--minutes"),
        (["--ipc", "7"], "--ipc 7: mnist was measured at"),
        (["--method", "dm"], "--method"),
    ):
        code, _, err = call(distill.main, capfd, "--recommend", *flags)
        assert code == 2 and words in err[-1]
    assert list(tmp_path.iterdir()) == []


def test_runs_of_0_1_have_rows_too():
    from jdd.runs import RunResult

    (row,) = recommendation.rows([RunResult.load(OLD_RUN / "result.json")])
    assert (row["dataset"], row["method"]) == ("digits", "mtt") and row["minutes"] > 0
