"""The parts of `measure_accelerator.py`: in time, resumed, and honest about what is missing."""

import io
import itertools
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jdd import data, files
from jdd.benchmarks import accelerator
from jdd.benchmarks.accelerator import plan as plans
from jdd.benchmarks.accelerator import session
from jdd.benchmarks.accelerator.archive import binary_version
from jdd.cli import measure_accelerator
from jdd.data.class_names import CIFAR10
from jdd.errors import UserError
from jdd.runs.settings import Selection, build
from tests.cli.running import call

DEVICE = {"machine": "a chip", "device": "chip", "platform": "gpu", "devices": 1}
PARTS = "speed,trajectories,gradients"


class Programs:
    """Stands in for the scripts: each ends as `ends` says, by its name and some of its words."""

    def __init__(self, **ends):
        self.ends, self.calls = ends, []

    def __call__(self, name, words, should_stop, output, patience):
        assert not should_stop() and patience > 0
        self.calls.append([name, *words])
        flags = dict(itertools.pairwise(words))
        of = flags.get("--case", flags.get("--method", "")).replace("-", "_")
        outcome = self.ends.get(f"{name}_{of}_{flags.get('--ipc')}", self.ends.get(name, "done"))
        getattr(self, name)(flags, words, outcome, output)
        return outcome

    def benchmark(self, flags, words, outcome, output):
        row = dict.fromkeys(("compile_seconds", "flops", "flops_per_second"), 1.0)
        row |= {"seconds_per_step": 0.5, "peak_bytes": 2**20, "share_of_matmul_rate": 0.5}
        row |= {"kernels": 70, "launches": 9}
        row |= {"peer": {"seconds_per_step": 2.5, "ratio": 5.0}} if "--peer" in flags else {}
        if outcome == "done":
            print("a table\n" + json.dumps({"cases": {flags["--case"]: row}}), file=output)

    def train_experts(self, flags, words, outcome, output):
        experts = Path(flags["--experts"])
        experts.mkdir(parents=True)
        files.write_json(experts / "progress.json", {"accuracies": [0.5] * 20})

    def distill(self, flags, words, outcome, output):
        out = Path(flags["--out"])
        (out / "synthetic").mkdir(parents=True, exist_ok=True)
        (out / "metrics.jsonl").write_text('{"iteration": 0}\n{"loss": 1, "iteration": 300}\n{"lo')
        value = {"accuracy_mean": 0.46, "accuracy_std": 0.01, "note": "", "iterations": 1000}
        if outcome == "done":
            print(json.dumps({**value, "distilling_seconds": 100.0}), file=output)

    def evaluate(self, flags, words, outcome, output):
        print(json.dumps({"accuracy_mean": 0.3, "accuracy_std": 0.02}), file=output)


@pytest.fixture
def measure(tmp_path, monkeypatch, capfd):
    """Runs the script with programs that stand in for its own; its code, result and error lines."""

    def run(programs, *more, parts=PARTS):
        monkeypatch.setattr(plans, "run_as_process", programs)
        monkeypatch.setattr(session, "_device", lambda *_: DEVICE)
        monkeypatch.setattr(accelerator, "has_torch", lambda: True)
        places = ["--out", tmp_path / "out", "--work", tmp_path / "work"]
        wanted = ["--parts", parts, "--cases", "mtt-cifar10-ipc1,train-mnist"]
        return call(measure_accelerator.main, capfd, *places, *wanted, *more, "--json")

    return run


def test_a_cpu_alone_is_refused_but_for_a_trial(monkeypatch):
    def described(words, stopper, output, patience):
        print(json.dumps({**DEVICE, "platform": "cpu"}), file=output)
        return "done"

    monkeypatch.setattr(session, "run_program", described)
    with pytest.raises(UserError, match="JAX sees a CPU alone, no accelerator"):
        session._device(lambda: False, trial=False)
    assert session._device(lambda: False, trial=True)["platform"] == "cpu"


