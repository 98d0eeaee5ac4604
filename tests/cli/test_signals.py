"""Ctrl-C and SIGTERM: the state is stored, the way on is said, the bits are the same."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from jdd import SyntheticSet
from jdd.cli import distill
from jdd.cli.program import Stopper, run_script
from jdd.errors import Interrupted, UserError
from tests.cli.running import SMALL, call, content, start


def interrupted(sent, once, *arguments):
    """Sends the signal as soon as `once()` holds; the exit code and what was said."""
    process = start("distill.py", *arguments)
    deadline = time.monotonic() + 120
    while not once() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(sent)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


def test_a_run_that_is_interrupted_twice_ends_in_the_same_bits(finished, tmp_path, capfd):
    out, experts = tmp_path / "run", tmp_path / "experts"
    arguments = [*SMALL, "--out", out, "--experts", experts]
    lines = out / "metrics.jsonl"

    code, said = interrupted(
        signal.SIGINT, (experts / "parameters" / "c" / "0" / "1" / "0").exists, *arguments
    )
    assert code == 130, said
    assert "the state is stored, the same command with --resume resumes from it" in said
    assert "Traceback" not in said and not lines.exists()
    assert list((experts / "state").iterdir())

    code, said = interrupted(
        signal.SIGTERM,
        lambda: lines.exists() and lines.read_text().count("loss") >= 2,
        *arguments,
        "--resume",
    )
    assert code == 143, said
    assert "the same command with --resume resumes from it" in said and "Traceback" not in said
    assert not (out / "result.json").exists()

    code, result, _ = call(distill.main, capfd, *arguments, "--resume", "--json")
    assert code == 0 and 0 < result["resumed_from"] < 40
    expected = json.loads((finished.out / "result.json").read_text())
    for name in ("accuracies", "best", "final", "baselines", "dropped_updates"):
        assert result[name] == expected[name]
    assert lines.read_text() == (finished.out / "metrics.jsonl").read_text()
    ours, theirs = SyntheticSet.load(out), SyntheticSet.load(finished.out)
    for name in ("storage", "labels", "learning_rate"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert content(experts / "parameters") == content(finished.experts / "parameters")
    pictures = content(finished.out / "images")
    assert content(out / "images") == pictures


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_asks(capsys, sent, code):
    before = signal.getsignal(sent)

    def patient(stopper):
        assert not stopper()
        signal.raise_signal(sent)
        assert stopper()
        raise Interrupted

    assert run_script(patient, "the same command") == code
    assert "the state is stored, the same command resumes from it" in capsys.readouterr().err
    assert run_script(patient) == code
    assert "stopped: nothing is stored" in capsys.readouterr().err
    assert signal.getsignal(sent) == before


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_stops_at_once(sent, code):
    """In a process of its own, as it ends the process without the interpreter's own way out."""
    program = f"""
import signal
from jdd.cli.program import run_script

def deaf(_):
    signal.raise_signal({int(sent)})
    signal.raise_signal({int(sent)})

run_script(deaf, "the same command")
print("still here")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == code and "still here" not in ended.stdout
    assert "the same command resumes from the last stored state" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_errors_of_users_and_of_files_are_a_line_and_bugs_are_not(capsys):
    def full(_):
        raise OSError(28, "No space left on device", "/there/file")

    def wrong(_):
        raise UserError("do this instead")

    def bug(_):
        raise KeyError("x")

    assert run_script(full) == 2
    assert capsys.readouterr().err == "error: /there/file: No space left on device\n"
    assert run_script(wrong) == 2
    assert capsys.readouterr().err == "error: do this instead\n"
    with pytest.raises(KeyError):
        run_script(bug)
    assert not Stopper()()


@pytest.mark.parametrize("times", [1, 2])
def test_a_dry_run_that_is_interrupted_promises_nothing(tmp_path, monkeypatch, capfd, times):
    """The second signal would end this process: what it says is looked at before that."""
    from jdd.runs import dry_run

    def interrupted_at_once(*_):
        for _ in range(times):
            signal.raise_signal(signal.SIGINT)

    def end(code):
        raise SystemExit(code)

    monkeypatch.setattr(dry_run, "estimate", interrupted_at_once)
    monkeypatch.setattr("os._exit", end)
    monkeypatch.chdir(tmp_path)
    command = ["--method", "dm", "--dataset", "digits", "--preset", "quick", "--dry-run"]
    try:
        code, _, err = call(distill.main, capfd, *command)
    except SystemExit as ended:
        code, err = ended.code, capfd.readouterr().err.splitlines()
    assert code == 130 and not list(tmp_path.iterdir())
    assert err[-1] == ("stopped: nothing is stored" if times == 1 else "stopped at once")
    assert not any("state" in line or "resume" in line for line in err)
