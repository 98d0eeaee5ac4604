"""Pages of runs: what they say, that they need no network, and, in a browser, that they work."""

import html
import json
import re
import shutil
import subprocess

import pytest
from PIL import Image

from jdd import files
from jdd.cli import report
from jdd.errors import UserError
from jdd.report import charts, web
from jdd.report.charts import Point
from jdd.runs import RunResult
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
    code, found, _ = call(report.main, capfd, run, "--json")
    assert code == 0 and found["path"] == str(run / "report.html")
    text = (run / "report.html").read_text()
    result = RunResult.load(run / "result.json")
    assert str(result.best.accuracy) in text and "with &lt;b&gt; &amp; co" in text
    assert not re.search(r"(src|href)\s*=\s*.?(https?:)?//", text)  # one file, no network
    (frames,) = re.findall(r"const frames = (.*);", text)
    words = [frame["words"] for frame in json.loads(frames)]
    assert words[1] == "iteration 10: 10.0 % on validation" and len(words) == 3
    points = re.findall(r'<polyline class="line" points="([^"]*)"', text)
    assert [len(line.split()) for line in points] == [4, 30]
    rows = re.findall(r"<tr><td>(\w+)</td><td>([^<]*)</td><td class=\"soft\">([^<]*)", text)
    origins = {name: origin for name, _, origin in rows}
    assert origins["ipc"] == origins["eval_random"] == origins["lr_img"] == "command line"
    assert origins["mom_img"] == "default" and origins["iterations"].startswith("preset")
    assert html.escape(result.command) in text


def test_several_runs_on_a_page(run, capfd, tmp_path):
    out = tmp_path / "all.html"
    code, _, _ = call(report.main, capfd, run, OLD_RUN, "--out", out)
    assert code == 0
    text = out.read_text()
    assert text.count("<tr>") == 3 and "2 runs" in text
    assert len(re.findall(r'data-sort="1281"', text)) == 1


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


def browsed(page, script, tmp_path):
    """The page's text after a script, in a browser; no message on its console."""
    copy = tmp_path / "copy.html"
    copy.write_text(page.read_text().replace("</body>", f"<script>{script}</script></body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    found = subprocess.run(
        [CHROMIUM, *flags, f"file://{copy}"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "CONSOLE" not in found.stderr, found.stderr
    return found.stdout


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
    results = []
    for ipc in (3, 20, 1):
        value = files.read_json(run / "result.json") | {"ipc": ipc}
        results.append(RunResult.from_json(value))
    page = web.write_several(results, tmp_path / "all.html")
    click = 'heads[2].querySelector("button").click();'
    for clicks, wanted in ((0, "3 20 1"), (1, "1 3 20"), (2, "20 3 1")):
        text = browsed(page, click * clicks, tmp_path)
        cells = re.findall(r'<tr><td.*?</td><td.*?</td><td class="number" data-sort="(\d+)"', text)
        assert " ".join(cells) == wanted
        assert ('aria-sort="' in text.split("<script>")[0]) == (clicks > 0)
