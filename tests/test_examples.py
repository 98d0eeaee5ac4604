"""The examples of the documents, as a user runs them: in code, and as plugins of a run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import jdd
from jdd import data, plugins, synthetic
from jdd.distillation import Loop
from jdd.errors import UserError
from jdd.networks import registry as networks
from jdd.training import Recipe

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = {name: ROOT / "examples" / f"own_{name}.py" for name in ("method", "network", "dataset")}


@pytest.fixture
def registered(monkeypatch, tmp_path):
    """All three, until the test is over."""
    from jdd.data import registry as datasets
    from jdd.methods import registry as methods

    monkeypatch.setenv("JDD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(plugins, "_LOADED", {})
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))
    monkeypatch.setattr(networks, "_REGISTERED", {})
    monkeypatch.setattr(datasets, "_REGISTERED", {})
    for path in EXAMPLES.values():
        plugins.load(path)


def start_of(dataset, recipe):
    info = synthetic.SetInfo(
        dataset.name, dataset.class_names, dataset.preprocess.spec(), ipc=1, recipe=recipe
    )
    drawn = synthetic.from_real(dataset.train, dataset, 1, np.random.default_rng(0))
    return jdd.SyntheticSet(*drawn, None, info)


def test_the_method_is_short():
    assert len(EXAMPLES["method"].read_text().splitlines()) <= 40


@pytest.mark.parametrize(
    ("dataset", "network", "options", "rate", "gain"),
    [
        ("digits", "ConvNet", {"width": 32, "depth": 2}, 0.3, 0.1),
        ("parity", "TwoLayers", {"hidden": 64}, 0.01, 0.05),
    ],
)
def test_they_teach_more_than_what_they_start_from(
    registered, dataset, network, options, rate, gain
):
    loaded = jdd.load(dataset)
    module = jdd.create_network(network, loaded.num_classes, **options)
    start = start_of(loaded, Recipe(network=network, options=options, epochs=100))
    method = jdd.create_method("moments", module, lr_img=rate)
    real = data.to_device(loaded.train, loaded.preprocess, loaded.num_classes)
    outcome = jdd.distill(method, start, real, jax.random.key(0), Loop(100, 100, 10))
    before, after = (jdd.evaluate(s, loaded, networks=2).mean for s in (start, outcome.final))
    assert after > before + gain


def test_the_network_has_what_its_page_says(registered):
    module = jdd.create_network("TwoLayers", 10, hidden=16)
    assert module is jdd.create_network("TwoLayers", 10, hidden=16)
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 1)).astype(np.float32)
    variables = module.init(jax.random.key(0), images)
    weight, bias = (variables["params"][f"[1][{i}]"] for i in (0, 1))
    features = module.apply(variables, images, method="embed")
    assert features.shape == (3, 16)
    expected = features @ weight + bias
    np.testing.assert_allclose(module.apply(variables, images), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match="made without"):
        module.apply(variables, images, method="feature_maps")


def test_the_dataset_tells_even_from_odd(registered):
    parity, digits = jdd.load("parity"), jdd.load("digits")
    images = {image.tobytes(): label for image, label in _rows(digits)}
    assert len(parity.train) + len(parity.test) == len(digits.train) + len(digits.test)
    for image, label in _rows(parity):
        assert images[image.tobytes()] % 2 == label


def _rows(dataset):
    for split in (dataset.train, dataset.test):
        yield from zip(split.images, split.labels, strict=True)


@pytest.mark.slow
def test_they_run_as_plugins_and_are_remembered(tmp_path):
    environment = {**os.environ, "JDD_CACHE_DIR": str(tmp_path / "cache")}

    def run(script, *arguments):
        done = subprocess.run(
            [sys.executable, f"bin/{script}.py", *map(str, arguments), "--json"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    named = [word for path in EXAMPLES.values() for word in ("--plugin", path)]
    result = run(
        *("distill", *named, "--method", "moments", "--network", "TwoLayers"),
        *("--dataset", "parity", "--hidden", 32, "--iterations", 3, "--lr-img", 0.01),
        *("--eval-epochs", 20, "--eval-networks", 2, "--full-data-epochs", 0, "--no-eval-random"),
        *("--out", tmp_path / "run"),
    )
    assert (result["method"], result["dataset"], result["iterations"]) == ("moments", "parity", 3)
    assert result["options"] == {"hidden": 32}
    again = run("evaluate", tmp_path / "run", "--networks", 2)  # without naming the plugins
    np.testing.assert_allclose(again["accuracies"], result["accuracies"], atol=1e-6)


def test_the_stand_in_for_mhist_has_its_layout_and_imbalance(tmp_path):
    script, folder = ROOT / "examples" / "mhist_stand_in.py", tmp_path / "mhist"
    command = [sys.executable, str(script), str(folder), "--divide", "45"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    read = data.load("mhist", folder)
    assert read.train.images.shape == (34 + 14, 128, 128, 3)
    assert np.bincount(read.train.labels).tolist() == [34, 14]
    assert np.bincount(read.test.labels).tolist() == [13, 8]
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert again.returncode == 2 and "exists already" in again.stderr
