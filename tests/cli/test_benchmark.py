"""Steps timed, from the command line."""

import importlib.util

import pytest

from jdd.benchmarks import cases, measure
from jdd.benchmarks.cases import Case
from jdd.cli import benchmark
from tests.cli.running import call

HAS_TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture
def small(monkeypatch):
    """Cases that take no time, alongside the others."""
    monkeypatch.setitem(cases.CASES, "dm-digits", Case("dm", "digits", 2, 16, augmented=False))
    monkeypatch.setitem(cases.CASES, "test-digits", Case("test", "digits", batch=500))


def test_a_case_is_measured(small, capfd):
    code, result, _ = call(
        benchmark.main, capfd, "--case", "dm-digits,test-digits", "--width", "8", "--steps", "4",
        "--json",
    )  # fmt: skip
    assert code == 0 and result["task"] == "benchmark" and result["jax"] and result["device"]
    assert list(result["cases"]) == ["dm-digits", "test-digits"]
    for row in result["cases"].values():
        assert len(row["seconds_of_steps"]) == 4
        low, high = sorted(row["seconds_of_steps"])[1:3]
        assert row["seconds_per_step"] == pytest.approx((low + high) / 2, abs=1e-6)
        rate = row["flops"] / row["seconds_per_step"]
        assert row["flops_per_second"] == pytest.approx(rate)
        assert row["share_of_matmul_rate"] == pytest.approx(rate / row["matmul_flops_per_second"])
        assert row["compile_seconds"] > 0 and "peer" not in row
    row = result["cases"]["test-digits"]
    # Three blocks of 8 channels on 8×8, 4×4 and 2×2 pixels, and the classifier.
    one = 2 * (64 * 9 * 8 + (16 + 4) * 9 * 64 + 8 * 10)
    assert row["flops"] == 500 * one
    assert row["step"] == "logits of 500 images"
    assert row["peak_bytes"] > 500 * 64


@pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is not installed: pip install '.[bench]'")
def test_pytorch_takes_turns(small, capfd):
    code, result, _ = call(
        benchmark.main, capfd, "--case", "test-digits", "--width", "8", "--steps", "3",
        "--peer", "torch", "--json",
    )  # fmt: skip
    assert code == 0
    row = result["cases"]["test-digits"]
    peer = row["peer"]
    assert len(peer["seconds_of_steps"]) == len(row["seconds_of_steps"]) == 3
    assert peer["ratio"] == pytest.approx(peer["seconds_per_step"] / row["seconds_per_step"])


def test_a_peer_that_fails_leaves_our_own_figures(small, capfd, monkeypatch):
    def steps(problem, settings):
        yield "NCHW", lambda: 1 / 0

    monkeypatch.setattr(measure, "prepare_peer", lambda settings: None)
    monkeypatch.setattr(measure, "_torch_steps", steps)
    words = ["--case", "test-digits", "--width", "8", "--steps", "3", "--peer", "torch", "--json"]
    code, result, _ = call(benchmark.main, capfd, *words)
    row = result["cases"]["test-digits"]
    assert code == 0 and len(row["seconds_of_steps"]) == 3
    assert "peer" not in row and row["peer_failed"] == "ZeroDivisionError: division by zero"


@pytest.mark.skipif(HAS_TORCH, reason="PyTorch is installed")
def test_without_pytorch_it_says_what_to_install(capfd):
    code, _, err = call(benchmark.main, capfd, "--peer", "torch")
    assert code == 2 and len(err) == 1 and "pip install torch" in err[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--case", "dm-mnist"), "did you mean 'dm-mnist-ipc10'"),
        (("--case", "test-mnist,test-mnist"), "name each once, joined by commas"),
        (("--case", ","), "name each once, joined by commas"),
        (("--width", "0"), "--width 0: at least 1 is needed"),
        (("--steps", "-1"), "--steps -1: at least 0"),
        (("--most", "-1"), "--most -1.0: it must be above 0"),
        (("--peer", "jax"), "--peer 'jax': choose from"),
    ],
)
def test_what_cannot_be_is_one_line(capfd, arguments, words):
    code, _, err = call(benchmark.main, capfd, *arguments)
    assert code == 2 and len(err) == 1 and words in err[0]


def test_help_lists_the_cases(capfd):
    with pytest.raises(SystemExit):
        benchmark.main(["--help"])
    told = capfd.readouterr().out
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert max(map(len, told.splitlines())) <= 100
    for name, case in cases.CASES.items():
        assert f"{name} {case.words()}" in lines
