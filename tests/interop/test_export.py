"""Every format holds the set: read back by the lines of its own README, trained on by train.py."""

import dataclasses
import importlib.util
import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from jdd import data, evaluation, synthetic
from jdd.errors import UserError
from jdd.interop import FORMATS, export
from jdd.synthetic import SetInfo, SyntheticSet
from jdd.training import Recipe

RECIPE = Recipe(options={"width": 16, "depth": 2}, epochs=150, augmentation="crop_rotate")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def made(digits, soft):
    info = SetInfo("digits", digits.class_names, digits.preprocess.spec(), 1, recipe=RECIPE)
    images, labels = synthetic.from_real(digits.train, digits, 1, np.random.default_rng(0))
    images = images + 0.01  # which 8 bits cannot hold
    logits = 3.0 * jnp.eye(10) + 0.1 * images.reshape(10, -1)[:, 20:30]
    return SyntheticSet(images, logits if soft else labels, jnp.float32(0.02), info)


def place(folder, kind):
    return folder / f"set{FORMATS[kind].ending}"


def needed(kind):
    package = {"pt": "torch", "huggingface": "pyarrow", "safetensors": "safetensors"}.get(kind)
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("kind", FORMATS)
def test_the_readme_reads_it_back(digits, tmp_path, monkeypatch, kind, soft):
    needed(kind)
    stored = made(digits, soft)
    path = export(stored, digits.preprocess, place(tmp_path, kind), kind)
    readme = path / "README.md" if path.is_dir() else path.with_name(f"{path.name}.README.md")
    text = readme.read_text()
    card = text.startswith("---\npretty_name: ") and "\nlicense: cc-by-4.0\n" in text
    assert card == (kind == "huggingface")
    (code,) = re.findall(r"## NumPy\n\n```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(path if path.is_dir() else tmp_path)
    names = {}
    exec(compile(code, str(readme), "exec"), names)
    loss = 0.005 / float(digits.preprocess.std[0]) if kind == "png" else 0  # half an 8-bit step
    inside = np.clip(stored.images, *(digits.preprocess(np.uint8([[[0]], [[255]]])).ravel()))
    wanted = inside if kind == "png" else stored.images
    np.testing.assert_allclose(names["images"], wanted, atol=loss)
    if soft:
        shares = [
            np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (names["labels"], stored.labels)
        ]
        np.testing.assert_allclose(*shares, atol=1e-5)
    else:
        assert names["labels"].tolist() == list(range(10)) and names["labels"].dtype == np.int64
    assert "step size | 0.02, a tenth of it after half" in text
    with pytest.raises(UserError, match="exists already"):
        export(stored, digits.preprocess, path, kind)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("soft", [False, True])
def test_train_py_reaches_what_the_plain_recipe_does(digits, tmp_path, soft):
    needed("pt")
    stored = made(digits, soft)
    export(stored, digits.preprocess, tmp_path / "set", "pt")
    np.savez(tmp_path / "test.npz", images=digits.test.images, labels=digits.test.labels)
    command = [sys.executable, tmp_path / "set" / "train.py", "--test", tmp_path / "test.npz"]
    found = subprocess.run(
        [*map(str, command), "--networks", "20"], check=True, capture_output=True, text=True
    )
    theirs = float(found.stdout.split()[0])
    plain = dataclasses.replace(RECIPE, augmentation="none")
    ours = evaluation.evaluate(stored, digits, networks=20, recipe=plain)
    assert abs(theirs - 100 * ours.mean) < 1.5


def test_an_unknown_format_and_a_wrong_place_are_refused(digits, tmp_path):
    stored = made(digits, False)
    with pytest.raises(UserError, match="`format` 'zip'"):
        export(stored, digits.preprocess, tmp_path / "set", "zip")
    with pytest.raises(UserError, match=r"npz is a file that ends in \.npz"):
        export(stored, digits.preprocess, tmp_path / "set", "npz")
    with pytest.raises(UserError, match=r"ends in \.npz or \.safetensors"):
        export(stored, digits.preprocess, tmp_path / "set.npy")
    assert not list(tmp_path.iterdir())
