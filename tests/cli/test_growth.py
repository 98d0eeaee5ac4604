"""How an update grows, from the command line."""

import json

import numpy as np
import pytest
from scipy import stats

from jdd.cli import growth
from tests.cli.running import call, image_size


@pytest.mark.slow
def test_time_and_memory_along_two_sizes(capfd, tmp_path):
    code, result, _ = call(
        growth.main, capfd, "--method", "dm", "--dataset", "digits", "--ipc", "20,1",
        "--width", "8", "--base-width", "8", "--batch-real", "8", "--most", "0.01",
        "--out", tmp_path, "--json",
    )  # fmt: skip
    assert code == 0 and json.loads((tmp_path / "growth.json").read_text()) == result
    assert result["base"] == {"ipc": 1, "width": 8}
    ipc, width = result["sizes"]["ipc"], result["sizes"]["width"]
    assert ipc["values"] == [1, 20] and width["values"] == [8]
    assert width["seconds"] == ipc["seconds"][:1]  # the base point is measured once
    assert width["seconds_exponent"] is None and width["peak_bytes_exponent"] is None
    for kind in ("seconds", "peak_bytes"):
        slope = stats.linregress(np.log(ipc["values"]), np.log(ipc[kind])).slope
        assert ipc[f"{kind}_exponent"] == pytest.approx(slope)
    # The images, their momentum and both when moved, float32.
    assert ipc["peak_bytes"][1] - ipc["peak_bytes"][0] > 4 * 190 * 64 * 4
    page = (tmp_path / "growth.md").read_text()
    assert f"| {ipc['seconds_exponent']:.2f}" in page and "images per class" in page
    assert min(image_size(tmp_path / "growth.png")) > 300


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--method", "dm", "--steps", "1,2"), "--steps: updates of dm have no student steps"),
        (("--method", "dm", "--base-segments", "2"), "updates of dm have no expert segments"),
        (("--ipc", "1,0"), "'1,0' is not different numbers from 1 on"),
        (("--ipc", "2,2"), "'2,2' is not different numbers from 1 on"),
        (("--width", "8,x"), "'x' is not a whole number"),
        (("--base-ipc", "0"), "argument --base-ipc: 0: at least 1 is needed"),
        (("--most", "0"), "--most 0.0: it must be above 0"),
        (("--dataset", "mnst"), "--dataset 'mnst': did you mean 'mnist'"),
        (("--method", "random"), "--method random: it chooses real images"),
        (("--memory", "none"), "--memory 'none': choose from"),
        (
            ("--ipc", "none", "--steps", "none", "--width", "none", "--segments", "none"),
            "every size is none",
        ),
    ],
)
def test_what_cannot_be_is_one_line(capfd, tmp_path, arguments, words):
    code, _, err = call(growth.main, capfd, *arguments, "--out", tmp_path / "out")
    assert code == 2 and len(err) == 1 and words in err[0]
    assert not (tmp_path / "out").exists()
