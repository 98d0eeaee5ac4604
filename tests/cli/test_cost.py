"""cost.py on a small set: what it says and leaves, and what it refuses."""

import dataclasses
import datetime
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jdd
from jdd import data, randomness, synthetic
from jdd.cli import cost, evaluate
from jdd.synthetic import SetInfo, SyntheticSet
from jdd.training import Recipe
from tests.cli.running import call
from tests.cli.test_bad_input import refused

FIELDS = {
    *("accuracy", "seconds", "compile_seconds", "peak_bytes", "epochs", "images", "steps"),
    *("flops_per_image", "flops_total", "flops_per_second", "batch_size", "learning_rate"),
}


@pytest.fixture(scope="module")
def small():
    digits = data.load("digits")
    rng = randomness.generator(0, "cost")
    images, labels = synthetic.from_real(digits.train, digits, 1, rng)
    recipe = Recipe("ConvNet", {"width": 8, "depth": 1}, epochs=20)
    info = SetInfo("digits", digits.class_names, digits.preprocess.spec(), 1, "real", "mtt")
    info = dataclasses.replace(info, recipe=recipe)
    return SyntheticSet(images, labels, jnp.float32(0.02), info)


@pytest.fixture
def stored(small, tmp_path):
    small.save(tmp_path / "run")
    return tmp_path / "run"


def test_what_it_says_and_leaves(stored, capfd):
    code, result, _ = call(cost.main, capfd, stored, "--real-epochs", 2, "--json")
    assert code == 0
    assert (result["task"], result["dataset"], result["method"]) == ("cost", "digits", "mtt")
    assert (result["ipc"], result["seed"]) == (1, 0) and result["seconds"] > 0
    assert result["version"] == jdd.__version__ and "real_images" not in result
    assert datetime.date.fromisoformat(result["date"])
    assert (result["real"]["epochs"], result["real"]["images"]) == (2, 1437)
    assert (result["synthetic"]["epochs"], result["synthetic"]["images"]) == (20, 10)
    assert result["real"].keys() >= FIELDS and result["synthetic"].keys() >= FIELDS
    assert result["ratio"].keys() == {"seconds", "flops"}
    assert result["differs"].keys() == {"epochs", "batch_size", "learning_rate"}
    assert json.loads((stored / "tasks" / "cost.json").read_text()) == result
    page = (stored / "tasks" / "cost.md").read_text()
    assert "1,437 images, real" in page and "10 images, mtt" in page
    assert "What differs apart from the images: the epochs, " in page
    with Image.open(stored / "tasks" / "cost.png") as picture:
        assert np.asarray(picture).std() > 10  # not a blank sheet
    code, evaluation, _ = call(evaluate.main, capfd, stored, "--networks", 1, "--json")
    assert code == 0 and result["synthetic"]["accuracy"] == evaluation["accuracies"][0]


def test_another_network(stored, tmp_path, capfd):
    others = ["--network", "MLP", "--width", 16, "--epochs", 3, "--real-epochs", 1]
    code, result, _ = call(cost.main, capfd, stored, *others, "--out", tmp_path / "out", "--json")
    assert code == 0 and not (stored / "tasks").exists()
    assert (result["network"], result["options"]) == ("MLP", {"width": 16})
    assert result["parameters"] == 64 * 16 + 16 + 16 * 16 + 16 + 16 * 10 + 10
    assert result["synthetic"]["epochs"] == result["synthetic"]["steps"] == 3


def test_fewer_real_images(stored, capfd):
    fewer = ("--real-images", 40, "--real-epochs", 1, "--epochs", 1)
    code, result, _ = call(cost.main, capfd, stored, *fewer, "--json")
    assert code == 0 and result["real"]["images"] == 40
    assert result["real"]["steps"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["RUN", "--network", "ConvNot"], "--network 'ConvNot': did you mean 'ConvNet'?"),
        (["RUN", "--network", "VGG11"], "VGG11 does not fit 8×8 images: the smallest that do are"),
        (["RUN", "--depth", 5], "does not fit 8×8 images"),
        (["RUN", "--network", "MLP", "--depth", 2], "--depth 2: MLP has no option 'depth'"),
        (["RUN", "--network", "LeNet", "--width", 2], "LeNet takes no options"),
        (["RUN", "--epochs", 0], "--epochs 0: at least 1"),
        (["RUN", "--real-epochs", 0], "argument --real-epochs: 0: at least 1"),
        (["RUN", "--real-images", -1], "argument --real-images: -1: at least 0"),
        (["RUN", "--real-images", 2000], "--real-images 2000: from 1 to 1437"),
        (["RUN", "--real-epochs", "x"], "'x' is not a whole number"),
        (["RUN", "--out", "FILE"], "it cannot be written, name another directory"),
        (["RUN", "--out", "FILE/below"], "it cannot be written, name another directory"),
        (["nowhere"], "does not exist"),
        ([], "the following arguments are required: RUN"),
    ],
)
def test_what_it_cannot_do_is_said(stored, tmp_path, capfd, arguments, words):
    (tmp_path / "file").write_text("mine")
    names = {"RUN": stored, "FILE": tmp_path / "file", "FILE/below": tmp_path / "file" / "below"}
    arguments = [names.get(argument, argument) for argument in arguments]
    refused(cost.main, capfd, tmp_path, words, *arguments)


def test_a_set_of_another_dataset_is_refused(small, stored, tmp_path, capfd):
    (tmp_path / "data").mkdir()
    info = dataclasses.replace(small.info, dataset="mnist")
    dataclasses.replace(small, info=info).save(stored)
    refused(cost.main, capfd, tmp_path, "no mnist there", stored, "--data-dir", tmp_path / "data")
    spec = {**small.info.preprocessing, "mean": [0.5]}
    info = dataclasses.replace(small.info, preprocessing=spec)
    dataclasses.replace(small, info=info).save(stored)
    refused(cost.main, capfd, tmp_path, "made with other preprocessing", stored)
