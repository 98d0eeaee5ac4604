"""Exports of a set with ZCA: its real data is needed for pictures alone."""

import shutil

import numpy as np
from PIL import Image

from jdd import SyntheticSet, data, synthetic
from jdd.cli import export
from jdd.synthetic import SetInfo
from tests.cli.running import call


def test_a_set_with_zca_whose_data_is_gone(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("JDD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("JDD_DATA_DIR", raising=False)
    rng = np.random.default_rng(0)
    for i in range(40):
        picture = tmp_path / f"pets/{('train', 'test')[i % 2]}/{('cat', 'dog')[i // 2 % 2]}/{i}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(picture)
    dataset = data.load(f"folder:{tmp_path}/pets", preprocessing="zca")
    info = SetInfo(dataset.name, dataset.class_names, dataset.preprocess.spec(), 1)
    images, labels = synthetic.from_real(dataset.train, dataset, 1, rng)
    run = tmp_path / "run"
    SyntheticSet(images, labels, None, info).save(run)
    shutil.rmtree(tmp_path / "pets")

    assert call(export.main, capfd, run, "--to", tmp_path / "cached.npz")[0] == 0
    with np.load(tmp_path / "cached.npz") as arrays:
        assert arrays["pixels"].shape == (2, 8, 8, 3)
    shutil.rmtree(tmp_path / "cache")
    assert export.main([str(run), "--to", str(tmp_path / "set.npz")]) == 0
    printed = capfd.readouterr().out.splitlines()
    matrix = f"the ZCA matrix of the training images of {dataset.name}"
    why = f"{run} is a set of {dataset.name}, which does not exist: name its new folder by"
    assert printed[1] == f"without pixels: they need {matrix} ({why} --data-dir)"
    with np.load(tmp_path / "set.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], images)
        assert "pixels" not in arrays
    code, _, err = call(export.main, capfd, run, "--to", tmp_path / "pictures")
    assert code == 2 and len(err) == 1 and not (tmp_path / "pictures").exists()
    assert f"--format png: pictures need {matrix}" in err[0] and "--dataset" not in err[0]
