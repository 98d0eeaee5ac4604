"""Both starts of several methods, from the command line."""

import json
import shlex

import numpy as np
import pytest
from PIL import Image

from jdd.cli import compare_starts, distill, selection
from jdd.errors import Interrupted
from jdd.runs import Selection, build
from jdd.tasks import starts
from tests.cli.running import call

FEW = shlex.split(
    "--dataset digits --preset quick --network MLP --methods dm,dc --iterations 2 --repeats 1"
)


@pytest.mark.slow  # test_reproduce runs the same script
def test_both_starts_are_made_once_and_compared(capfd, tmp_path):
    out = tmp_path / "out"
    code, result, _ = call(compare_starts.main, capfd, *FEW, "--out", out, "--json")
    assert code == 0 and list(result["methods"]) == ["dm", "dc"]
    for method, both in result["methods"].items():
        for start, figures in both.items():
            stored = json.loads((out / f"{method}-{start}" / "result.json").read_text())
            assert stored["init"] == start and stored["method"] == method
            assert figures["mean"] == stored["best"]["accuracy_mean"]
            assert figures["iterations"] == 2
    page = (out / "compare_starts.md").read_text()
    dm = result["methods"]["dm"]
    assert f"{100 * (dm['real']['mean'] - dm['noise']['mean']):+.1f}" in page
    for name in ("compare_starts.png", "compare_starts-sets.png"):
        with Image.open(out / name) as picture:
            assert np.asarray(picture).std() > 10  # not a blank sheet
    before = {path: path.stat().st_mtime_ns for path in out.rglob("result.json")}
    code, again, err = call(compare_starts.main, capfd, *FEW, "--out", out, "--json")
    assert code == 0 and again["methods"] == result["methods"]
    assert {path: path.stat().st_mtime_ns for path in out.rglob("result.json")} == before
    assert sum("holds the finished run" in line for line in err) == 4


def test_a_run_knows_the_command_that_makes_it_by_itself(capfd, tmp_path, monkeypatch):
    """Each command is parsed as distill.py parses it, into the settings of the run."""
    made = []

    def instead(runs, *places, command, **options):
        made.extend((settings, command(settings)) for settings in runs.values())
        raise Interrupted("seen")

    monkeypatch.setattr(starts, "run_all", instead)
    more = ("--ipc", "10", "--image-size", "16", "--seed", "3", "--out", tmp_path / "out")
    call(compare_starts.main, capfd, *FEW, *more)
    assert len(made) == 4
    for settings, command in made:
        script, *words = shlex.split(command)[1:]
        _, alone = selection.parse(distill._parser(), words)
        assert script == "bin/distill.py" and alone == settings


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--methods", "dmm"), "did you mean 'dm'"),
        (("--methods", "herding"), "it chooses real images"),
        (("--methods", "dm,dm"), "name each once"),
        (("--dataset", "digit"), "did you mean 'digits'"),
        (("--preset", "slow"), "--preset 'slow': choose from"),
        (("--network", "MPL"), "did you mean 'MLP'"),
        (("--iterations", "0"), "argument --iterations: 0: at least 1"),
        (("--ipc", "0"), "argument --ipc: 0: at least 1"),
    ],
)
def test_what_cannot_be_is_one_line(capfd, tmp_path, arguments, words):
    code, _, err = call(compare_starts.main, capfd, *arguments, "--out", tmp_path / "out")
    assert code == 2 and len(err) == 1 and words in err[0]
    assert not (tmp_path / "out").exists()


def test_both_starts_make_all_updates_of_the_preset():
    """Half of them were too few for gradient matching from noise."""
    selection_of = Selection("", "mnist", 10, "", "ConvNet", "quick", 0)
    runs = starts.plan(["dc", "mtt"], selection_of, {})
    for (method, init), settings in runs.items():
        alone = build(selection_of._replace(method=method, init=init), {})
        assert settings.iterations == alone.iterations
