"""Two commands at once on one run, one store of experts, one cache: processes of their own."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jdd.cli import distill, score_difficulty, train_experts
from tests.cli.running import ROOT, SMALL, call, content, start

HOLD = """
import sys, time
from pathlib import Path
from jdd import locks
with locks.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
    time.sleep(0.5)
"""


@pytest.fixture
def holder(tmp_path):
    """Has another process write to `tmp_path/taken` until it is told to end."""
    (tmp_path / "taken").mkdir(exist_ok=True)
    command = [sys.executable, "-c", HOLD, tmp_path / "taken"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process


def let_go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_the_second_is_told_whose_turn_it_is(finished, holder, tmp_path, capfd):
    taken = tmp_path / "taken"
    before = content(tmp_path)
    digits = ("--dataset", "digits", "--preset", "quick")
    for main, flag, arguments in (
        (distill.main, "--out", [*SMALL, "--experts", finished.experts, "--resume"]),
        (train_experts.main, "--experts", SMALL),
        (score_difficulty.main, "--out", digits),
    ):
        code, _, err = call(main, capfd, *arguments, flag, taken)
        assert code == 2 and content(tmp_path) == before
        whose = rf"process {holder.pid} on {re.escape(socket.gethostname())} since \d{{4}}-"
        assert re.match(rf"error: {flag} {taken}: {whose}.*is writing there: --wait for", err[-1])
    let_go(holder)
    assert holder.wait(60) == 0 and not (taken / ".lock").read_bytes()


def test_the_second_waits_and_then_takes_over_what_there_is(finished, tmp_path, holder, capfd):
    taken = tmp_path / "taken"
    shutil.copytree(finished.out, taken, dirs_exist_ok=True, ignore=lambda *_: [".lock"])
    let_go(holder)
    arguments = ["--out", taken, "--experts", finished.experts, "--resume", "--wait", "--json"]
    code, result, err = call(distill.main, capfd, *SMALL, *arguments)
    assert code == 0 and result == json.loads((finished.out / "result.json").read_text())
    waits = [line for line in err if line.startswith(f"waiting for {taken}: process {holder.pid}")]
    assert len(waits) == 1 and waits[0].endswith("is writing there")


def both(script, *arguments, **options):
    """Two processes of one command, started at the same time: (code, out, err) of each."""
    pair = [start(script, *arguments, **options) for _ in range(2)]
    ended = [process.communicate(timeout=300) for process in pair]
    return [(p.returncode, *texts) for p, texts in zip(pair, ended, strict=True)]


@pytest.mark.slow
def test_two_runs_on_one_out(finished, tmp_path):
    arguments = [*SMALL, "--out", tmp_path / "run", "--experts", finished.experts]
    (code, _, err), (other, _, words) = sorted(both("distill.py", *arguments))
    assert (code, other) == (0, 2), err + words
    assert re.search(r"error: --out \S+: process \d+ on .* is writing there: --wait", words)
    assert not [p for p in (tmp_path / "run").rglob(".*") if p.name != ".lock"]
    expected = json.loads((finished.out / "result.json").read_text())
    assert json.loads((tmp_path / "run" / "result.json").read_text())["best"] == expected["best"]


@pytest.mark.slow
def test_two_that_share_experts_being_trained(finished, tmp_path):
    """One trains them, the other waits, and both runs end as one alone does."""
    pair = [
        start(
            *("distill.py", *SMALL, "--out", tmp_path / name),
            *("--experts", tmp_path / "experts", "--wait", "--json"),
        )
        for name in ("a", "b")
    ]
    ended = [process.communicate(timeout=300) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], ended
    errors = [err for _, err in ended]
    assert sum("experts: training" in err for err in errors) == 1
    assert sum(f"waiting for {tmp_path / 'experts'}: process" in err for err in errors) == 1
    expected = json.loads((finished.out / "result.json").read_text())
    for out, _ in ended:
        result = json.loads(out.splitlines()[-1])
        assert result["accuracies"] == expected["accuracies"]
    ours = content(tmp_path / "experts" / "parameters")
    assert ours == content(finished.experts / "parameters")


@pytest.mark.slow
def test_two_that_fill_one_cache_of_programs(finished, tmp_path):
    others = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "JDD_"))}
    env = {**others, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": ""}
    command = ("evaluate.py", finished.out, "--networks", 1, "--epochs", 2, "--json")
    ended = both(*command, env=env)
    ended += both(*command, env=env)
    assert [code for code, _, _ in ended] == [0] * 4, ended
    assert len({tuple(json.loads(out.splitlines()[-1])["accuracies"]) for _, out, _ in ended}) == 1
    assert list((tmp_path / "jdd" / "compiled").glob("*-cache"))


WHITEN = """
import sys, numpy as np
from jdd import preprocessing
images = np.random.default_rng(0).integers(0, 255, (300, 16, 16, 3), dtype=np.uint8)
print(np.asarray(preprocessing.fit("zca", images).zca.whiten).tobytes().hex()[:10000])
"""


DECODE = """
import sys
from jdd import data

found = data.load(f"folder:{sys.argv[1]}")
print(found.fingerprint, found.train.images.tobytes().hex())
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", [WHITEN, DECODE])
def test_two_that_fill_one_cache(tmp_path, script):
    """They get the same numbers, and so does a third, of the files that they leave."""
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(200):
            pixels = np.random.default_rng(i).integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{i}.png")
    env = {**os.environ, "JDD_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", script, str(tmp_path / "pets")]
    pair = [
        subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    assert outputs[0] == outputs[1] and len(outputs[0]) > 1000
    kept = {path: path.stat().st_ino for path in (tmp_path / "cache").iterdir()}
    assert len(kept) == (1 if script == WHITEN else 2)
    third = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert third.stdout == outputs[0]
    assert {path: path.stat().st_ino for path in (tmp_path / "cache").iterdir()} == kept