@pytest.mark.slow
def test_what_is_missing_is_said_and_made_by_the_same_command(measure, tmp_path):
    ends = {
        "benchmark_train_mnist_None": "failed",
        "distill_mtt_1": "left",
        "distill_dsa_10": "left",
    }
    first = Programs(**ends)
    code, result, err = measure(first)
    parts = result["parts"]
    assert code == 2 and "speed: something failed" in err[-1]
    assert parts["speed"]["failed"] == ["train-mnist"] and not parts["speed"]["complete"]
    assert parts["trajectories"]["left_out"] == ["mtt-1: 4700 of 5000 updates"]
    assert parts["gradients"]["left_out"] == ["dsa-10: 700 of 1000 updates"]
    (row,) = parts["trajectories"]["rows"]
    assert row["accuracy_mean"] == 0.3 and row["tested"] == "the best set so far"

    distilled = next(c for c in first.calls if c[0] == "distill")
    window = build(Selection("mtt", "cifar10", 1, preset="paper")).method_settings.needs.segments
    epochs = distilled[distilled.index("--train-epochs") + 1]
    window.check(int(epochs))  # no longer than the window reaches, and no shorter
    with pytest.raises(UserError):
        window.check(int(epochs) - 1)
    assert distilled[distilled.index("--num-experts") + 1] == "20", "those that were trained"

    lines = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert any("speed" in line and "mtt-cifar10-ipc1 5.00" in line for line in lines)
    assert any("| 70" in line and "| 9" in line for line in lines)
    assert any("--method datm" in line and "--ipc 10" in line for line in lines)
    assert len(list((tmp_path / "out").iterdir())) == 4

    again = Programs()
    code, result, _ = measure(again)
    assert code == 0 and all(part["complete"] for part in result["parts"].values())
    made = [(c[0], c[c.index("--case" if "--case" in c else "--method") + 1]) for c in again.calls]
    assert made == [("benchmark", "train-mnist"), ("distill", "mtt"), ("distill", "dsa")]
    assert all("--resume" in c for c in again.calls if c[0] == "distill")

    assert measure(nothing := Programs())[0] == 0 and not nothing.calls


@pytest.mark.slow
def test_a_part_stops_by_its_deadline(measure):
    code, result, _ = measure(Programs(), "--minutes", "1e-9", parts="speed,features")
    assert code == 0
    assert result["parts"]["speed"]["left_out"] == ["mtt-cifar10-ipc1", "train-mnist"]
    assert result["parts"]["features"]["left_out"] == ["dm-1", "datadam-1", "dm-10", "datadam-10"]


@pytest.mark.slow
def test_results_of_another_machine_stay(measure, monkeypatch):
    measure(Programs(), parts="speed")
    monkeypatch.setitem(DEVICE, "machine", "another chip")
    code, _, err = measure(Programs(), parts="speed")
    assert code == 2 and "measured with machine a chip, this is another chip" in err[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--parts", "speeds"), "did you mean 'speed'"),
        (("--cases", "mtt-cifar10"), "case 'mtt-cifar10'"),
        (("--minutes", "0"), "--minutes: 0: it must be above 0"),
        (("--dataset", "cifar"), "--dataset"),
    ],
)
def test_what_cannot_be_is_one_line(capfd, arguments, words):
    code, _, err = call(measure_accelerator.main, capfd, *arguments)
    assert code == 2 and len(err) == 1 and words in err[0]


def archive(path, pictures):
    with tarfile.open(path, "w:xz") as tar:
        for name, pixels in pictures.items():
            content = io.BytesIO()
            Image.fromarray(pixels).save(content, "PNG")
            entry = tarfile.TarInfo(name)
            entry.size = content.tell()
            content.seek(0)
            tar.addfile(entry, content)


def test_an_archive_of_pictures_is_read_as_cifar10(tmp_path):
    rng = np.random.default_rng(0)
    pictures = {
        f"{split}/{name}/{i:04d}.jpg": rng.integers(0, 256, (32, 32, 3), np.uint8)
        for split, count in (("train", 3), ("test", 1))
        for name in CIFAR10
        for i in range(count)
    }
    place = tmp_path / "data"
    place.mkdir()
    archive(place / "cifar10.tar.xz", pictures)
    binary = binary_version(place, tmp_path / "work")
    assert binary_version(binary, tmp_path / "elsewhere") == binary
    dataset = data.load("cifar10", binary)
    assert (len(dataset.train), len(dataset.test)) == (30, 10)
    assert dataset.class_names[dataset.train.labels[12]] == CIFAR10[2], "by number, then by class"
    assert (dataset.train.images[12] == pictures["train/bird/0001.jpg"]).all()
    assert (dataset.test.images[9] == pictures["test/truck/0000.jpg"]).all()


def test_a_damaged_archive_is_said(tmp_path):
    (tmp_path / "cifar10.tar.xz").write_bytes(b"no archive")
    with pytest.raises(UserError, match="not a complete archive"):
        binary_version(tmp_path, tmp_path / "work")
    archive(tmp_path / "cifar10.tar.xz", {"train/bird/0.jpg": np.zeros((8, 8, 3), np.uint8)})
    with pytest.raises(UserError, match="8×8 pixels"):
        binary_version(tmp_path, tmp_path / "work")


@pytest.mark.slow
def test_every_part_runs(tmp_path, capfd):
    """With the real programs, at the smallest sizes."""
    places = ["--out", tmp_path / "out", "--work", tmp_path / "work", "--dataset", "digits"]
    small = ["--trial", "--cases", "test-mnist", "--minutes", "20"]
    code, result, _ = call(measure_accelerator.main, capfd, *places, *small, "--json")
    assert code == 0 and list(result["parts"]) == list(accelerator.NAMES)
    assert all(part["complete"] for part in result["parts"].values())
    assert result["parts"]["parity"]["passed"] > 0
    assert len(result["parts"]["gradients"]["rows"]) == 4
