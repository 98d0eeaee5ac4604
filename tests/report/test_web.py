"""Pages of runs: what they say, that they need no network, and, in a browser, that they work."""

import dataclasses
import html
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jdd import data, files
from jdd.cli import report
from jdd.errors import UserError
from jdd.report import charts, results, several, web
from jdd.report.charts import Point
from jdd.report.origins import origins
from jdd.runs import RunResult, Selection
from jdd.runs.settings import build
from tests.cli.running import OLD_RUN, call

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def run(tmp_path):
    """A finished run's result, metrics and pictures, as a run leaves them."""
    value = files.read_json(OLD_RUN / "result.json")
    looks = [{"iteration": 10 * i, "seconds": 5.0 * i, "accuracy": 0.1 * i} for i in range(4)]
    value |= {
        "curve": looks,
        "storage": {"numbers": 1281, "images": 20},
        "command": "python bin/distill.py --method mtt --ipc 2 --no-eval-random --lr-img=7",
        "note": "with <b> & co",
    }
    out = tmp_path / "run"
    (out / "images").mkdir(parents=True)
    (out / "result.json").write_text(json.dumps(value))
    shutil.copy(OLD_RUN / "settings.json", out)
    lines = [json.dumps({"iteration": i, "loss": 1 / i}) for i in range(1, 31)]
    (out / "metrics.jsonl").write_text("\n".join([*lines[:5], '{"iterat', "7", *lines[5:]]))
    for name in ("000000", "000010", "best", "start-and-best"):
        Image.new("L", (40, 20), 90 if name == "best" else 30).save(out / "images" / f"{name}.png")
    return out


def test_a_run_s_page(run, capfd):
    code, printed, _ = call(report.main, capfd, run, "--json")
    assert code == 0 and printed["path"] == str(run / "report.html")
    text = (run / "report.html").read_text()
    result = RunResult.load(run / "result.json")
    assert str(result.best.accuracy) in text and "with &lt;b&gt; &amp; co" in text
    assert not re.search(r"(src|href)\s*=\s*.?(https?:)?//", text)  # one file, no network
    (frames,) = re.findall(r"const frames = (.*);", text)
    words = [frame["words"] for frame in json.loads(frames)]
    assert words[1] == "iteration 10: 10.0 % on validation" and len(words) == 3
    points = re.findall(r'<polyline class="line" points="([^"]*)"', text)
    assert [len(line.split()) for line in points] == [4, 30]
    rows = re.findall(
        r"<tr><td>(\w+)</td><td class=\"value\">([^<]*)</td><td class=\"soft\">([^<]*)", text
    )
    origins = {name: origin for name, _, origin in rows}
    assert origins["ipc"] == origins["eval_random"] == origins["lr_img"] == "command line"
    assert origins["mom_img"] == "default" and origins["iterations"].startswith("preset")
    assert not {"preset", "version", "command", "fingerprint", "places"} & set(origins)
    assert commands_in(run / "report.html")[0].startswith(f"{result.command} --out ")
    assert "2 fresh networks" in text


def commands_in(page):
    """The commands that a page shows."""
    blocks = re.findall(r"<pre[^>]*>(.*?)</pre>", page.read_text(), re.DOTALL)
    return [html.unescape(re.sub("</?span>", "", command)) for command in blocks]


def commands_of(page):
    """The words of the page's commands, by the name of their script."""
    words = [shlex.split(command) for command in commands_in(page) if command.startswith("python")]
    return {Path(each[1]).stem: each for each in words}


def test_commands_hold_where_the_page_is_written(run, tmp_path, monkeypatch):
    stored = files.read_json(run / "settings.json")
    stored["places"] = {"data_dir": "/of/my own", "experts": "/of/experts"}
    (run / "settings.json").write_text(json.dumps(stored))
    monkeypatch.chdir(tmp_path)
    commands = commands_of(web.write_run(Path("run")))
    assert commands.keys() == {"distill", "evaluate", "export"}
    assert all(Path(words[1]).is_file() for words in commands.values())
    places = ["--data-dir", "/of/my own"]
    assert commands["distill"][-6:] == [*places, "--experts", "/of/experts", "--out", "run-again"]
    assert commands["evaluate"][2:] == ["run", "--networks", "10", *places]
    assert commands["export"][2:] == ["run", "--to", "set.npz", *places]


