"""Sets of images in a folder that has moved since."""

import shutil

import numpy as np
import pytest
from PIL import Image

from jdd import SyntheticSet, data, synthetic
from jdd.cli import cross_architecture, evaluate
from jdd.synthetic import SetInfo
from jdd.training import Recipe
from tests.cli.running import call

QUICK = ("--epochs", "1", "--json")


def images(place, seed=0):
    """A folder of 12 small pictures, and a set of two of them, its path."""
    rng = np.random.default_rng(seed)
    for i in range(12):
        picture = place / f"{('train', 'test')[i % 2]}/{('cat', 'dog')[i // 2 % 2]}/{i}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(picture)
    return made(place)


def made(place):
    """A set of two images of a folder, its path."""
    dataset = data.load(f"folder:{place}")
    recipe = Recipe("MLP", {"width": 8})
    spec = dataset.preprocess.spec()
    info = SetInfo(
        *(dataset.name, dataset.class_names, spec, 1),
        recipe=recipe,
        fingerprint=dataset.fingerprint,
    )
    drawn, labels = synthetic.from_real(dataset.train, dataset, 1, np.random.default_rng(0))
    run = place.parent / f"run-{place.name}"
    SyntheticSet(drawn, labels, None, info).save(run)
    return run


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("JDD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("JDD_DATA_DIR", raising=False)
    return images(tmp_path / "pets#2")  # no subset, a name


def test_its_new_folder_is_named_by_data_dir(run, tmp_path, capfd):
    code, before, _ = call(evaluate.main, capfd, run, *QUICK)
    assert code == 0
    (tmp_path / "new").mkdir()
    (tmp_path / "pets#2").rename(tmp_path / "new" / "pets#2")

    code, _, err = call(evaluate.main, capfd, run, *QUICK)
    assert code == 2 and err == [
        f"error: {run} is a set of folder:{tmp_path}/pets#2, which does not exist: name its new "
        "folder by --data-dir"
    ]
    for place in ("new", "new/pets#2"):
        code, after, _ = call(evaluate.main, capfd, run, "--data-dir", tmp_path / place, *QUICK)
        assert code == 0 and after["accuracies"] == before["accuracies"]
        assert after["dataset"] == f"folder:{tmp_path}/new/pets#2"

    images(tmp_path / "others", seed=1)
    (tmp_path / "empty").mkdir()
    for place, words in (
        ("none", f"--data-dir {tmp_path}/none: it does not exist"),
        ("empty", f"{run} is a set of folder:{tmp_path}/empty: no folders in it: one a class is"),
        ("others", f"{run} does not fit 'folder:{tmp_path}/others': made from other images"),
    ):
        code, _, err = call(evaluate.main, capfd, run, "--data-dir", tmp_path / place)
        assert code == 2 and err[-1].startswith(f"error: {words}")


def test_a_moved_file_of_arrays(tmp_path, capfd, monkeypatch):
    monkeypatch.delenv("JDD_DATA_DIR", raising=False)
    (tmp_path / "old").mkdir()
    place = tmp_path / "old" / "mine.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
    np.savez(place, images=pixels, labels=np.arange(20) % 2)
    dataset = data.load(f"arrays:{place}")
    info = SetInfo(
        *(dataset.name, dataset.class_names, dataset.preprocess.spec(), 1),
        recipe=Recipe("MLP", {"width": 8}),
    )
    drawn, labels = synthetic.from_real(dataset.train, dataset, 1, np.random.default_rng(0))
    SyntheticSet(drawn, labels, None, info).save(tmp_path / "run")
    (tmp_path / "old").rename(tmp_path / "new")
    code, _, err = call(evaluate.main, capfd, tmp_path / "run", *QUICK)
    assert code == 2 and err[-1].endswith("does not exist: name its new folder by --data-dir")
    arguments = (tmp_path / "run", "--data-dir", tmp_path / "new", *QUICK)
    assert call(evaluate.main, capfd, *arguments)[0] == 0


def test_sets_of_the_same_images_by_two_names_are_compared(run, tmp_path, capfd):
    shutil.copytree(tmp_path / "pets#2", tmp_path / "copied")
    again = made(tmp_path / "copied")
    names = ("--networks", "MLP", "--repeats", "1")
    code, result, _ = call(cross_architecture.main, capfd, run, again, *names, *QUICK)
    assert code == 0
    first, second = (each["networks"]["MLP"]["mean"] for each in result["sets"])
    assert first == second
    others = images(tmp_path / "others", seed=1)
    code, _, err = call(cross_architecture.main, capfd, run, others, *names, *QUICK)
    assert code == 2 and err[-1].endswith("sets of one dataset can be compared")
