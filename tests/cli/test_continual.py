"""What continual.py leaves and says, and what it refuses, on real digits."""

import json

import numpy as np
import pytest
from PIL import Image

from jdd import data
from jdd.cli import continual
from jdd.synthetic import SetInfo, SyntheticSet, from_real
from jdd.training import Recipe
from tests.cli.running import call
from tests.cli.test_bad_input import refused

QUICK = ["--network", "MLP", "--width", 32, "--memory-epochs", 40, "--learning-rate", 0.02]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A set of two real images of each digit, with a recipe for a network of its own."""
    digits = data.load("digits")
    recipe = Recipe("ConvNet", {"width": 8, "depth": 2}, epochs=3)
    info = SetInfo(
        "digits", digits.class_names, digits.preprocess.spec(), 2, method="dm", recipe=recipe
    )
    images, labels = from_real(digits.train, digits, 2, np.random.default_rng(0))
    where = tmp_path_factory.mktemp("sets") / "run"
    SyntheticSet(images, labels, None, info).save(where)
    return where


def test_gdumbs_protocol(run, tmp_path, capfd):
    arguments = [run, "--out", tmp_path, "--seed", 4, "--methods", "random,distilled"]
    code, result, _ = call(continual.main, capfd, *arguments, *QUICK, "--json")
    assert code == 0
    assert (result["task"], result["dataset"], result["method"]) == ("continual", "digits", "dm")
    assert (result["ipc"], result["seed"], result["protocol"]) == (2, 4, "gdumb")
    assert result["seconds"] > 0
    assert [len(seen) for seen in result["classes"]] == [5, 10]
    assert list(result["methods"]) == ["random", "distilled"]
    for name, means in result["methods"].items():
        each = np.array(result["accuracies"][name])
        assert each.shape == (2, 2)
        assert means == pytest.approx(each.mean(0)) and result["std"][name] == each.std(0).tolist()
        assert means[0] > 0.5 and result["final"][name] == means[-1]
    assert result["recipe"]["network"] == "MLP" and result["recipe"]["options"] == {"width": 32}
    assert json.loads((tmp_path / "continual.json").read_text()) == result
    page = (tmp_path / "continual.md").read_text()
    best = 100 * result["methods"]["distilled"][1]
    assert f"{best:.1f} ± " in page and "| 2      | 5, 6, 7, 8, 9" in page
    assert "'none' has nothing to be trained on" in page
    with Image.open(tmp_path / "continual.png") as picture:
        assert np.asarray(picture).std() > 10  # not a blank sheet


def test_finetuning(run, tmp_path, capfd):
    arguments = (
        "--protocol finetune --order 9,8,7,6,5,4,3,2,1,0 --repeats 1 --methods none,distilled"
    )
    code, result, _ = call(
        continual.main, capfd, run, "--out", tmp_path, *arguments.split(), *QUICK, "--json"
    )
    assert code == 0 and list(result["methods"]) == ["none", "distilled"]
    assert result["classes"] == [[9, 8, 7, 6, 5], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]]
    assert result["settings"]["epochs"] == 9 and result["recipe"]["epochs"] == 40
    assert result["methods"]["none"][0] > result["methods"]["none"][1]
    for name in ("none", "distilled"):
        assert name in (tmp_path / "continual.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--protocol gdum", "--protocol 'gdum': did you mean 'gdumb'?"),
        ("--protocol papers", "--protocol papers has another name since jdd 0.2: --protocol gdumb"),
        ("--protocol seed", "--protocol seed has another name since jdd 0.2: --protocol finetune"),
        ("--methods none", "--methods 'none': with --protocol gdumb"),
        ("--methods distiled", "did you mean 'distilled'?"),
        ("--steps 11", "--steps 11: from 1 to 10"),
        ("--steps 0", "--steps 0: at least 1"),
        ("--order 0,1", "--order 0,1: each of the classes 0 to 9 must appear once"),
        ("--orders 2", "--orders 2: several orders need --order random"),
        ("--repeats 0", "--repeats 0: at least 1 is needed"),
        ("--epochs 5", "--epochs needs --protocol finetune; --memory-epochs is for the memory"),
        ("--real-lr 1", "--real-lr needs --protocol finetune"),
        ("--memory-epochs 0", "argument --memory-epochs: 0: at least 1 is needed"),
        ("--network MLP --depth 2", "--depth 2: MLP has no option 'depth'"),
        ("--depth 5", "does not fit 8×8 images"),
        ("--augmentation colour", "did you mean 'color'?"),
        ("--features none", "--features 'none': did you mean"),
        ("--learning-rate 0", "--learning-rate 0.0: it must be above 0"),
        ("--out {run}/synthetic/checksums.json", "cannot be written"),
    ],
)
def test_what_it_cannot_do_is_said(run, capfd, arguments, words):
    refused(continual.main, capfd, run, words, run, *arguments.format(run=run).split())


@pytest.mark.parametrize("order", ["0,1", "reversed"])
def test_a_bad_order_is_refused_before_it_says_that_it_begins(run, capfd, order):
    code, _, err = call(continual.main, capfd, run, "--order", order)
    assert code == 2 and len(err) == 1 and err[0].startswith(f"error: --order {order}: ")
