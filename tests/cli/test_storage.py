"""Runs whose sets store other than pixels, of every kind of method and from every start."""

import json

import numpy as np
import pytest

from jdd import SyntheticSet
from jdd.cli import distill, evaluate, export, nas
from jdd.methods.registry import METHODS
from jdd.synthetic import Dct, MultiFormation
from tests.cli.running import call

FEW = ["--dataset", "digits", "--preset", "quick", "--width", "8", "--eval-epochs", "5"]
FEW += ["--eval-networks", "1", "--full-data-epochs", "0", "--no-eval-random"]
FEW_REAL = ["--iterations", "2", "--batch-real", "8"]
EXPERTS = ["--iterations", "2", "--num-experts", "1", "--train-epochs", "3"]
TRAJECTORY = [*EXPERTS, "--syn-steps", "3", "--max-start-epoch", "1"]
UPDATES = {
    **dict.fromkeys(("dc", "dsa", "dm", "datadam"), FEW_REAL),
    "idc": [*FEW_REAL, "--train-steps", "1", "--batch-train", "8"],
    "bptt": [*FEW_REAL, "--syn-steps", "3", "--window", "2"],
    "frepo": [*FEW_REAL, "--pool", "2", "--pool-steps", "2"],
    "ncfm": [*EXPERTS, "--expert-epochs", "3", "--batch-real", "8", "--frequencies", "8"],
    **dict.fromkeys(("mtt", "datm", "pad"), TRAJECTORY),
    "random": [],
    "herding": ["--feature-epochs", "1"],
    "k_center": ["--feature-epochs", "1"],
}
MOVE = [name for name in UPDATES if not METHODS[name].is_coreset]
LARGE = ["--factor", "2", "--ipc", "40"]  # of which a class has too few images
FACTOR = ["--decoder", "pixels", "--factor", "2"]  # quick presets may store frequencies
# Numbers that are stored and are no pixels: label logits of 40 images, a step size.
LABELS = {"datm": 401, "pad": 401, "frepo": 400, "mtt": 1, "bptt": 1}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("storage")


def run(capfd, method, out, *flags):
    arguments = [*FEW, "--method", method, *UPDATES[method], "--out", out, *flags, "--json"]
    code, result, err = call(distill.main, capfd, *arguments)
    assert code == 0, err
    return result


_SHORT = ("dm", "herding", "ncfm")  # the others repeat them in part


@pytest.mark.parametrize(
    "method",
    [pytest.param(name, marks=() if name in _SHORT else pytest.mark.slow) for name in UPDATES],
)
def test_every_method_fills_the_same_storage_with_more_images(base, capfd, method):
    result = run(capfd, method, base / method, *FACTOR)
    made = SyntheticSet.load(base / method)
    assert isinstance(made.decoder, MultiFormation)
    assert made.storage.shape == (10, 8, 8, 1) and made.images.shape == (40, 8, 8, 1)
    assert made.numbers == 640 + LABELS.get(method, 0)
    assert result["storage"] == {
        "numbers": made.numbers,
        "labels": 400 if LABELS.get(method, 0) >= 400 else 0,
        "images": 40,
        "decoder": "pixels",
        "factor": 2,
        "formation": "uniform",
        "coefficients": 0,
    }
    assert (base / method / "images" / "best-stored.png").exists()
    code, evaluated, _ = call(evaluate.main, capfd, base / method, "--networks", "1", "--json")
    assert code == 0 and evaluated["accuracies"] == result["accuracies"]
    if method in ("dm", "mtt"):
        start = run(capfd, method, base / "other", "--factor", "2", "--seed", "1", "--overwrite")
        assert start["accuracies"] != []


@pytest.mark.slow
@pytest.mark.parametrize("method", MOVE)
@pytest.mark.parametrize("storage", ["factor", "dct"])
def test_every_method_moves_what_is_stored_from_every_start(base, capfd, method, storage):
    words, decoder, shape, images = {
        "factor": (FACTOR, MultiFormation, (10, 8, 8, 1), 40),
        "dct": (["--decoder", "dct", "--coefficients", "32"], Dct, (20, 32, 1), 20),
    }[storage]
    place = base / f"{method}-{storage}"
    # Factor 2 from real images is the test above.
    for start in ("real", "noise", place / "noise")[storage == "factor" :]:
        out = place / ("stored" if start == place / "noise" else start)
        assert run(capfd, method, out, *words, "--init", start)["init"].endswith(str(start))
        made = SyntheticSet.load(out / "last")
        assert isinstance(made.decoder, decoder)
        assert made.storage.shape == shape and made.images.shape == (images, 8, 8, 1)
    initial = SyntheticSet.load(place / "noise").storage
    moved = np.abs(made.storage - initial).reshape(len(initial), -1).max(axis=1)
    assert np.all(moved > 0) and np.all(np.isfinite(moved))


def test_every_registered_method_is_here():
    assert UPDATES.keys() == METHODS.keys()


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
    code, result, err = call(nas.main, capfd, base / "random", "--out", tmp_path, *few, "--json")
    assert code == 0 and result["sampled"] == 2, err


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--method", "dm", "--init", "noise", *LARGE, "--eval-random"],
            "switch --eval-random off",
        ),
        (["--method", "dm", "--factor", "5"], "--factor 5: from 1 to 4"),
        (["--method", "herding", "--decoder", "dct"], "--decoder dct: herding chooses real images"),
        (["--method", "dm", "--decoder", "dct", "--factor", "2"], "--factor 2: "),
        (["--method", "random", *LARGE], "--ipc 40: these store 160 real"),
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
