"""The tasks one after another: what is done stays, what is left is said."""

import importlib
import json
import shlex

import pytest

from jdd import files
from jdd.cli import reproduce
from jdd.report.reproduction import page
from jdd.tasks import reproduction
from jdd.tasks.reproduction import Step
from tests.cli.running import call


def small(dataset, place, preset=None, quick=False):
    """Two steps of the same kind as the real ones, in seconds, and two that come to nothing."""
    made = place / "matching" / "dm-real"
    few = {"dataset": dataset, "methods": "dm", "network": "MLP", "iterations": 1, "repeats": 1}
    networks = {"networks": "MLP", "repeats": 1, "epochs": 1}
    needs = ("matching",)
    return (
        Step("matching", "Both starts", "compare_starts", settings=few),
        Step("architectures", "Other networks", "cross_architecture", (made,), networks, needs),
        Step("broken", "A step that fails", "cost", ("nowhere",)),
        Step("after", "A step behind it", "cost", (made,), {}, ("broken",)),
    )


@pytest.mark.slow
def test_steps_are_run_once_and_end_in_a_page(capfd, tmp_path, monkeypatch):
    monkeypatch.setattr(reproduction, "steps", small)
    out = tmp_path / "out"
    code, result, err = call(reproduce.main, capfd, "--out", out, "--json")
    assert code == 2 and "broken failed: what they said is above" in err[-1]
    assert any("nowhere does not exist" in line for line in err)
    assert result["tasks"]["digits"] == {
        "matching": "done",
        "architectures": "done",
        "broken": "failed",
        "after": "left",
    }
    results = (out / "RESULTS.md").read_text()
    figures = json.loads((out / "digits" / "architectures" / "cross_architecture.json").read_text())
    assert f"{100 * figures['networks']['MLP']['mean']:.1f}" in results
    for line in results.splitlines():
        if line.startswith("!["):
            assert (out / line.split("(")[-1].rstrip(")")).exists()
    assert results.count("![") == 3 and "*failed*" in results and "*not reached yet" in results

    before = (out / "digits" / "matching" / "compare_starts.json").stat().st_mtime_ns
    code, again, err = call(reproduce.main, capfd, "--out", out, "--json")
    assert again["tasks"] == result["tasks"]
    assert sum("done before" in line for line in err) == 2
    assert (out / "digits" / "matching" / "compare_starts.json").stat().st_mtime_ns == before


def test_no_step_begins_after_the_time_is_used_up(capfd, tmp_path):
    out = tmp_path / "out"
    code, result, _ = call(reproduce.main, capfd, "--out", out, "--minutes", "1e-6", "--json")
    assert code == 0 and set(result["tasks"]["digits"].values()) == {"left"}
    assert not (out / "digits").exists() and "not reached yet" in (out / "RESULTS.md").read_text()


@pytest.mark.parametrize("dataset", reproduction.DATASETS)
def test_every_step_is_a_command_that_its_script_understands(dataset, tmp_path, capfd):
    """Up to where something is needed that is not there: the step's set, or the dataset."""
    (tmp_path / "data").mkdir()
    out = tmp_path / "out"
    code = reproduce.main(["--list", "--dataset", dataset, "--out", str(out)])
    commands = [shlex.split(line)[1:] for line in capfd.readouterr().out.splitlines()]
    assert code == 0 and len(commands) == 8
    for script, *arguments in commands:
        name = script.removeprefix("bin/").removesuffix(".py")
        is_start = name == "compare_starts"
        if is_start and dataset == "digits":
            continue  # needs no files, and would run for minutes
        main = importlib.import_module(f"jdd.cli.{name}").main
        code, _, err = call(main, capfd, *arguments, "--data-dir", tmp_path / "data")
        words = f"no {dataset} there" if is_start else "does not exist"
        assert code == 2 and words in err[-1], err


def test_the_course_projects_figures_are_compared_with_ours(tmp_path):
    jobs = reproduction.plan(["mnist"], tmp_path, None, {}, lambda settings: [], quick=True)
    of_sets = [{"networks": {"ResNet18": {"mean": mean}}} for mean in (0.61, 0.52)]
    starts = {"real": {"mean": 0.81}, "noise": {"mean": 0.72}}
    results = {
        "cost": {"real": {"accuracy": 0.95}},
        "cost-resnet": {"real": {"accuracy": 0.97}},
        "matching": {"methods": {"dc": starts}},
        "architectures": {"sets": of_sets},
        "continual-finetune": {"final": {"none": 0.43, "distilled": 0.64}},
    }
    for job in jobs:
        if job.step.name in results:
            job.directory.mkdir(parents=True)
            files.write_json(job.directory / f"{job.step.script}.json", results[job.step.name])
            (job.directory / f"{job.step.script}.md").write_text("as its page says")

    def rows(outcomes):
        lines = page(tmp_path, jobs, outcomes).splitlines()
        return [[cell.strip() for cell in line.split("|")[2:4]] for line in lines if "|" in line][
            2:
        ]

    # What an earlier command left is no figure of this one.
    assert {here for _, here in rows(["failed"] * 8)} == {"–"}
    assert rows(["done" if job.step.name in results else "left" for job in jobs]) == [
        *(["99.41", "95.0"], ["99.58", "97.0 (6,000 images)"], ["83.3", "81.0"], ["82.0", "72.0"]),
        *(["60.0", "61.0"], ["54.7", "52.0"], ["48.3", "43.0"], ["76.3", "64.0"]),
    ]


def test_two_cores_take_a_part_of_the_real_images_for_large_networks(tmp_path):
    long, short = (
        reproduction.plan(["mnist"], tmp_path, None, {}, _words, quick) for quick in (False, True)
    )
    differing = {a.step.name for a, b in zip(long, short, strict=True) if a.command != b.command}
    assert differing == {"cost-resnet", "search", "continual-finetune", "continual-gdumb"}
    assert short[3].title.endswith("ResNet18 (6,000 real images, 3 epochs)")
    small = [
        reproduction.plan(["digits", "mhist"], tmp_path, None, {}, _words, quick)
        for quick in (False, True)
    ]
    assert small[0] == small[1]  # MHIST has no 6,000 images


def test_a_job_is_done_where_the_same_command_has_left_its_record(tmp_path):
    def plan(seed):
        return reproduction.plan(["digits"], tmp_path, None, {"seed": seed}, _words)

    first = plan(0)[0]
    assert not first.is_done()
    first.record()
    assert plan(0)[0].is_done() and not plan(1)[0].is_done() and not plan(0)[1].is_done()


def _words(settings):
    return [f"{name}={value}" for name, value in settings.items()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dataset", "digit"), "did you mean 'digits'"),
        (("--dataset", "digits,digits"), "name each once"),
        (("--minutes", "0"), "argument --minutes: 0: it must be above 0"),
        (("--preset", "slow"), "--preset 'slow': choose from"),
    ],
)
def test_what_cannot_be_is_one_line(capfd, tmp_path, arguments, words):
    code, _, err = call(reproduce.main, capfd, *arguments, "--out", tmp_path / "out")
    assert code == 2 and len(err) == 1 and words in err[0]
    assert not (tmp_path / "out").exists()
