"""PAD from real digits to a set with soft labels, and what is done with such a set."""

import csv
import json
import shlex
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

from jdd import SyntheticSet, data
from jdd.cli import distill, evaluate, export, results, score_difficulty
from jdd.experts import ExpertStore
from tests.cli.running import call, image_size

FEW = shlex.split(
    "--method pad --dataset digits --preset quick --width 8 --num-experts 2 --train-epochs 5 "
    "--lr-teacher 0.1 --expert-optimizer gsam --score-networks 1 --score-epochs 1 --iterations 4 "
    "--syn-steps 3 --max-start-epoch 3 --threshold 0 --drop 0.3 --eval-every 4 --eval-epochs 5 "
    "--eval-networks 1 --full-data-epochs 0 --no-eval-random"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    base = tmp_path_factory.mktemp("pad")
    places = ["--out", str(base / "run"), "--experts", str(base / "experts")]
    assert distill.main([*FEW, *places]) == 0
    return SimpleNamespace(run=base / "run", experts=base / "experts")


def test_labels_are_the_experts_and_then_learned(made, capfd):
    """A run of no updates has the labels that they start from."""
    learned = SyntheticSet.load(made.run)
    assert learned.labels.shape == (10, 10) and learned.labels.dtype == np.float32
    store = ExpertStore.open(made.experts)
    assert (
        store.spec.settings.curriculum == "pad" and store.spec.settings.expert_optimizer == "gsam"
    )
    assert (made.experts / "difficulty" / "checksums.json").exists()
    out = made.run.parent / "small-steps"
    code, _, err = call(
        distill.main, capfd, *FEW, "--out", out, "--experts", made.experts,
        *("--iterations", "1", "--lr-img", "1e-9", "--lr-label", "0"),
    )  # fmt: skip
    assert code == 0 and any(line.startswith("experts: 2 in") for line in err)
    begun = SyntheticSet.load(out)
    rows = SyntheticSet.load(out).labels
    assert np.abs(np.asarray(learned.labels - rows)).max() > 1e-4
    from jdd import networks

    network = networks.create("ConvNet", 10, **store.spec.options)
    logits = np.stack([network.apply({"params": store.read(e, 5)}, begun.images) for e in range(2)])
    for i in range(10):
        right = [each[i] for each in logits if each[i].argmax() == i]
        if right:
            np.testing.assert_allclose(rows[i], np.mean(right, 0), rtol=1e-3, atol=1e-4)


def test_noise_gets_the_labels_of_its_class(made, capfd):
    out = made.run.parent / "noise"
    arguments = [*FEW, "--out", out, "--experts", made.experts, "--init", "noise"]
    still = [*arguments, "--iterations", "1", "--lr-img", "1e-9", "--lr-label", "0"]
    code, _, _ = call(distill.main, capfd, *still)
    labels = np.asarray(SyntheticSet.load(out).labels)
    assert code == 0 and (labels.argmax(-1) == np.arange(10)).mean() > 0.5
    from jdd import experts, networks

    store = ExpertStore.open(made.experts)
    network = networks.create("ConvNet", 10, **store.spec.options)
    images = SyntheticSet.load(out).images
    told = experts.label_logits(store, network, images, np.arange(10), 2)
    assert np.isnan(told).any()  # whatever experts are right about by chance keeps their words
    certain = np.exp(labels).max(-1) / np.exp(labels).sum(-1)
    for label in np.flatnonzero(np.isnan(told).all(-1)):
        assert labels[label].argmax() == label and certain[label] > 0.2


def test_such_a_set_is_evaluated_and_started_from(made, capfd):
    code, result, _ = call(evaluate.main, capfd, made.run, "--networks", "1", "--json")
    stored = json.loads((made.run / "result.json").read_text())
    assert code == 0 and result["accuracies"] == pytest.approx(stored["best"]["accuracies"])
    out = made.run.parent / "further"
    arguments = [*FEW, "--out", out, "--experts", made.experts, "--init", made.run]
    code, _, _ = call(distill.main, capfd, *arguments)
    assert code == 0 and SyntheticSet.load(out).labels.shape == (10, 10)


def test_the_picture_shows_each_label_below_its_image(made):
    with Image.open(made.run / "images" / "best.png") as opened:
        picture = np.asarray(opened)
    shares = np.asarray(jax.nn.softmax(SyntheticSet.load(made.run).labels))
    side, words = 96, 2 * 18  # ten images of 8×8 in a row, enlarged, a strip of 8 below each
    assert picture.shape == (words + 4 + side + 8 + 4, 4 + 10 * (side + 4))
    for i in range(10):
        strip = picture[words + 4 + side + 4, 4 + i * (side + 4) :][:side]
        seen = 1 - strip[np.arange(10) * side // 10 + 3] / 255
        np.testing.assert_allclose(seen, shares[i], atol=0.01)


def test_export_keeps_soft_labels(made, capfd, tmp_path):
    stored = SyntheticSet.load(made.run)
    code, result, _ = call(export.main, capfd, made.run, "--to", tmp_path / "set.npz", "--json")
    assert code == 0 and result["images"] == 10
    with np.load(tmp_path / "set.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], stored.images)
        np.testing.assert_array_equal(arrays["label_logits"], stored.labels)
        np.testing.assert_array_equal(arrays["labels"], stored.hard_labels())
        assert arrays["pixels"].dtype == np.uint8 and float(arrays["learning_rate"]) > 0
        assert json.loads(str(arrays["info"]))["method"] == "pad"
    code, _, _ = call(export.main, capfd, made.run, "--to", tmp_path / "folder")
    assert code == 0
    with (tmp_path / "folder" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    shares = np.asarray(jax.nn.softmax(stored.labels))
    digits = data.load("digits")
    pixels = np.asarray(digits.preprocess.invert(stored.images))
    for i, row in enumerate(rows):
        written = [float(row[name]) for name in digits.class_names]
        np.testing.assert_allclose(written, shares[i], atol=1e-5)
        with Image.open(tmp_path / "folder" / row["file"]) as opened:
            image = np.asarray(opened)
        expected = np.clip(pixels[i, ..., 0], 0, 1) * 255
        np.testing.assert_allclose(image, expected, atol=0.52)  # mean and std have 4 digits
    code, _, err = call(export.main, capfd, made.run, "--to", tmp_path / "folder")
    assert code == 2 and "exists already" in err[0] and len(err) == 1
    code, _, err = call(export.main, capfd, made.run, "--to", tmp_path / "set.npy")
    assert code == 2 and "ends in .npz" in err[0] and not (tmp_path / "set.npy").exists()


@pytest.mark.slow
def test_a_dry_run_says_what_it_will_take_and_writes_nothing(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, result, _ = call(distill.main, capfd, *FEW, "--dry-run", "--json")
    assert code == 0 and not list(tmp_path.iterdir())
    # Two blocks of a 3×3 convolution and an instance norm, 2×2 pixels left, ten classes.
    by_hand = (9 + 1 + 2) * 8 + (9 * 8 + 1 + 2) * 8 + (4 * 8 + 1) * 10
    assert result["parameters"] == by_hand
    assert result["learned"] == 10 * 64 + 10 * 10 + 1
    assert result["experts_bytes"] == 4 * 2 * 6 * by_hand
    assert result["peak_bytes"] > 4 * by_hand
    seconds = result["seconds"]
    assert seconds["distilling"] == pytest.approx(4 * result["seconds_per_update"], abs=0.06)
    assert seconds["total"] >= seconds["experts"] + seconds["evaluating"] - 0.2
    code, _, _ = call(distill.main, capfd, *FEW, "--method", "random", "--dry-run", "--json")
    assert code == 2  # flags of pad
    code, _, err = call(distill.main, capfd, *FEW, "--dry-run", "--expert-epochs", 99)
    assert code == 2 and "--expert-epochs 99" in err[-1]  # as without --dry-run
    short = ["--method", "random", "--dataset", "digits", "--preset", "quick", "--dry-run"]
    code, result, _ = call(distill.main, capfd, *short, "--width", "8", "--json")
    assert code == 0 and "peak_bytes" not in result


def test_difficulty_is_scored_stored_and_shown(capfd, tmp_path):
    arguments = shlex.split(
        "--dataset digits --preset quick --score el2n --width 8 --score-networks 1 "
        "--score-epochs 1 --real-images 200 --json"
    )
    out = tmp_path / "scores"
    code, result, _ = call(score_difficulty.main, capfd, *arguments, "--out", out)
    assert code == 0 and result["images"] == 200 and result["score"] == "el2n"
    assert 0 <= result["quantiles"][0] <= result["quantiles"][-1] <= 2**0.5
    assert image_size(out / "easiest-and-hardest.png") == (4 + 17 * 100, 4 + 10 * 100)
    code, again, err = call(score_difficulty.main, capfd, *arguments, "--out", out)
    assert code == 0 and again["quantiles"] == result["quantiles"]
    assert any("in " + str(out) in line for line in err)
    code, _, err = call(score_difficulty.main, capfd, *arguments, "--score-lr", "9", "--out", out)
    assert code == 2 and "made from something else (settings)" in err[-1]
    code, _, err = call(results.main, capfd, out, tmp_path / "RESULTS.md")
    assert code == 2 and "holds no result.json" in err[-1]  # as it is no run
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.json").write_text("{}")
    code, _, err = call(score_difficulty.main, capfd, *arguments, "--out", tmp_path / "run")
    assert code == 2 and "it holds a run" in err[-1]
    code, _, err = call(score_difficulty.main, capfd, "--dataset", "digits", "--score", "hard")
    assert code == 2 and "--score 'hard': did you mean" in err[0]


def test_what_cannot_be_is_said_before_anything_is_trained(capfd, tmp_path):
    """And leaves no experts behind that a corrected command would not fit."""
    places = ["--out", tmp_path / "run", "--experts", tmp_path / "experts"]
    for wrong, words in [
        (("--norm", "batch"), "pad needs a network without batch norm"),
        (("--score-lr", "0"), "--score-lr 0.0: it must be above 0"),
        (("--filter", "deep"), "did you mean 'depth'"),
        (("--initial-fraction", "2"), "--initial-fraction 2.0"),
    ]:
        code, _, err = call(distill.main, capfd, *FEW, *places, *wrong)
        assert code == 2 and words in err[-1]
        assert not (tmp_path / "experts").exists() and not (tmp_path / "run").exists()
