"""Other networks on a stored set, from the command line."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from jdd import SyntheticSet, data, networks, randomness
from jdd.cli import cross_architecture
from jdd.evaluation import EvaluationSettings, train_and_test
from jdd.tasks import cross_architecture as cross_architecture_task
from jdd.training import Accuracy
from tests.cli.running import call


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished.out, tmp_path / "run")
    return tmp_path / "run"


def test_every_network_that_fits_is_tried(run, capfd):
    code, result, _ = call(
        cross_architecture.main, capfd, run, "--repeats", "1", "--epochs", "2",
        "--networks", "MLP,LeNet,ConvNet", "--json",
    )  # fmt: skip
    assert code == 0
    assert list(result["networks"]) == ["MLP", "ConvNet"] and result["skipped"] == ["LeNet"]
    assert json.loads((run / "tasks" / "cross_architecture.json").read_text()) == result
    page = (run / "tasks" / "cross_architecture.md").read_text()
    assert "skipped: LeNet, which does not fit 8×8 images" in page
    for name, row in result["networks"].items():
        assert f"{100 * row['mean']:.1f} %" in page and name in page
    with Image.open(run / "tasks" / "cross_architecture.png") as picture:
        assert np.asarray(picture).std() > 10  # not a blank sheet


def test_other_networks_have_quick_recipes_that_the_user_overrides(run, capfd):
    assert cross_architecture_task.quick("ConvNet", 10, "sgd") == {}
    few, many = (cross_architecture_task.quick("MLP", n, "sgd") for n in (10, 100))
    assert few == {"batch_size": 25, "epochs": 600} and many == {"batch_size": 25, "epochs": 150}
    assert cross_architecture_task.quick("VGG11", 100, "sgd")["augmentation"] == "none"
    assert set(cross_architecture_task.QUICK) | {"ConvNet"} == set(networks.names())
    recipe = SyntheticSet.load(run).info.recipe
    for preset, expected in (("quick", (3, 25)), ("paper", (3, recipe.batch_size))):
        code, result, _ = call(
            cross_architecture.main, capfd, run, "--repeats", "1", "--networks", "MLP,ConvNet",
            "--preset", preset, "--epochs", "3", "--json",
        )  # fmt: skip
        recipes = result["sets"][0]["recipes"]
        assert code == 0 and recipes["ConvNet"]["batch_size"] == recipe.batch_size
        assert (recipes["MLP"]["epochs"], recipes["MLP"]["batch_size"]) == expected
        assert recipes["MLP"]["augmentation"] == recipe.augmentation
        assert recipes["ConvNet"]["options"] == recipe.options and recipes["MLP"]["options"] == {}


def test_the_quick_rate_of_wideconvnet_is_of_sgd(run, capfd, monkeypatch):
    row = cross_architecture_task.Row(Accuracy((0.5,)), 1.0)
    monkeypatch.setattr(cross_architecture_task, "compare", lambda *_: {"WideConvNet": row})
    assert cross_architecture_task.quick("WideConvNet", 10, "sgd")["learning_rate"] == 0.05
    stored = SyntheticSet.load(run)
    recipe = dataclasses.replace(stored.info.recipe, optimizer="adamw", learning_rate=0.001)
    stored.replace(info=dataclasses.replace(stored.info, recipe=recipe)).save(run)
    code, result, _ = call(
        cross_architecture.main, capfd, run, "--networks", "WideConvNet", "--preset", "quick",
        "--json",
    )  # fmt: skip
    assert code == 0
    recipe = result["sets"][0]["recipes"]["WideConvNet"]
    assert (recipe["learning_rate"], recipe["batch_size"]) == (0.001, 25)


def test_its_figures_are_those_of_an_evaluation(run, capfd):
    code, result, _ = call(
        cross_architecture.main, capfd, run, "--repeats", "2", "--epochs", "3",
        "--networks", "MLP,ConvNet", "--seed", "7", "--json",
    )  # fmt: skip
    assert code == 0
    stored, digits = SyntheticSet.load(run), data.load("digits")
    assert stored.info.recipe.options["width"] == 8  # the set's own network keeps its options
    for name, options in (("MLP", {}), ("ConvNet", stored.info.recipe.options)):
        expected = train_and_test(
            networks.create(name, 10, **options),
            EvaluationSettings(eval_epochs=3).recipe(
                name, options, stored.info.recipe.augmentation
            ),
            stored.data(),
            data.to_device(digits.test, digits.preprocess),
            randomness.key(7, "test"),
            2,
            stored.learning_rate,
        )
        row = result["networks"][name]
        np.testing.assert_allclose(row["accuracies"], expected.values)
        assert row["mean"] == pytest.approx(np.mean(expected.values))
        assert row["std"] == pytest.approx(np.std(expected.values))


def test_sets_are_compared(run, capfd, tmp_path):
    shutil.copytree(run, tmp_path / "other")
    code, result, _ = call(
        cross_architecture.main, capfd, run, tmp_path / "other", "--repeats", "1", "--epochs", "1",
        "--networks", "MLP", "--out", tmp_path / "out", "--json",
    )  # fmt: skip
    assert code == 0 and not (run / "tasks").exists()
    first, second = result["sets"]
    assert (first["set"], second["set"]) == (str(run), str(tmp_path / "other"))
    assert first["networks"]["MLP"]["mean"] == second["networks"]["MLP"]["mean"]
    assert (tmp_path / "out" / "cross_architecture.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--networks", "ResNet8"), "did you mean 'ResNet18'"),
        (("--networks", "MLP,MLP"), "argument --networks: 'MLP,MLP': name each once"),
        (("--networks", "LeNet,VGG11"), "none of LeNet, VGG11 fits 8×8 images"),
        (("--repeats", "0"), "argument --repeats: 0: at least 1"),
        (("--epochs", "0"), "--epochs 0: at least 1"),
        (("nowhere",), "nowhere does not exist"),
    ],
)
def test_what_cannot_be_is_one_line(run, capfd, arguments, words):
    code, _, err = call(cross_architecture.main, capfd, run, *arguments)
    assert code == 2 and len(err) == 1 and words in err[0]
    assert not (run / "tasks").exists()


def test_a_set_of_another_dataset_is_not_compared(run, capfd):
    other = "mnist/mtt-ipc1"
    code, _, err = call(cross_architecture.main, capfd, run, other)
    assert code == 2 and f"{other} is a set of 'mnist', {run} one of 'digits'" in err[-1]
