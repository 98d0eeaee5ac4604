"""MHIST as it is downloaded, to a result: two classes, one twice as large as the other."""

import json

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from jdd import SyntheticSet, data, networks, randomness, training
from jdd.cli import cost, distill, evaluate
from jdd.report.run import summary
from jdd.runs import RunResult
from jdd.training import Trainer
from tests.cli.running import call, json_lines

HEADER = "Image Name,Majority Vote Label,Number of Annotators who Selected SSA (Out of 7),Partition"
COUNTS = {("HP", "train"): 24, ("SSA", "train"): 12, ("HP", "test"): 20, ("SSA", "test"): 10}
SMALL = [
    *("--method", "dm", "--dataset", "mhist", "--image-size", "16", "--width", "8", "--depth", "2"),
    *("--iterations", "4", "--eval-every", "2", "--eval-epochs", "20", "--eval-networks", "2"),
    *("--full-data-epochs", "1", "--preset", "quick", "--no-eval-dsa", "--batch-real", "8"),
]


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory):
    """The classes differ in colour, but for noise that makes some look like the other."""
    folder = tmp_path_factory.mktemp("mhist")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    rows = [HEADER]
    for (label, partition), count in COUNTS.items():
        for i in range(count):
            name = f"MHIST_{label}_{partition}_{i}.png"
            shade = (110 if label == "HP" else 140) + rng.normal(0, 25)
            pixels = np.clip(rng.normal(shade, 40, (24, 24, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / name)
            rows.append(f"{name},{label},{0 if label == 'HP' else 6},{partition}")
    (folder / "annotations.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def run(downloaded, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    assert distill.main([*SMALL, "--data-dir", str(downloaded), "--out", str(out)]) == 0
    return out


def logits_of(run, mhist):
    """Of the two networks behind the result, trained here step by step as the set says."""
    stored = SyntheticSet.load(run, mhist)
    recipe = stored.info.recipe
    network = networks.create(recipe.network, 2, **recipe.options)
    train = stored.data()
    trainer = Trainer.of(network, recipe, 2)
    for i in range(2):
        key = jax.random.fold_in(randomness.key(0, "test"), i)
        state = training.init(trainer, key, (16, 16, 3))
        state = training.run_jit(trainer, state, train, training.schedule(recipe), recipe.epochs)
        test = data.to_device(mhist.test, mhist.preprocess)
        yield np.asarray(network.apply({"params": state.params}, test.preprocess(test.images)))


def test_the_result_holds_what_scikit_learn_computes(downloaded, run):
    result = json.loads((run / "result.json").read_text())
    mhist = data.load("mhist", downloaded, image_size=16)
    assert np.bincount(mhist.test.labels).tolist() == [20, 10]
    logits = list(logits_of(run, mhist))
    balanced = [balanced_accuracy_score(mhist.test.labels, one.argmax(1)) for one in logits]
    chance = [np.exp(one[:, 1]) / np.exp(one).sum(1) for one in logits]  # of the second class
    auc = [roc_auc_score(mhist.test.labels, one) for one in chance]
    assert result["accuracies"] == pytest.approx(
        [np.mean(one.argmax(1) == mhist.test.labels) for one in logits]
    )
    for figures in (result, result["best"]):
        assert figures["balanced_accuracy_mean"] == pytest.approx(np.mean(balanced))
        assert figures["balanced_accuracy_std"] == pytest.approx(np.std(balanced))
        assert figures["auc_mean"] == pytest.approx(np.mean(auc))
        assert figures["auc_std"] == pytest.approx(np.std(auc))
    assert result["auc_mean"] > 0.6  # there is something to learn
    for baseline in result["baselines"].values():
        assert 0 <= baseline["balanced_accuracy_mean"] <= 1 and 0 <= baseline["auc_mean"] <= 1


def test_the_best_set_is_chosen_by_balanced_accuracy(run):
    """Three of HP and one of SSA are held out: accuracy is in quarters, balanced in sixths."""
    lines = json_lines(run / "metrics.jsonl")
    looks = [line["validation_accuracy"] for line in lines if "validation_accuracy" in line]
    assert len(looks) == 3 and all(6 * look == pytest.approx(round(6 * look)) for look in looks)
    assert any(4 * look != round(4 * look) for look in looks)
    assert json.loads((run / "result.json").read_text())["best"]["validation_accuracy"] == max(
        looks
    )


def test_the_scripts_say_the_figures(downloaded, run, tmp_path, capfd):
    result = json.loads((run / "result.json").read_text())
    words = f"AUC {result['auc_mean']:.3f} ± {result['auc_std']:.3f}"
    assert words in summary(RunResult.load(run / "result.json"), run)
    places = ["--data-dir", downloaded]
    capfd.readouterr()
    assert evaluate.main([str(a) for a in (run, *places, "--networks", 2, "--json")]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert words in lines[1] and "balanced accuracy" in lines[1]
    evaluated = json.loads(lines[-1])
    fields = [name for name in result if name.startswith(("accurac", "balanced", "auc"))]
    assert len(fields) == 9 and {f: evaluated[f] for f in fields} == {f: result[f] for f in fields}
    code, compared, _ = call(
        cost.main, capfd, run, *places, "--real-epochs", 1, "--out", tmp_path, "--json"
    )
    assert code == 0 and "| AUC, %" in (tmp_path / "cost.md").read_text()
    first = compared["synthetic"]
    assert first["accuracy"] == evaluated["accuracies"][0]
    assert 0 <= first["auc"] <= 1 and 0 <= first["balanced_accuracy"] <= 1
