"""What is compiled for TPUs and GPUs does not grow beyond what is stored in docs/dev/forecasts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STORED = sorted((ROOT / "docs" / "dev" / "forecasts").glob("*.json"))
MEMORY = 1.02  # of another version of a compiler: two hundredths
LONGEST = 120  # seconds of processor time; what takes longer to compile is kept as a record


def test_each_is_stored_with_the_flags_that_made_it():
    assert STORED
    for path in STORED:
        result = json.loads(path.read_text())
        assert result["flags"][:2] == ["--target", result["target"]], path.name
        for program in result["programs"]:
            assert program["bytes"]["peak"] <= result["memory"]
            assert not program["host_round_trips"], f"{path.name}: {program['program']}"


def compiled_soon(path):
    programs = json.loads(path.read_text())["programs"]
    return sum(program["compile_processor_seconds"] for program in programs) < LONGEST


@pytest.mark.accelerators
@pytest.mark.parametrize("path", [*filter(compiled_soon, STORED)], ids=lambda path: path.stem)
def test_it_has_not_grown(path, tmp_path):
    stored = json.loads(path.read_text())
    out = tmp_path / path.name
    command = [sys.executable, "bin/forecast.py", *stored["flags"], "--out", str(out)]
    # A process each: a compiler is given up with all that it holds.
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=dict(os.environ))
    assert run.returncode == 0, run.stderr
    programs = json.loads(out.read_text())["programs"]
    assert [p["program"] for p in programs] == [p["program"] for p in stored["programs"]]
    for now, before in zip(programs, stored["programs"], strict=True):
        assert now["bytes"]["peak"] <= MEMORY * before["bytes"]["peak"]
        launched = [p["kernels"] + p["library_calls"] for p in (now, before)]
        assert launched[0] <= launched[1]
        assert now["host_round_trips"] <= before["host_round_trips"]
        assert set(now["collectives"]) <= set(before["collectives"])
        for kind, exchange in now["collectives"].items():
            assert exchange["count"] <= before["collectives"][kind]["count"]
            assert exchange["bytes"] <= before["collectives"][kind]["bytes"]
