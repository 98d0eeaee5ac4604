"""Runs whose sets store other than pixels, of every kind of method and from every start."""

import json

import numpy as np
import pytest

from jdd import SyntheticSet
from jdd.cli import distill, evaluate, export, nas
from jdd.synthetic import Dct, MultiFormation
from tests.cli.running import call

FEW = ["--dataset", "digits", "--preset", "quick", "--width", "8", "--eval-epochs", "5"]
FEW += ["--eval-networks", "1", "--full-data-epochs", "0", "--no-eval-random"]
UPDATES = {
    "dm": ["--iterations", "2", "--batch-real", "8"],
    "dsa": ["--iterations", "2", "--batch-real", "8"],
    "mtt": ["--iterations", "2", "--syn-steps", "3", "--num-experts", "1", "--train-epochs", "3"],
    "datm": ["--iterations", "2", "--syn-steps", "3", "--num-experts", "1", "--train-epochs", "3"],
    "random": [],
    "herding": ["--feature-epochs", "1"],
}
UPDATES = {
    method: [*words, *(["--max-start-epoch", "1"] if "--syn-steps" in words else [])]
    for method, words in UPDATES.items()
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("storage")


def run(capfd, method, out, *flags):
    arguments = [*FEW, "--method", method, *UPDATES[method], "--out", out, *flags, "--json"]
    code, found, err = call(distill.main, capfd, *arguments)
    assert code == 0, err
    return found


_LONG = ("dsa", "mtt", "datm", "random")  # each of whose kind another is tried


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=pytest.mark.slow if name in _LONG else ()) for name in UPDATES],
)
def test_every_method_fills_the_same_storage_with_more_images(base, capfd, method):
    found = run(capfd, method, base / method, "--factor", "2")
    made = SyntheticSet.load(base / method)
    assert isinstance(made.decoder, MultiFormation)
    assert made.storage.shape == (10, 8, 8, 1) and made.images.shape == (40, 8, 8, 1)
    learned = 40 * 10 + 1 if method == "datm" else int(method == "mtt")
    assert made.numbers == 640 + learned
    assert found["storage"] == {
        "numbers": made.numbers,
        "labels": 400 if method == "datm" else 0,
        "images": 40,
        "decoder": "pixels",
        "factor": 2,
        "formation": "uniform",
        "coefficients": 0,
    }
    assert (base / method / "images" / "best-stored.png").exists()
    code, judged, _ = call(evaluate.main, capfd, base / method, "--networks", "1", "--json")
    assert code == 0 and judged["accuracies"] == found["accuracies"]
    if method in ("dm", "mtt"):
        start = run(capfd, method, base / "other", "--factor", "2", "--seed", "1", "--overwrite")
        assert start["accuracies"] != []


@pytest.mark.slow
def test_coefficients_are_learned(base, capfd):
    run(capfd, "dm", base / "dct", "--decoder", "dct", "--coefficients", "32")
    made = SyntheticSet.load(base / "dct")
    assert isinstance(made.decoder, Dct)
    assert made.storage.shape == (20, 32, 1) and made.images.shape == (20, 8, 8, 1)
    again = run(
        capfd,
        "dm",
        base / "dct2",
        "--decoder",
        "dct",
        "--coefficients",
        "32",
        "--init",
        base / "dct",
    )
    moved = SyntheticSet.load(base / "dct2" / "last")
    assert again["init"].endswith("dct") and not np.array_equal(moved.storage, made.storage)


def test_a_start_from_noise_or_from_a_stored_set(base, capfd):
    run(capfd, "dm", base / "noise", "--factor", "2", "--init", "noise")
    assert SyntheticSet.load(base / "noise").storage.shape == (10, 8, 8, 1)
    run(capfd, "random", base / "four", "--ipc", "4")
    run(capfd, "dm", base / "from-four", "--factor", "2", "--ipc", "1", "--init", base / "four")
    assert SyntheticSet.load(base / "from-four").images.shape == (40, 8, 8, 1)
    run(capfd, "dm", base / "on", "--factor", "2", "--init", base / "noise")


def test_exports_have_what_is_stored_and_what_it_decodes_to(base, capfd, tmp_path):
    run(capfd, "random", base / "random", "--factor", "2", "--overwrite")
    made = SyntheticSet.load(base / "random")
    for to, place in (("set.npz", "set.npz"), ("folder", "folder/storage.npz")):
        assert call(export.main, capfd, base / "random", "--to", tmp_path / to)[0] == 0
        arrays = np.load(tmp_path / place)
        np.testing.assert_array_equal(arrays["storage"], made.storage)
        assert json.loads(str(arrays["decoder"]))["factor"] == 2
    np.testing.assert_array_equal(np.load(tmp_path / "set.npz")["images"], made.images)
    assert len(list((tmp_path / "folder").glob("*/*.png"))) == 40


@pytest.mark.slow
def test_a_search_gives_random_images_the_same_storage(base, capfd, tmp_path):
    run(capfd, "random", base / "random", "--factor", "2", "--overwrite")
    few = ["--candidates", "2", "--epochs", "1", "--full-epochs", "1"]
    code, found, err = call(nas.main, capfd, base / "random", "--out", tmp_path, *few, "--json")
    assert code == 0 and found["sampled"] == 2, err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--method", "dm", "--factor", "5"], "--factor 5: from 1 to 4"),
        (["--method", "herding", "--decoder", "dct"], "--decoder dct: herding chooses real images"),
        (["--method", "dm", "--decoder", "dct", "--factor", "2"], "--factor 2: "),
        (["--method", "random", "--factor", "2", "--ipc", "40"], "--ipc 160: at most"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, capfd, flags, words):
    code, _, err = call(distill.main, capfd, *FEW, *flags, "--out", tmp_path / "run")
    assert code == 2 and words in err[-1] and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_stored_set_of_another_storage_is_refused(base, capfd, tmp_path):
    run(capfd, "random", base / "random", "--factor", "2", "--overwrite")
    for flags, words in (
        (["--ipc", "1"], "stores other numbers than this run"),
        (["--ipc", "1", "--factor", "4"], "stores other numbers than this run"),
    ):
        arguments = [*FEW, "--method", "dm", "--init", base / "random", "--out", tmp_path / "run"]
        code, _, err = call(distill.main, capfd, *arguments, *flags)
        assert code == 2 and words in err[-1]
    run(capfd, "random", base / "three", "--ipc", "3")
    arguments = [*FEW, "--method", "dm", "--init", base / "three", "--out", tmp_path / "run"]
    code, _, err = call(distill.main, capfd, *arguments, "--factor", "2", "--ipc", "1")
    assert code == 2 and "holds 3 images per class: 4 are needed in the place of 1" in err[-1]
