"""The two scripts that time updates, on small ones."""

import numpy as np
import pytest

from jdd.cli import benchmark, growth
from tests.cli.running import call


def test_a_case_is_timed(capfd):
    code, found, _ = call(
        benchmark.main, capfd, "--case", "test-mnist", "--width", "8", "--steps", "3", "--json"
    )
    assert code == 0 and found["cases"]["test-mnist"]["flops"] == found["flops"]
    assert len(found["seconds_of_steps"]) == 3
    assert found["seconds_per_step"] == pytest.approx(
        np.median(found["seconds_of_steps"]), abs=1e-5
    )
    # Three blocks on 32×32, 16×16 and 8×8, then 4·4·8 → 10; 2,560 images, two operations each.
    block = 9 * 8
    by_hand = 2 * 2560 * (32**2 * block + 16**2 * block * 8 + 8**2 * block * 8 + 128 * 10)
    assert found["flops"] == pytest.approx(by_hand, rel=0.002)  # in six batches of 427
    assert found["peak_bytes"] > 2560 * 28 * 28 and found["compile_seconds"] > 0
    rate = found["flops_per_second"] / found["matmul_flops_per_second"]
    assert found["share_of_matmul_rate"] == pytest.approx(rate)


def test_growth_fits_an_exponent(capfd, tmp_path):
    few = [
        "--dataset",
        "digits",
        "--ipc",
        "1,4",
        "--steps",
        "none",
        "--segments",
        "none",
        "--width",
        "8,16,32",
    ]
    code, found, _ = call(
        growth.main, capfd, *few, "--base-width", "8", "--base-steps", "2", "--out", tmp_path,
        "--json",
    )  # fmt: skip
    assert code == 0 and set(found["sizes"]) == {"ipc", "width"}
    for size in found["sizes"].values():
        for kind in ("seconds", "peak_bytes"):
            slope = np.polyfit(np.log(size["values"]), np.log(size[kind]), 1)[0]
            assert size[f"{kind}_exponent"] == pytest.approx(slope)
    assert found["sizes"]["width"]["peak_bytes_exponent"] > 0.3
    assert (tmp_path / "growth.png").exists() and (tmp_path / "growth.md").exists()


@pytest.mark.parametrize(
    ("main", "arguments", "words"),
    [
        (benchmark.main, ("--case", "mtt-mnist-ipc2"), "did you mean 'mtt-mnist-ipc1'"),
        (benchmark.main, ("--peer", "tensorflow"), "--peer tensorflow"),
        (benchmark.main, ("--width", "0"), "--width 0"),
        (growth.main, ("--width", "8,x"), "'x' is not a whole number"),
        (growth.main, ("--dataset", "digit"), "did you mean 'digits'"),
    ],
)
def test_what_cannot_be_is_one_line(capfd, main, arguments, words):
    code, _, err = call(main, capfd, *arguments)
    assert code == 2 and len(err) == 1 and words in err[0]
