"""The runs behind the table: listed with the time to expect, made once, kept, and drawn."""

import json
from dataclasses import replace

import pytest
from PIL import Image

from jdd import files
from jdd.cli import distill, measure_methods, results
from jdd.report import curves
from jdd.runs import RunResult
from jdd.tasks import table
from jdd.training import Accuracy
from tests.cli.running import OLD_RUN, call

_RC = {0: "done"}  # another exit code is a KeyError


def test_seed_0_of_everything_comes_first_and_random_has_five_draws():
    cells = table.cells(["digits", "mnist"], ["dm", "random"], [1, 10], 2)
    assert [cell.seed for cell in cells if cell.method == "dm"] == [0] * 4 + [1] * 4
    draws = [cell.seed for cell in cells if cell[:3] == ("digits", "random", 10)]
    assert draws == [0, 1, 2, 3, 4]
    assert len(set(cells)) == len(cells) == 8 + 20
    assert {cell.seed for cell in cells[: 4 + 20]} == {0, 1, 2, 3, 4}
    assert all(cell.method == "dm" for cell in cells[24:])


def test_what_takes_two_cores_many_hours_is_left_to_accelerators(tmp_path, capfd):
    arguments = ["--dataset", "cifar10", "--ipc", "10", "--keep", tmp_path, "--list"]
    for preset, count in (("quick", 2), ("paper", 0)):
        assert measure_methods.main([*map(str, arguments), "--preset", preset]) == 0
        assert capfd.readouterr().out.count("for an accelerator") == count


def test_runs_are_made_once_and_kept(tmp_path, capfd, monkeypatch):
    scripts = {"distill": distill.main}
    monkeypatch.setattr(table, "run_as_process", lambda name, words, _: _RC[scripts[name](words)])
    monkeypatch.setattr(table, "DRAWS", 2)
    small = ["--width", "8", "--eval-epochs", "5", "--feature-epochs", "1"]
    made = table.arguments

    def few(cell, preset):
        return [*made(cell, preset), *small[: 4 if cell.method == "random" else 6]]

    monkeypatch.setattr(table, "arguments", few)
    out, keep = tmp_path / "runs", tmp_path / "kept"
    arguments = ["--dataset", "digits", "--methods", "random,herding", "--ipc", "1", "--out", out]
    arguments += ["--keep", keep, "--seeds", "1", "--preset", "quick"]
    code, result, _ = call(measure_methods.main, capfd, *arguments, "--json")
    names = [f"digits/random-ipc1-seed{seed}" for seed in range(2)] + ["digits/herding-ipc1-seed0"]
    assert code == 0 and result["runs"] == dict.fromkeys(names, "done")
    stamps = {name: (out / name / "result.json").stat().st_mtime_ns for name in names}

    code, _, _ = call(measure_methods.main, capfd, *arguments, "--json")
    assert code == 0
    assert stamps == {name: (out / name / "result.json").stat().st_mtime_ns for name in names}
    assert measure_methods.main([*map(str, arguments), "--list"]) == 0
    listed = capfd.readouterr().out
    code, result, _ = call(measure_methods.main, capfd, *arguments, "--list", "--json")
    assert code == 0 and len(result["runs"]) == 3
    assert "2 × 0." in listed and "not measured" not in listed and "3 runs" in listed

    kept = [RunResult.load(keep / name / "result.json") for name in names]
    assert all(run.plain is not None and run.out == "" for run in kept)
    assert [run.full_data is None for run in kept] == [False, True, True]
    page = tmp_path / "RESULTS.md"
    assert results.main([str(keep), "--out", str(page)]) == 0
    rows = [line.split("|") for line in page.read_text().splitlines() if "|" in line]
    (row,) = [row for row in rows if row[2].strip() == "random"]
    assert "(2 × 5)" in row[4] and "± " in row[5]


def test_a_further_seed_waits_for_a_fast_first_one(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "run_as_process", lambda *_: "failed")
    cells = [table.Cell("digits", "dm", 1, 0), table.Cell("digits", "dm", 1, 1)]
    told = []
    outcomes = table.run_all(cells, tmp_path, tmp_path, "quick", [], lambda: False, told.append)
    assert outcomes == ["failed", "left"] and len(told) == 1
    value = {**files.read_json(OLD_RUN / "result.json"), "seconds": 9.0, "expert_seconds": 590.0}
    value["curve"] = [{"iteration": 1, "seconds": 20.0, "accuracy": 0.5}]  # then it was resumed
    (tmp_path / cells[0].place).mkdir(parents=True)
    files.write_json(tmp_path / cells[0].place / "result.json", value)
    outcomes = table.run_all(cells, tmp_path, tmp_path, "quick", [], lambda: False, told.append)
    assert outcomes == ["failed", "slow"]


