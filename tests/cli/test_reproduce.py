"""The tasks one after another: what is done stays, what is left is said."""

import json
import shlex

import pytest

from jdd.cli import (
    compare_starts,
    cross_architecture,
    reproduce,
)
from jdd.cli.reproduce import Step
from tests.cli.running import call


def small(dataset, place, preset=None):
    """Two steps of the same kind as the real ones, in seconds."""
    assert dataset == "digits"
    made = str(place / "matching" / "dm-real")
    first = "--dataset digits --methods dm --network MLP --iterations 1 --repeats 1"
    second = "--networks MLP --repeats 1 --epochs 1"
    return (
        Step("matching", "Both starts", "compare_starts", tuple(shlex.split(first))),
        Step(
            "architectures",
            "Other networks",
            "cross_architecture",
            (made, *shlex.split(second)),
            ("matching",),
        ),
        Step("broken", "A step that fails", "cost", ("nowhere",)),
        Step("after", "A step behind it", "cost", (made,), ("broken",)),
    )


def test_steps_are_run_once_and_end_in_a_page(capfd, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduce, "steps", small)
    out = tmp_path / "out"
    code, found, err = call(reproduce.main, capfd, "--out", out, "--json")
    assert code == 2 and "broken failed" in err[-1]
    assert any("nowhere does not exist" in line for line in err)
    assert found["tasks"]["digits"] == {
        "matching": "done",
        "architectures": "done",
        "broken": "failed",
        "after": "left",
    }
    page = (out / "RESULTS.md").read_text()
    figures = json.loads((out / "digits" / "architectures" / "cross_architecture.json").read_text())
    assert f"{100 * figures['networks']['MLP']['mean']:.1f}" in page
    for line in page.splitlines():
        if line.startswith("!["):
            assert (out / line.split("(")[-1].rstrip(")")).exists()
    assert page.count("![") == 3 and "*failed*" in page and "*not reached yet" in page

    before = (out / "digits" / "matching" / "compare_starts.json").stat().st_mtime_ns
    code, again, err = call(reproduce.main, capfd, "--out", out, "--json")
    assert again["tasks"] == found["tasks"]
    assert sum("done before" in line for line in err) == 2
    assert (out / "digits" / "matching" / "compare_starts.json").stat().st_mtime_ns == before


def test_no_step_begins_after_the_time_is_used_up(capfd, tmp_path):
    out = tmp_path / "out"
    code, found, _ = call(reproduce.main, capfd, "--out", out, "--minutes", "1e-6", "--json")
    assert code == 0 and set(found["tasks"]["digits"].values()) == {"left"}
    assert not (out / "digits").exists() and "not reached yet" in (out / "RESULTS.md").read_text()


@pytest.mark.parametrize("dataset", reproduce.DATASETS)
def test_every_step_is_a_command_that_its_script_understands(dataset, tmp_path, capfd):
    """Up to where a set is needed that is not there."""
    mains = {"compare_starts": compare_starts.main, "cross_architecture": cross_architecture.main}
    for step in reproduce.steps(dataset, tmp_path):
        if step.script == "compare_starts":
            continue  # runs for minutes; its flags are tested in its own file
        if step.script in mains:
            main = mains[step.script]
        else:
            main = pytest.importorskip(f"jdd.cli.{step.script}").main
        code, _, err = call(main, capfd, *step.arguments, "--seed", "0", "--out", tmp_path / "o")
        assert code == 2 and "does not exist" in err[-1], err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dataset", "digit"), "did you mean 'digits'"),
        (("--dataset", "digits,digits"), "name each data set once"),
        (("--minutes", "0"), "--minutes 0: it must be above 0"),
        (("--preset", "slow"), "unknown preset 'slow'"),
    ],
)
def test_what_cannot_be_is_one_line(capfd, tmp_path, arguments, words):
    code, _, err = call(reproduce.main, capfd, *arguments, "--out", tmp_path / "out")
    assert code == 2 and len(err) == 1 and words in err[0]
    assert not (tmp_path / "out").exists()
