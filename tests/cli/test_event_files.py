"""Event files of a run, as TensorBoard reads them."""

import resource
import shutil
import sys

import pytest
from PIL import Image

from jdd.cli import distill
from jdd.errors import Interrupted, UserError
from tests.cli.event_files import values
from tests.cli.running import SMALL, call
from tests.toy import go, rows


@pytest.fixture
def board():
    from jdd.runs.tensorboard import TensorBoard

    return TensorBoard


@pytest.mark.parametrize("stop_at", [3, 7])
def test_a_run_that_resumes_has_no_step_twice(tmp_path, board, stop_at):
    """Stopped, and resumed from a state that is behind what the first command told of."""
    asked = []

    def stop():
        asked.append(True)
        return len(asked) == stop_at

    with pytest.raises(Interrupted):
        go(tmp_path, listener=board(None, tmp_path), should_stop=stop)
    newest = max((tmp_path / "state").iterdir(), key=lambda path: path.name)
    if stop_at == 7:
        shutil.rmtree(newest)
    go(tmp_path, listener=board(None, tmp_path))
    lines = rows(tmp_path)
    losses = [(row["iteration"], pytest.approx(row["loss"])) for row in lines if "loss" in row]
    looks = [(row["iteration"], row["validation_accuracy"]) for row in lines if "loss" not in row]
    assert [step for step, _ in losses] == list(range(1, 12)) and len(looks) == 4
    assert values(tmp_path / "tensorboard", "loss") == losses
    accuracies = values(tmp_path / "tensorboard", "validation_accuracy")
    assert accuracies == [(step, pytest.approx(accuracy)) for step, accuracy in looks]


def test_pictures_are_in_it_and_what_is_no_number_is_not(tmp_path, board):
    (tmp_path / "images").mkdir()
    Image.new("L", (30, 20)).save(tmp_path / "images" / "000004.png")
    (tmp_path / "images" / "000008.png").write_bytes(b"damaged")
    listener = board(None, tmp_path)
    listener.began(0, 8)
    listener.updated(2, 8, [{"loss": float("nan"), "rate": 1.0}, {"loss": 2.0, "rate": 3.0}])
    listener.evaluated(4, None, 0.5, True)
    listener.evaluated(8, None, float("nan"), False)
    listener.ended(None)
    ((step, picture),) = values(tmp_path / "tensorboard", "set")
    assert (step, picture.width, picture.height, picture.colorspace) == (4, 30, 20, 1)
    assert values(tmp_path / "tensorboard", "loss") == [(2, 2.0)]
    assert values(tmp_path / "tensorboard", "rate") == [(1, 1.0), (2, 3.0)]
    assert values(tmp_path / "tensorboard", "validation_accuracy") == [(4, 0.5)]


def test_a_full_disk_is_a_line(tmp_path, board):
    listener = board(None, tmp_path)
    listener.began(0, 8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(UserError, match=r"tensorboard cannot be written \(File too large\)"):
            listener.evaluated(4, None, 0.5, True)
            for step in range(100):
                listener.updated(step, 100, [{"loss": 1.0}])
            listener.save(None)
        with pytest.raises(UserError, match="cannot be written"):
            listener.ended(None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_in_its_place_is_a_line(tmp_path, board):
    (tmp_path / "tensorboard").write_text("mine")
    with pytest.raises(UserError, match=r"tensorboard cannot be written \(File exists\)"):
        board(None, tmp_path).began(0, 8)


def test_without_the_package_it_is_a_line_and_nothing_is_written(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.delitem(sys.modules, "jdd.runs.tensorboard", raising=False)
    out = tmp_path / "run"
    code, _, err = call(distill.main, capfd, *SMALL, "--out", out, "--tensorboard")
    assert code == 2 and len(err) == 1 and "pip install tensorboardX" in err[0]
    assert not out.exists()
