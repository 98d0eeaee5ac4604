"""The table of results: what each cell comes from, and runs of methods without experts."""

import dataclasses
import json

import pytest

from jdd import SyntheticSet
from jdd.cli import distill, evaluate, results
from jdd.report.results import _recipe, find, grouped
from jdd.runs import RunResult
from jdd.training import Recipe
from tests.cli.running import OLD_RUN, PROMISED, call

FEW = ["--dataset", "digits", "--preset", "quick", "--width", "8", "--eval-epochs", "10"]
FEW += ["--eval-networks", "2", "--full-data-epochs", "0"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    base = tmp_path_factory.mktemp("runs")
    few = [*FEW, "--out", str(base / "dm"), "--iterations", "4", "--batch-real", "9"]
    assert distill.main(["--method", "dm", *few]) == 0
    assert distill.main(["--method", "random", *FEW, f"--out={base / 'random'}", "--json"]) == 0
    return base


def stored(runs, name):
    return json.loads((runs / name / "result.json").read_text())


def test_methods_without_experts_leave_what_the_others_do(runs):
    result = stored(runs, "dm")
    assert result.keys() >= PROMISED and result["iterations"] == 4
    assert not (runs / "experts").exists()
    assert result["command"] == " ".join(
        ["python bin/distill.py --method dm", *FEW, "--iterations 4 --batch-real 9"]
    )
    assert "JAX" in result["machine"]
    result = stored(runs, "random")
    assert (result["iterations"], result["best"]["iteration"]) == (0, 0)
    assert result["command"] == " ".join(["python bin/distill.py --method random", *FEW])


def test_a_finished_coreset_is_given_back(runs, capfd):
    arguments = ["--method", "random", *FEW, "--out", runs / "random", "--resume", "--json"]
    code, result, _ = call(distill.main, capfd, *arguments)
    assert code == 0 and result == stored(runs, "random")
    (runs / "random" / "result.json").unlink()
    code, again, _ = call(distill.main, capfd, *arguments)
    assert code == 0 and again["accuracies"] == result["accuracies"]


def test_each_run_is_a_row_with_its_figures_and_command(runs, tmp_path, capfd):
    mnist = {**stored(runs, "dm"), "dataset": "mnist", "ipc": 10, "init": "noise"}
    (tmp_path / "result.json").write_text(json.dumps(mnist))
    page = tmp_path / "RESULTS.md"
    code, result, _ = call(results.main, capfd, runs, tmp_path, runs, "--out", page, "--json")
    assert code == 0 and len(result["runs"]) == 3
    text = page.read_text()
    assert text.index("## digits") < text.index("## mnist")
    tables, commands = [], []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if cells and cells[0].isdigit():
            tables.append(cells)
        elif line[:1].isdigit():
            commands.append(line)
    assert [cells[1] for cells in tables] == ["dm", "random", "dm, from noise"]
    assert [cells[0] for cells in tables] == ["1", "2", "1"]
    for cells, line, run in zip(
        tables, commands, (stored(runs, "dm"), stored(runs, "random"), mnist), strict=True
    ):
        mean, std = 100 * run["accuracy_mean"], 100 * run["accuracy_std"]
        assert len(cells) == 11 and cells[2] == str(run["ipc"])
        assert cells[3] == f"{mean:.1f} ± {std:.1f} (2)"
        best, last = run["best"]["iteration"], run["iterations"]
        assert cells[8] == f"{run['storage']['numbers']:,}"
        assert cells[9] == (f"{last}" if best == last else f"{last}, best at {best}")
        assert line.startswith(f"{cells[0]}. `{run['command']}`: ") and run["machine"] in line
        assert f"{run['seconds']:.0f} s" in line
    assert [cells[7] for cells in tables] == ["–", "–", "97.5 (paper, last)"]
    assert "ConvNet (width 8, depth 2), 10 epochs, DSA" in commands[0]


def test_a_run_of_jdd_0_1_has_its_command_in_todays_flags(tmp_path, capfd):
    page = tmp_path / "RESULTS.md"
    code, _, _ = call(results.main, capfd, OLD_RUN, "--out", page)
    text = page.read_text()
    assert code == 0 and "86.1 ± 0.8 (2)" in text and "72.4 ± 3.5 (2)" in text
    assert "--full-data-epochs 1" in text and "whole" not in text.partition("## digits")[2]


def test_what_is_no_result_is_named(runs, tmp_path, capfd):
    code, _, err = call(results.main, capfd, tmp_path)
    assert code == 2 and "holds no result.json" in err[-1]
    (tmp_path / "result.json").write_text('{"method": "dm"}')
    code, _, err = call(results.main, capfd, tmp_path, "--out", tmp_path / "page")
    assert code == 2 and "result.json is damaged: 'dataset' is missing" in err[-1]
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(("choose", "mark"), [("last", "4, the last"), ("test", "on TEST images")])
def test_the_published_ways_of_choosing_are_marked_and_kept_apart(
    runs, tmp_path, capfd, choose, mark
):
    few = [*FEW, "--method", "dm", "--iterations", "4", "--eval-every", "2", "--choose", choose]
    out = tmp_path / "run"
    code, result, err = call(distill.main, capfd, *few, "--out", out, "--json")
    assert code == 0 and result["choose"] == choose
    assert any(line.startswith("AS PUBLISHED: no images are held out") for line in err)
    assert any("on the TEST images" in line for line in err) == (choose == "test")
    assert not any("on validation" in line or "nan" in line for line in err)
    web = (out / "report.html").read_text()
    assert "on validation" not in web and ("on the TEST images" in web) == (choose == "test")
    assert result["best"]["iteration"] == 4 or choose == "test"
    last, chosen = SyntheticSet.load(out / "last"), SyntheticSet.load(out)
    assert (result["best"]["iteration"] == 4) == bool((last.images == chosen.images).all())
    code, evaluated, _ = call(evaluate.main, capfd, out / "last", "--networks", "2", "--json")
    assert code == 0 and evaluated["accuracies"] == result["final"]["accuracies"]

    page = tmp_path / "RESULTS.md"
    assert call(results.main, capfd, runs, out, "--out", page)[0] == 0
    before, _, after = page.read_text().partition("## digits, as published")
    assert mark in after and "| dm " in after
    assert mark not in before and "| dm " in before


def test_seeds_stand_together_and_other_storage_apart(runs, tmp_path, capfd):
    run = stored(runs, "dm")
    by_name = {
        "a": run,
        "b": {**run, "seed": 1},
        "c": {**run, "storage": {**run["storage"], "decoder": "dct", "coefficients": 32}},
    }
    for name, result in by_name.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(result))
    page = tmp_path / "RESULTS.md"
    assert call(results.main, capfd, tmp_path, "--out", page)[0] == 0
    rows = [line.split("|")[2:5] for line in page.read_text().splitlines() if "| dm" in line]
    assert [row[0].strip() for row in rows] == ["dm", "dm, dct"]
    assert "(2 × 2)" in rows[0][2] and "(2)" in rows[1][2]