def test_settings_of_own_data_are_borrowed(run, tmp_path):
    rng = np.random.default_rng(0)
    values = {
        "images": rng.integers(0, 256, (60, 8, 8, 1), np.uint8),
        "labels": np.arange(60) % 3,
        "class_names": np.array(["a", "b", "c"]),
    }
    np.savez(tmp_path / "own.npz", **values)
    selection = Selection("dm", "arrays:own.npz")
    settings = build(selection, {"mom_img": 0.25}, data.traits(selection.dataset, tmp_path))
    result = dataclasses.replace(
        RunResult.load(run / "result.json"),
        **{name: selection._asdict()[name] for name in ("method", "dataset", "ipc", "preset")},
        note=settings.note,
        command="python bin/distill.py --method dm --mom-img 0.25",
    )
    for place in (tmp_path, tmp_path / "gone"):  # where data are gone, the note has to do
        stored = settings.to_json() | {"places": {"data_dir": str(place)}}
        by_name = {each.name: (each.value, each.origin) for each in origins(stored, result)}
        borrowed = "preset quick, borrowed"
        assert by_name["depth"] == (2, borrowed) and by_name["batch_real"][1] == borrowed
        assert by_name["dataset"][1] == by_name["mom_img"][1] == "command line"
        assert by_name["seed"] == (0, "default") and by_name["dsa"] == (True, "default")
        assert "num_experts" not in by_name


def test_a_coreset_s_page_shows_no_course(run):
    value = files.read_json(run / "result.json")
    value |= {"method": "random", "is_coreset": True, "iterations": 0, "curve": value["curve"][:1]}
    value["best"]["accuracies"] = value["best"]["accuracies"][:1]
    (run / "result.json").write_text(json.dumps(value))
    (run / "metrics.jsonl").unlink()
    text = web.write_run(run).read_text()
    assert "<h2>The set</h2>" in text and "1 fresh network (" in text
    assert "<svg" not in text and "<script" not in text and "choosing the images" in text


def test_several_runs_on_a_page(run, capfd, tmp_path):
    value = files.read_json(run / "result.json")
    worse = {**value["best"], "accuracies": [0.5, 0.6]}
    others = {
        "coefficients": {"dataset": "mnist", "storage": {"numbers": 1300, "decoder": "dct"}},
        "unknown": {"method": "frepo", "storage": {}, "best": worse},
    }
    for name, changes in others.items():
        (tmp_path / name).write_text(json.dumps(value | changes))
    out = tmp_path / "all.html"
    places = (run, OLD_RUN, *(tmp_path / name for name in others), "digits/dm-ipc1")
    code, _, _ = call(report.main, capfd, *places, "--out", out)
    assert code == 0
    text = out.read_text()
    assert text.count("<tr>") == 6 and "5 runs" in text
    numbers = re.findall(r'data-sort="(\d+)">(?:[\d,]+|–)</td></tr>', text)
    assert numbers == ["1281", "1281", "1300", "0", "640"]  # the second's are computed
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["digits", "mnist", "Runs", "Commands"]
    digits, mnist = text.split("<h2>")[1:3]
    assert "Not in the chart of numbers stored, as the result does not say them: run 4." in digits
    assert digits.count("<circle") == 7 and mnist.count("<circle") == 2
    names = r'<text class="name"[^>]*>([^<]*)'
    assert set(re.findall(names, digits)) == {"mtt, ipc 2", "frepo, ipc 2", "dm, ipc 1"}
    assert re.findall(names, mnist) == ["mtt, dct"] * 2
    old = files.read_json(OLD_RUN / "result.json")["command"]
    assert commands_in(out)[:4] == [value["command"], old, *[value["command"]] * 2]