@pytest.fixture
def drawn(tmp_path):
    """A run's result with a curve, as a run leaves it."""
    value = files.read_json(OLD_RUN / "result.json")
    looks = [{"iteration": 10 * i, "seconds": 5.0 * i, "accuracy": 0.1 * i} for i in range(4)]
    value |= {"curve": looks, "expert_seconds": 60.0, "method": "mtt", "init": "real"}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "result.json").write_text(json.dumps(value))
    return tmp_path


def test_accuracy_is_drawn_against_time_with_the_peers_alongside(drawn, capfd):
    run = RunResult.load(drawn / "run" / "result.json")
    assert run.minutes == pytest.approx(75 / 60)
    never_evaluated = replace(run, curve=(), distilling_seconds=30.0)
    assert never_evaluated.minutes == pytest.approx(90 / 60)
    oldest = replace(never_evaluated, distilling_seconds=0.0)
    assert oldest.minutes == pytest.approx(run.seconds / 60)
    peer = drawn / "benchmark.json"
    case = f"mtt-{run.dataset}-ipc10"
    peer.write_text(json.dumps({"cases": {case: {"peer": {"ratio": 2.5}}}}))
    arguments = [drawn / "run", "--out", drawn / "page.md", "--pictures", drawn / "pictures"]
    sizes = []
    for more in ([], ["--peer", peer]):
        code, result, _ = call(results.main, capfd, *arguments, *more, "--json")
        (path,) = result["pictures"]
        assert code == 0 and path.endswith(f"accuracy-{run.dataset}-ipc{run.ipc}.png")
        sizes.append(Image.open(path).tobytes())
    assert sizes[0] != sizes[1]
    run = files.read_json(drawn / "run" / "result.json")
    for place in ("/data/my pets", "/more/my pets"):
        (drawn / place[1:5]).mkdir()
        of_place = {**run, "dataset": f"folder:{place}"}
        files.write_json(drawn / place[1:5] / "result.json", of_place)
    places = [drawn / "data", drawn / "more"]
    code, result, _ = call(results.main, capfd, *places, *arguments[1:], "--json")
    assert [path.rpartition("/")[2] for path in result["pictures"]] == [
        "accuracy-folder-my pets-ipc2.png",
        "accuracy-folder-my pets-ipc2.2.png",
    ]
    peer.write_text('{"cases": 3}')
    code, _, err = call(results.main, capfd, *arguments, "--peer", peer)
    assert code == 2 and "is not what" in err[-1]


def test_a_set_that_stores_more_has_its_methods_peer(drawn):
    """Its line is at PyTorch's speed too, and where the peer has no such method there is none."""
    run = RunResult.load(drawn / "run" / "result.json")
    smaller = replace(run, storage={"factor": 2})
    (axes,) = curves.picture([smaller], {"mtt": 2.5, "dc": 9.0}).axes
    ours, theirs = axes.lines
    assert theirs.get_xdata() == pytest.approx([2.5 * x for x in ours.get_xdata()])
    assert axes.get_title().endswith("(time × 2.5)")
    (axes,) = curves.picture([smaller], {"dc": 9.0}).axes
    assert len(axes.lines) == 1 and "PyTorch" not in axes.get_title()


def test_methods_are_drawn_against_storage_and_minutes(drawn, capfd):
    """A point for each number of images per class; of an unknown storage by its minutes alone."""
    value = files.read_json(drawn / "run" / "result.json")
    runs = []
    for ipc, accuracy in ((1, 0.9), (10, 0.96)):
        more = {"dataset": "mnist", "ipc": ipc, "storage": {"numbers": 7850 * ipc}}
        run = RunResult.from_json({**value, **more})
        best = replace(run.best, accuracy=Accuracy((accuracy,)))
        runs.append(replace(run, best=best))
    stored, minutes = curves.choice(runs).axes
    (line,) = stored.lines
    assert line.get_xydata().tolist() == [[7850, 90], [78500, 96]]
    assert minutes.lines[0].get_xdata() == pytest.approx([run.minutes for run in runs])
    unknown = RunResult.from_json({**value, "method": "pad"})  # its labels may be soft
    stored, minutes = curves.choice([unknown]).axes
    assert not stored.lines and len(minutes.lines) == 1
    assert curves.choice([]) is None
    (drawn / "run" / "result.json").write_text(json.dumps({**value, **more}))
    pictures = drawn / "pictures"
    arguments = [drawn / "run", "--out", drawn / "page.md", "--pictures", pictures, "--json"]
    code, result, _ = call(results.main, capfd, *arguments)
    assert code == 0 and result["pictures"][-1] == str(pictures / "methods.png")