def test_runs_of_other_settings_or_of_one_seed_are_no_draws_of_one_row(runs, tmp_path):
    made = stored(runs, "dm")
    further = [
        {"seed": 1, "command": f"{made['command']} --seed 1 --no-eval-random"},
        {"seed": 1, "command": f"{made['command']} --seed 1", "date": "2020-01-01"},
        {"seed": 2, "command": f"{made['command']} --seed 2 --lr-img 7"},
        {"seed": 3, "command": f"{made['command']} --seed 3", "storage": {}},
        {"out": "a copy"},
    ]
    for number, changes in enumerate(further):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "result.json").write_text(json.dumps({**made, **changes}))
    paths = find([str(runs / "dm"), str(tmp_path), f"{runs}/../{runs.name}/dm"])
    assert len(paths) == 6
    groups = grouped([RunResult.load(path) for path in paths])
    assert [[run.seed for run in group] for group in groups] == [[0, 1, 3], [1], [2]]


def test_a_recipe_is_named_where_it_is_not_the_published_one():
    plain = Recipe(options={"width": 8}, epochs=30, augmentation="color_crop")
    assert _recipe(plain) == "ConvNet (width 8), 30 epochs, DSA"
    newer = dataclasses.replace(
        plain,
        augmentation="stacked_color_crop",
        cutmix=0.5,
        cutmix_beta=0.3,
        optimizer="adamw",
        learning_rate=0.001,
        rate_schedule="cosine",
    )
    words = "stacked_color_crop, CutMix 0.5 (beta 0.3), AdamW 0.001, cosine"
    assert _recipe(newer) == f"ConvNet (width 8), 30 epochs, {words}"
