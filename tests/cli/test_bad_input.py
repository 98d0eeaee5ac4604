"""Bad input: exit code 2, a line that says what to do, nothing left behind, nothing lost."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from jdd.cli import distill, evaluate, parser, train_experts
from jdd.settings import RENAMED
from tests.cli.running import ROOT, SMALL, call, content


def refused(main, capfd, base, words, *arguments):
    """Runs it and checks how it ends; `base` holds every path that it is given."""
    before = content(base)
    folders = {path for path in base.rglob("*") if path.is_dir()}
    code, _, err = call(main, capfd, *arguments)
    assert code == 2, err
    assert len(err) <= 4 and err[-1].startswith("error: "), err
    assert words in err[-1]
    assert not any("Traceback" in line for line in err)
    assert len(err[-1]) < 600
    assert content(base) == before
    assert {path for path in base.rglob("*") if path.is_dir()} == folders


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--method mt", "--method 'mt': did you mean 'mtt'?"),
        ("--dataset digit", "--dataset 'digit': did you mean 'digits'?"),
        ("--network convnet3", "--network 'convnet3': did you mean 'ConvNet'?"),
        ("--preset fast", "--preset 'fast': choose from"),
        ("--syn-step 3", "unknown argument '--syn-step': did you mean --syn-steps?"),
        ("--metod mtt", "unknown argument '--metod': did you mean --method?"),
        ("--zzz 1", "unknown argument '--zzz': --help lists the flags"),
        ("digits", "unexpected argument 'digits'; --help lists the flags"),
        ("--ipc", "argument --ipc: expected one argument"),
        ("--ipc 0", "--ipc 0: at least 1 image per class is needed"),
        ("--ipc -1", "--ipc -1: at least 1 image per class is needed"),
        ("--ipc 1000", "--ipc 1000: at most 128 here"),
        ("--ipc one", "argument --ipc: 'one' is not a whole number"),
        ("--iterations 1.5", "argument --iterations: '1.5' is not a whole number"),
        ("--iterations 0", "--iterations 0: at least 1"),
        ("--lr-img much", "argument --lr-img: 'much' is not a number"),
        ("--lr-img nan", "--lr-img nan: it must be above 0"),
        ("--lr-teacher -1", "--lr-teacher -1.0: it must be above 0"),
        ("--mom-teacher 1", "--mom-teacher 1.0: from 0 to below 1"),
        ("--seed -1", "argument --seed: '-1' is not from 0 to 4294967295"),
        ("--seed 4294967296", "argument --seed: '4294967296' is not from 0"),
        ("--expert-seed -1", "--expert-seed -1: from 0 to 4294967295"),
        ("--init reel", "--init reel: choose real, noise, or the path or name of a stored set"),
        ("--image-size 100000", "--image-size 100000: from 0 to 4096"),
        ("--norm instanz", "--norm 'instanz': did you mean 'instance'?"),
        ("--width 0", "--width 0: at least 1 is needed"),
        ("--network MLP --width 0", "--width 0: at least 1 is needed"),
        ("--depth 0", "--depth 0: at least 1 is needed"),
        (
            "--depth 5",
            "ConvNet of --depth 5 does not fit 8×8 images: the smallest that do are 28×28",
        ),
        ("--max-start-epoch 40", "--max-start-epoch 40: with --expert-epochs 2 it reaches past"),
        ("--expert-epochs 50", "--expert-epochs 50: more than the experts' --train-epochs 40"),
        ("--min-start-epoch 4", "--min-start-epoch 4: it must be below --max-start-epoch 4"),
        (
            "--expert-dtype float16",
            "--expert-dtype 'float16': did you mean 'bfloat16'? choose from bfloat16, float32",
        ),
        ("--real-images 5000", "--real-images 5000: the training split has 1293 here"),
        ("--image-size -1", "--image-size -1: from 0 to 4096"),
        ("--preprocessing zca", "'zca' is for RGB images"),
        ("--held-out 1", "--held-out 1.0: above 0 and below 1"),
        ("--chunk 0", "--chunk 0: at least 1 is needed"),
        ("--precision half", "--precision 'half': choose from"),
        ("--devices 9", "--devices 9: JAX finds 1 here"),
        ("--devices -1", "--devices -1: 1 or more"),
        ("--syn-steps nan", "argument --syn-steps: 'nan' is not a whole number"),
        ("--lr-img inf", "--lr-img inf: it must be finite"),
        ("--lr-label 1", "--lr-label is a setting of bptt, datm, pad, not of mtt"),
        ("--network LeNet", "--width is an option of ConvNet, MLP, WideConvNet, not of LeNet"),
        ("--plugin none.py", "none.py does not exist"),
        ("--batch-train 0", "--batch-train 0: at least 1 is needed"),
        ("--eval-networks 0", "--eval-networks 0: at least 1 is needed"),
        ("--resume --overwrite", "not allowed with argument"),
    ],
)
def test_a_bad_value_is_named(tmp_path, capfd, arguments, words):
    places = ["--out", tmp_path / "run", "--experts", tmp_path / "experts"]
    refused(distill.main, capfd, tmp_path, words, *SMALL, *places, *arguments.split())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *((parser.flag_of(old), parser.flag_of(new)) for old, new in RENAMED.items()),
        ("--no-eval-each", "--no-eval-augment-per-image"),
    ],
)
def test_a_renamed_flag_is_refused_with_its_new_name(tmp_path, capfd, old, new):
    words = f"{old} has another name since jdd 0.2: {new}"
    places = ["--out", tmp_path / "run", "--experts", tmp_path / "experts"]
    method = ["--method", "pad", "--dataset", "digits", "--preset", "quick"]
    refused(distill.main, capfd, tmp_path, words, *method, *places, old)
    code, _, err = call(distill.main, capfd, *method, *places, f"{new}=?")
    assert code == 2 and "unknown argument" not in err[-1]  # it is there


def test_methods_without_experts_have_none_to_train(tmp_path, capfd):
    places = ["--dataset", "digits", "--experts", tmp_path / "experts"]
    words = "--method dm: it needs no experts"
    refused(train_experts.main, capfd, tmp_path, words, *places, "--method", "dm")


@pytest.mark.parametrize("main", [distill.main, train_experts.main])
def test_the_dataset_is_looked_for_first(tmp_path, capfd, main):
    places = ["--out", tmp_path / "run"] if main is distill.main else []
    places += ["--dataset", "mnist", "--experts", tmp_path / "experts", "--data-dir"]
    refused(main, capfd, tmp_path, "does not exist", *places, tmp_path / "none")
    (tmp_path / "data").mkdir()
    refused(main, capfd, tmp_path, "(it is empty)", *places, tmp_path / "data")
    for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / "data" / f"{part}-ubyte").write_bytes(bytes([0, 0, 8, 3, 0, 0, 1]))
    refused(main, capfd, tmp_path, "idx", *places, tmp_path / "data")


def test_a_place_that_is_none_is_named(tmp_path, capfd):
    (tmp_path / "file").write_text("mine")
    file, other = tmp_path / "file", tmp_path / "both"
    places = ["--out", file, "--experts", tmp_path / "experts"]
    refused(distill.main, capfd, tmp_path, f"--out {file}: it is a file", *SMALL, *places)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "store.json").write_text("{}")
    places = ["--out", tmp_path / "store"]
    refused(distill.main, capfd, tmp_path, "it holds experts, name another", *SMALL, *places)
    places = ["--out", other, "--experts", other]
    refused(distill.main, capfd, tmp_path, "--experts and --out are both", *SMALL, *places)
    places = ["--out", "/proc/nothing/run", "--experts", tmp_path / "experts"]
    refused(distill.main, capfd, tmp_path, "--out /proc/nothing/run: it cannot be", *SMALL, *places)


@pytest.mark.parametrize("flag", ["--out", "--experts", "--init", "--plugin", "--data-dir"])
@pytest.mark.parametrize("name", ["a" * 300, "a\0b", os.fsdecode(b"caf\xe9")])
def test_a_path_that_nothing_can_lie_at_is_said_in_one_line(tmp_path, capfd, flag, name):
    places = {"--out": tmp_path / "run", "--experts": tmp_path / "experts", flag: tmp_path / name}
    words = {300: "name too long", 3: "holds a NUL", 4: "is not utf-8"}[len(name)]
    method = ["--method", "mtt", "--dataset", "mnist" if flag == "--data-dir" else "digits"]
    code, _, err = call(distill.main, capfd, *method, *(w for pair in places.items() for w in pair))
    assert code == 2 and len(err) == 1 and words in err[0].lower().replace("nul", "NUL"), err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flag", [[], ["--resume"], ["--overwrite"]])
def test_a_directory_of_other_things_is_left_alone(tmp_path, capfd, flag):
    (tmp_path / "mine" / "images").mkdir(parents=True)
    (tmp_path / "mine" / "images" / "holiday.png").write_text("sun")
    places = ["--out", tmp_path / "mine", "--experts", tmp_path / "experts"]
    words = "holds images but no settings.json of a run"
    refused(distill.main, capfd, tmp_path, words, *SMALL, *places, *flag)
    (tmp_path / "mine" / "settings.json").write_text('{"theme": "dark"}')
    words = "settings.json is not a run's"
    refused(distill.main, capfd, tmp_path, words, *SMALL, *places, *flag)


def test_experts_are_no_set(finished, tmp_path, capfd):
    words = f"{finished.experts} holds experts, not a synthetic set: name a run's directory"
    refused(evaluate.main, capfd, tmp_path, words, finished.experts)


@pytest.fixture
def broken(finished, tmp_path):
    """A copy of the finished run, to be damaged."""
    return shutil.copytree(finished.out, tmp_path / "broken")


def of_version_99(folder):
    file = folder / "info" / "metadata"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format_version": 99}))


def cut_off(folder):
    file = max((folder / "arrays" / "d").iterdir(), key=lambda path: path.stat().st_size)
    file.write_bytes(file.read_bytes()[:100])


def half_gone(folder):
    shutil.rmtree(folder / "arrays")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (of_version_99, "has format version 99, this jdd reads"),
        (cut_off, "is damaged or was cut off"),
        (half_gone, "holds no checkpoint, or one that was cut off"),
    ],
)
def test_a_damaged_checkpoint_is_refused(finished, broken, tmp_path, capfd, damage, words):
    damage(broken / "synthetic")
    refused(evaluate.main, capfd, tmp_path, words, broken)
    experts = ["--experts", finished.experts]
    places = ["--out", tmp_path / "run", "--init", broken]
    refused(distill.main, capfd, tmp_path, words, *SMALL, *experts, *places)
    (broken / "result.json").unlink()
    damage(broken / "state" / "20")
    damage(broken / "state" / "40")
    (broken / ".lock").touch()
    refused(distill.main, capfd, tmp_path, words, *SMALL, *experts, "--out", broken, "--resume")


@pytest.mark.parametrize("name", ["settings.json", "result.json"])
@pytest.mark.parametrize("text", ['{"iterations": 4', "[1, 2]", "{}"])
def test_a_damaged_description_is_refused(finished, broken, tmp_path, capfd, name, text):
    (broken / name).write_text(text)
    places = ["--out", broken, "--experts", finished.experts, "--resume"]
    refused(distill.main, capfd, tmp_path, name, *SMALL, *places)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "does not exist"),
        (["RUN", "--networks", 0], "argument --networks: 0: at least 1 is needed"),
        (["RUN", "--network", "ConvNot"], "--network 'ConvNot'"),
        (["RUN", "--epochs", 0], "--epochs 0: at least 1 is needed"),
        (["RUN", "--augmentation", "colour"], "did you mean 'color'?"),
        (["RUN", "--seed", "x"], "'x' is not a whole number"),
        (["RUN", "RUN"], "unexpected argument"),
        ([], "the following arguments are required: RUN"),
    ],
)
def test_what_evaluate_cannot_do_is_said(finished, tmp_path, capfd, arguments, words):
    args = [finished.out if a == "RUN" else a for a in arguments]
    refused(evaluate.main, capfd, tmp_path, words, *args)


def test_the_script_itself_ends_with_2_and_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "bin" / "distill.py", "--metod", "mtt"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: unknown argument '--metod': did you mean --method?\n"
    assert not list(tmp_path.iterdir())
