"""A full disk, and a directory that goes away: a line, exit code 2, all as it was, and then on.

The disk is full where the system lets no file grow beyond a size (RLIMIT_FSIZE): our own files,
TensorStore's and Orbax's alike.
"""

import contextlib
import json
import resource
import shutil

import jax
import numpy as np
import pytest
import sklearn.datasets  # noqa: F401  joblib writes a file when it is first imported
from matplotlib.figure import Figure

from jdd import SyntheticSet, files
from jdd.cli import distill, export, import_published, results, score_difficulty, train_experts
from jdd.errors import UserError
from jdd.experts import ExpertStore
from jdd.interop import pickles
from jdd.report import outcome
from jdd.runs.directory import RunFiles
from tests.cli.running import OLD_RUN, SMALL, call, content
from tests.interop import fakes

# What Orbax's threads leave when a write of theirs fails may be collected while a test runs.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
DIGITS = ["--dataset", "digits", "--preset", "quick", "--width", 8]


@contextlib.contextmanager
def room(size):
    """No file grows beyond `size` bytes; those of compiled programs stay whole for other tests."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    least = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", float("inf"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", least)


def refused(capsys, main, *arguments):
    """Ends with 2 and one line that says what could not be written, and why."""
    code, _, err = call(main, capsys, *arguments)
    assert code == 2, err
    assert err[-1].startswith("error: ") and "Traceback" not in "".join(err)
    assert "cannot be written (" in err[-1] and "File too large" in err[-1], err[-1]
    assert len(err[-1]) < 400


def hidden(base):
    """What is half written, or was left by something that was."""
    names = ("orbax-checkpoint-tmp", "__lock", ".part-", ".new", ".old", ".tmp")
    return [path for path in base.rglob("*") if any(name in path.name for name in names)]


def test_a_line_or_a_file_that_does_not_fit_leaves_what_was_there(tmp_path):
    lines, text = tmp_path / "lines.jsonl", tmp_path / "text"
    files.append_line(lines, {"iteration": 1})
    files.write_text(text, "old")
    before = content(tmp_path)
    with room(30):
        with pytest.raises(UserError, match=r"lines\.jsonl cannot be written \(File too large\)"):
            files.append_line(lines, {"iteration": 2, "loss": 0.123456789})
        with pytest.raises(UserError, match=r"text cannot be written \(File too large\)"):
            files.write_text(text, "new" * 99)
    assert content(tmp_path) == before and not hidden(tmp_path)


@pytest.mark.parametrize("to", ["set.npz", "folder"])
def test_an_export_that_does_not_fit_leaves_nothing(tmp_path, capsys, to):
    with room(400):
        refused(capsys, export.main, OLD_RUN, "--to", tmp_path / to)
    assert not list(tmp_path.iterdir())
    assert call(export.main, capsys, OLD_RUN, "--to", tmp_path / to)[0] == 0


@pytest.mark.parametrize("kind", ["set", "experts"])
def test_an_import_that_does_not_fit_leaves_nothing(tmp_path, capsys, monkeypatch, kind):
    (tmp_path / "theirs").mkdir()
    fakes.frepo(tmp_path / "theirs")
    if kind == "experts":
        monkeypatch.setattr(pickles, "loads", lambda *_: fakes.trajectories(1, 1))
        (tmp_path / "theirs" / "replay_buffer_0.pt").write_bytes(b"PK")
    before, out = content(tmp_path), tmp_path / "out"
    command = [tmp_path / "theirs", "--dataset", "digits", "--preprocessing", "standard"]
    command += ["--width", 8, "--depth", 2, "--out", out]
    with room(400):
        refused(capsys, import_published.main, *command)
    assert content(tmp_path) == before and not hidden(tmp_path) and not out.exists()
    assert call(import_published.main, capsys, *command)[0] == 0


def test_tables_and_a_tasks_files_stay_as_they_were(tmp_path, capsys):
    place = tmp_path / "RESULTS.md"
    place.write_text("old")
    page = "words " * 99
    before = content(tmp_path)
    with room(100):
        refused(capsys, results.main, OLD_RUN, "--out", place)
        with pytest.raises(UserError, match="cannot be written"):
            outcome.save(tmp_path, "cost", {"a": page}, page, Figure())
    assert content(tmp_path) == before and not hidden(tmp_path)


@pytest.mark.parametrize(
    "size", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (200, 2000))]
)
def test_experts_that_do_not_fit_are_trained_once_there_is_room(tmp_path, capsys, size):
    place = tmp_path / "experts"
    command = [*DIGITS, "--experts", place, "--num-experts", 1, "--train-epochs", 4]
    command += ["--max-start-epoch", 1, "--expert-epochs", 1]
    with room(size):
        refused(capsys, train_experts.main, *command)
    assert not hidden(tmp_path)
    code, result, err = call(train_experts.main, capsys, *command, "--json")
    assert code == 0, err
    store = ExpertStore.open(place)
    assert store.complete == result["num_experts"] == 1
    assert np.isfinite(store.read(0, 4)["classifier"]["kernel"]).all()


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 500, 4000])
def test_a_run_that_does_not_fit_stays_as_it_was_and_resumes(
    finished, tmp_path, capsys, monkeypatch, size
):
    run = shutil.copytree(finished.out, tmp_path / "run")
    more = [*SMALL, "--out", run, "--experts", finished.experts, "--iterations", 60, "--resume"]
    kept = {name: content(run / name) for name in ("synthetic", "last")}
    result = (run / "result.json").read_bytes()
    with room(size):
        refused(capsys, distill.main, *more)
    assert not hidden(tmp_path)
    changed = {name: content(run / name) for name in kept} != kept
    # A set that is better takes the place of the other whole, and the result that was of that goes.
    assert changed or (run / "result.json").read_bytes() == result
    assert np.isfinite(SyntheticSet.load(run).images).all()
    code, resumed, err = call(distill.main, capsys, *more, "--json")
    assert code == 0, err
    whole = tmp_path / "whole"
    code, expected, _ = call(
        *(distill.main, capsys, *SMALL, "--out", whole, "--experts", finished.experts),
        *("--iterations", 60, "--json"),
    )
    assert code == 0 and resumed["accuracies"] == expected["accuracies"]
    assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_scores_that_do_not_fit_are_made_again(tmp_path, capsys):
    command = [*DIGITS[:-2], "--out", tmp_path / "scores", "--score", "el2n", "--score-epochs", 1]
    with room(1000):
        refused(capsys, score_difficulty.main, *command)
    assert not hidden(tmp_path)
    assert call(score_difficulty.main, capsys, *command)[0] == 0


@pytest.mark.parametrize(
    "moment",
    ["save", *(pytest.param(name, marks=pytest.mark.slow) for name in ("updated", "evaluated"))],
)
def test_a_run_whose_directory_goes_away_ends_with_a_line(
    finished, tmp_path, capsys, monkeypatch, moment
):
    """Nor is half of one made in its place."""
    run = shutil.copytree(finished.out, tmp_path / "run")
    original = getattr(RunFiles, moment)

    def gone(self, *arguments):
        shutil.rmtree(run, ignore_errors=True)  # the loop tries to store what it has, too
        return original(self, *arguments)

    monkeypatch.setattr(RunFiles, moment, gone)
    more = [*SMALL, "--out", run, "--experts", finished.experts, "--iterations", 41, "--resume"]
    code, _, err = call(distill.main, capsys, *more)
    assert code == 2 and err[-1] == f"error: {run} has gone: another process moved or removed it"
    assert not run.exists()


def test_experts_whose_directory_goes_away_end_with_a_line(tmp_path, capsys, monkeypatch):
    place = tmp_path / "experts"
    original = ExpertStore.write

    def gone(self, expert, epoch, params):
        if epoch == 2:
            shutil.rmtree(place)
        return original(self, expert, epoch, params)

    monkeypatch.setattr(ExpertStore, "write", gone)
    command = [*DIGITS, "--experts", place, "--num-experts", 1, "--train-epochs", 4]
    command += ["--max-start-epoch", 1, "--expert-epochs", 1]
    code, _, err = call(train_experts.main, capsys, *command)
    assert code == 2 and str(place) in err[-1] and "has gone" in err[-1]
    assert not place.exists()


def test_results_of_an_earlier_run_go_only_when_its_set_does(finished, tmp_path):
    """`claim` and the first updates leave them."""
    run = shutil.copytree(finished.out, tmp_path / "run")
    watched = RunFiles(run)
    watched.updated(41, 60, [{"loss": 1.0, "dropped": 0}])
    watched.evaluated(41, SyntheticSet.load(run), 0.1, False)
    assert (run / "result.json").exists()
    watched.evaluated(41, SyntheticSet.load(run), 0.9, True)
    assert not (run / "result.json").exists()
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["iteration"] == 41
