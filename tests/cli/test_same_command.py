"""The command that a run stores, and the one that resumes it."""

import shlex

from jdd.cli import distill, selection
from tests.cli.running import call

FEW = shlex.split(
    "--method dm --dataset digits --preset quick --width 4 --depth 1 --eval-epochs 1 "
    "--eval-networks 1 --full-data-epochs 0 --batch-real 4 --iterations 1 --no-eval-random --json"
)


def test_a_command_names_every_plugin_and_of_other_flags_the_last():
    several = shlex.split("--method mine --plugin a.py --width 3 --plugin b.py --plugin=c.py")
    made = selection.command([*several, "--width", "4", "--plugin", "a.py"], "quick")
    assert made == (
        "python bin/distill.py --method mine --plugin a.py --width 4 --plugin b.py --plugin=c.py "
        "--preset quick"
    )


def test_a_run_begun_in_python_has_no_command():
    assert selection.command(["--resume", "--out", "runs/x"], "quick", "") == ""


def test_a_run_that_a_stored_set_tells_its_size_is_found_again(tmp_path, monkeypatch, capfd):
    """By the same command, though another run has the place of one image per class."""
    monkeypatch.chdir(tmp_path)
    assert call(distill.main, capfd, *FEW, "--ipc", "1", "--lr-img", "7")[0] == 0
    assert call(distill.main, capfd, *FEW, "--ipc", "2", "--out", "two")[0] == 0
    code, made, _ = call(distill.main, capfd, *FEW, "--init", "two")
    assert code == 0 and made["out"].endswith("dm-ipc2-seed0")
    assert call(distill.main, capfd, *FEW, "--init", "two", "--resume")[:2] == (0, made)