def test_what_older_results_store_is_computed_where_it_is_sure(run):
    old = RunResult.load(OLD_RUN / "result.json")
    dm = dataclasses.replace(old, method="dm")
    assert not old.storage and results.stored(old) == 2 * 10 * 8 * 8 + 1  # and the step size
    assert results.stored(dm) == 2 * 10 * 8 * 8
    assert results.stored(dataclasses.replace(dm, dataset="cifar10")) == 2 * 10 * 32 * 32 * 3
    for unsure in (
        {"method": "frepo"},
        {"dataset": "folder:pets"},
        {"init": "checkpoints/a"},
        {"command": f"{dm.command} --factor 2"},
        {"command": ""},
    ):
        assert results.stored(dataclasses.replace(dm, **unsure)) is None
    assert results.stored(RunResult.load(run / "result.json")) == 1281  # as it says itself


def test_a_ready_set_has_no_page_of_its_own(capfd):
    code, _, err = call(report.main, capfd, "digits/dm-ipc1")
    assert code == 2 and "is a ready set: name a run, or several" in err[0]


def test_an_unfinished_run_is_refused(tmp_path, capfd):
    code, _, err = call(report.main, capfd, tmp_path)
    assert code == 2 and "holds no result.json" in err[0]
    with pytest.raises(UserError):
        web.write_run(tmp_path)


def test_places_on_a_chart():
    line = charts.chart([Point(0, 10), Point(5, 30), Point(10, 20)], "x", "y")
    assert [p.x for p in line.points] == sorted(p.x for p in line.points)
    assert line.points[1].y < line.points[2].y < line.points[0].y  # up is towards 0
    assert [tick.text for tick in line.y_ticks] == ["10", "15", "20", "25", "30"]
    assert [tick.text for tick in line.x_ticks] == ["0", "5", "10"]
    decades = charts.chart([Point(0, 1), Point(1, 1), Point(1000, 2)], "x", "y", logarithmic=True)
    assert len(decades.points) == 2  # zero has no place
    assert [t.text for t in decades.x_ticks] == ["1", "3", "10", "30", "100", "300", "1,000"]
    narrow = charts.chart([Point(17, 1), Point(21, 2)], "x", "y", logarithmic=True)
    assert [tick.text for tick in narrow.x_ticks] == ["17", "18", "19", "20", "21"]
    assert charts.chart([Point(float("nan"), 1)], "x", "y") is None


def test_names_on_a_chart_do_not_overlap():
    points = [Point(x, y, name="dm, factor 2") for x in (0, 1, 100) for y in (0, 1, 100)]
    names = charts.chart(points, "x", "y").names
    assert 3 < len(names) < 9  # of three dots in a heap, no more than there is room for
    boxes = [charts._box(name) for name in names]
    assert all(one is two or not charts._overlap(one, two) for one in boxes for two in boxes)
    alone = charts.chart([Point(0, 0), Point(1, 1, name="right")], "x", "y")
    assert [name.anchor for name in alone.names] == ["end"]  # to the left, where the edge is near


def browsed(page, script, tmp_path):
    """The page's text after a script, in a browser; no message on its console."""
    copy = tmp_path / "copy.html"
    copy.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    completed = subprocess.run(
        [CHROMIUM, *flags, f"file://{copy}"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "CONSOLE" not in completed.stderr, completed.stderr
    return completed.stdout


@pytest.mark.pages
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_the_slider_shows_the_set_as_it_was(run, tmp_path):
    page = web.write_run(run)
    moved = browsed(page, 'which.value = 1; which.dispatchEvent(new Event("input"));', tmp_path)
    assert '<label for="which" id="words" class="under">iteration 10: 10.0 %' in moved
    before = browsed(page, "", tmp_path)
    image = r'id="frame" src="([^"]*)"'
    assert re.search(image, moved)[1] != re.search(image, before)[1]


@pytest.mark.pages
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_head_sorts_the_table(run, tmp_path):
    runs = []
    for ipc in (3, 20, 1):
        value = files.read_json(run / "result.json") | {"ipc": ipc}
        runs.append(RunResult.from_json(value))
    page = several.write_several(runs, tmp_path / "all.html")
    click = 'heads[3].querySelector("button").click();'
    for clicks, wanted in ((0, "3 20 1"), (1, "1 3 20"), (2, "20 3 1")):
        text = browsed(page, click * clicks, tmp_path)
        cells = re.findall(r'<tr>(?:<td.*?</td>){3}<td class="number" data-sort="(\d+)"', text)
        assert " ".join(cells) == wanted
        assert ('aria-sort="' in text.split("<script>")[0]) == (clicks > 0)
