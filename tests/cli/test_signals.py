"""Ctrl-C and SIGTERM: the state is stored, the way on is said, the bits are the same."""

import importlib
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
from tests.cli.running import OLD_RUN, SMALL, call, content, start


def interrupted(sent, once, *arguments):
    """Sends the signal as soon as `once()` holds; the exit code and what was said."""
    process = start("distill.py", *arguments)
    deadline = time.monotonic() + 120
    while not once() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(sent)
    _, err = process.communicate(timeout=120)
    return process.returncode, err


@pytest.mark.slow
def test_a_run_that_is_interrupted_twice_ends_in_the_same_bits(finished, tmp_path, capfd):
    out, experts = tmp_path / "run", tmp_path / "experts"
    arguments = [*SMALL, "--out", out, "--experts", experts]
    lines = out / "metrics.jsonl"

    code, output = interrupted(
        signal.SIGINT, (experts / "parameters" / "c" / "0" / "1" / "0").exists, *arguments
    )
    assert code == 130, output
    assert "the state is stored, the same command with --resume resumes from it" in output
    assert "Traceback" not in output and not lines.exists()
    assert list((experts / "state").iterdir())

    code, output = interrupted(
        signal.SIGTERM,
        lambda: lines.exists() and lines.read_text().count("loss") >= 2,
        *arguments,
        "--resume",
    )
    assert code == 143, output
    assert "the same command with --resume resumes from it" in output and "Traceback" not in output
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

def deaf(stopper):
    stopper()
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


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("distill.py --method dm --dataset digits", "stopped: nothing was begun"),
        ("train_experts.py --dataset digits", "stopped: nothing was begun"),
        ("nas.py RUN", "stopped: nothing was begun"),
        ("evaluate.py RUN", "stopped at once"),
        ("distill.py --method dm --dataset digits --dry-run", "stopped at once"),
    ],
)
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_before_anybody_asks_a_signal_ends_it_at_once(
    tmp_path, monkeypatch, capfd, script, words, sent, code
):
    """In the loading of data; the process would end, so what it says is looked at before that."""

    def interrupted(*_):
        signal.raise_signal(sent)
        pytest.fail("it went on")

    def end(code):
        raise SystemExit(code)

    monkeypatch.setattr("jdd.data.registry.digits.read", interrupted)
    monkeypatch.setattr("os._exit", end)
    monkeypatch.chdir(tmp_path)
    name, *arguments = [str(OLD_RUN) if word == "RUN" else word for word in script.split()]
    main = importlib.import_module(f"jdd.cli.{name.removesuffix('.py')}").main
    with pytest.raises(SystemExit) as ended:
        main([*arguments, *(["--preset", "quick"] if name == "distill.py" else [])])
    assert ended.value.code == code and not list(tmp_path.iterdir())
    assert capfd.readouterr().err.splitlines() == [words]


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_first_second_leaves_nothing(tmp_path, sent):
    """From the interpreter's first instants on: at every twentieth of a second."""
    arguments = [*SMALL, "--out", tmp_path / "run", "--experts", tmp_path / "experts"]
    for moment in range(20):
        process = start("distill.py", *arguments)
        time.sleep(0.05 * moment)
        process.send_signal(sent)
        out, err = process.communicate(timeout=120)
        assert not list(tmp_path.iterdir()) and not out
        if process.returncode == -sent and moment < 4:
            continue  # Python itself, before it has read the script
        assert process.returncode == 128 + sent, err
        assert err in ("", "stopped: nothing was begun\n"), err


def test_a_dry_run_that_is_interrupted_promises_nothing(tmp_path, monkeypatch, capfd):
    """It would end this process: what it says is looked at before that."""
    from jdd.runs import dry_run

    def interrupted_at_once(*_):
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
    assert err == ["stopped at once"]
    assert not any("state" in line or "resume" in line for line in err)
