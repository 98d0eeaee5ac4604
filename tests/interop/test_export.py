"""Every format holds the set: read back by the lines of its own README, trained on by train.py."""

import ast
import dataclasses
import importlib.util
import re
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jdd import data, evaluation, synthetic
from jdd.errors import UserError
from jdd.interop import FORMATS, export
from jdd.synthetic import SetInfo, SyntheticSet
from jdd.training import Recipe

RECIPE = Recipe(options={"width": 16, "depth": 2}, epochs=150, augmentation="crop_rotate")
OTHER = Recipe(
    network="WideConvNet",
    options={"width": 16, "depth": 2},
    epochs=150,
    batch_size=4,
    equal_batches=False,
    learning_rate=0.003,
    weight_decay=0.01,
    optimizer="adamw",
    rate_schedule="cosine",
    ema=0.9,
)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def made(digits, soft=False, recipe=RECIPE, ipc=1, **info):
    info = SetInfo(
        digits.name, digits.class_names, digits.preprocess.spec(), ipc, recipe=recipe, **info
    )
    images, labels = synthetic.from_real(digits.train, digits, ipc, np.random.default_rng(0))
    images = images + 0.01  # which 8 bits cannot hold
    logits = 3.0 * jnp.eye(10)[labels] + 0.1 * images.reshape(10 * ipc, -1)[:, 20:30]
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
    blocks = re.findall(r"## (JAX|PyTorch)\n\nAfter those.*?```python\n(.*?)```", text, re.DOTALL)
    for title, block in blocks:
        if title == "JAX" or importlib.util.find_spec("torch"):
            after = dict(names)
            exec(compile(block, str(readme), "exec"), after)
            images = after["images"]
            shape = images.transpose(0, 3, 1, 2).shape if title == "JAX" else images.shape
            assert tuple(shape) == (10, 1, 8, 8) and not isinstance(images, np.ndarray)
    assert len(blocks) == 2
    loss = 0.005 / float(digits.preprocess.std[0]) if kind == "png" else 0  # half an 8-bit step
    inside = np.clip(stored.images, *(digits.preprocess(np.uint8([[[0]], [[255]]])).ravel()))
    wanted = inside if kind == "png" else stored.images
    loss = 0.5001 * np.ptp(stored.images) / 255 if kind == "jdd8" else loss
    np.testing.assert_allclose(names["images"], wanted, atol=loss)
    if soft:
        shares = [
            np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (names["labels"], stored.labels)
        ]
        np.testing.assert_allclose(*shares, atol=1e-5)
    else:
        assert names["labels"].tolist() == list(range(10)) and names["labels"].dtype == np.int64
    assert "step size | 0.02, a tenth of it after 75 epochs" in text
    with pytest.raises(UserError, match="exists already"):
        export(stored, digits.preprocess, path, kind)
    assert not list(tmp_path.glob(".*"))


def readme_and_script(stored, folder, kind="npz", name="set.npz"):
    path = export(stored, None, folder / name, kind)
    inside = path.is_dir()
    readme, script = (
        path / each if inside else path.with_name(f"{path.name}.{each}")
        for each in ("README.md", "train.py")
    )
    script = script.read_text() if script.exists() else ""
    ast.parse(script)
    return readme.read_text(), script


def test_readme_and_train_py_have_the_recipe(digits, tmp_path):
    """Other values than the published ones, and what only some recipes have."""
    recipe = dataclasses.replace(
        RECIPE, momentum=0.5, weight_decay=0.01, decay_after=0.9, cutmix=1.0, ema=0.99, batch_size=4
    )
    readme, script = readme_and_script(made(digits, recipe=recipe), tmp_path)
    for words in [
        "network | ConvNet, width 16, depth 2, norm instance, activation relu, pooling avg",
        "optimizer | sgd, momentum 0.5, weight decay 0.01",
        "step size | 0.02, a tenth of it after 135 epochs",
        "batches | of 3; the 1 left over are not seen",
        "CutMix | of a batch with probability 1.0, beta 1.0",
        "average of the weights, decay 0.99",
        "with PyTorch, without augmentation and CutMix",
    ]:
        assert words in readme
    for words in [
        "SGD(network.parameters(), lr=RATE, momentum=0.5, weight_decay=0.01)",
        "RATE * (0.1 if epoch >= 135 else 1)",
        "BATCH, RATE = 150, 3, 0.02\nSEEN = 9 ",
        "mean.lerp_(weight, 1 - 0.99)",
        "return average.eval()",
    ]:
        assert words in script
    plain = dataclasses.replace(RECIPE, options={}, decay_after=1.0)
    readme, script = readme_and_script(made(digits, recipe=plain), tmp_path, name="plain.npz")
    assert "the same in every epoch" in readme and '["lr"] = RATE\n' in script
    assert "ConvNet, width 128, depth 3" in readme and "[128, 128, 128]" in script
    assert "average.eval" not in script and "CutMix |" not in readme
    readme, script = readme_and_script(made(digits, recipe=OTHER), tmp_path, name="other.npz")
    assert "optimizer | adamw, weight decay 0.01" in readme and "down to 0 by a cosine" in readme
    assert "of 4, the last of 2" in readme and "WIDTHS = 10, [16, 32]" in script
    assert "AdamW(network.parameters(), lr=RATE, weight_decay=0.01)" in script
    assert "GroupNorm" not in script and "math.cos" in script


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        (Recipe(network="MLP"), "the network is MLP"),
        (Recipe(options={"norm": "batch"}), "norm instance or none, and this one has batch"),
        (Recipe(options={"pooling": "max"}), "pooling avg, and this one has max"),
    ],
)
def test_where_there_is_no_train_py_the_readme_says_why(digits, tmp_path, recipe, why):
    readme, script = readme_and_script(made(digits, recipe=recipe), tmp_path)
    assert not script and "There is no `train.py`" in readme and why in readme


def test_the_name_of_the_script_is_that_of_its_file(digits, tmp_path):
    (tmp_path / "w").mkdir()
    readme, script = readme_and_script(made(digits), tmp_path / "w", "png", "v1.0")
    assert "`python train.py --test" in readme and "python train.py --test" in script


def test_an_imported_set_says_so(digits, tmp_path):
    readme, _ = readme_and_script(made(digits, init="unknown"), tmp_path)
    assert "Imported by jdd " in readme and "seed" not in readme


@pytest.mark.parametrize("kind", ["npz", "png", "huggingface"])
def test_what_is_cut_is_measured(digits, tmp_path, kind):
    needed(kind)
    stored = made(digits)
    black, white = digits.preprocess(np.uint8([[[0]], [[255]]])).ravel()
    images = jnp.full_like(stored.images, black).at[:5, :4].set(white + 0.1 / digits.preprocess.std)
    path = place(tmp_path, kind)
    readme, _ = readme_and_script(stored.replace(storage=images), tmp_path, kind, path.name)
    assert "outside of which lay 25.0 % of the values" in readme
    assert "the mean change of a value is 0.0250 |" in readme
    if kind == "png":
        assert "images | 10 of 8 × 8 × 1: pictures of 8 bits" in readme


def written_by(script, folder, monkeypatch):
    """The test images that the line at the top of train.py writes."""
    (code,) = re.findall(r'python -c "(.*)"', script)
    monkeypatch.chdir(folder)
    exec(code.replace("'DIR'", repr(str(folder))), {})
    return np.load(folder / "TEST.npz")


def test_the_line_that_writes_the_test_images_runs_for_others_sizes(tmp_path, monkeypatch):
    resized = data.load("digits", image_size=16)
    _, script = readme_and_script(made(resized), tmp_path)
    written = written_by(script, tmp_path, monkeypatch)
    np.testing.assert_array_equal(written["images"], resized.test.images)


@pytest.fixture
def pets(tmp_path):
    """A set of a folder of colour pictures, with ZCA, and its dataset."""
    rng = np.random.default_rng(0)
    for i in range(60):
        picture = tmp_path / f"pets/{('train', 'test')[i % 2]}/{('cat', 'dog')[i // 2 % 2]}/{i}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (10, 10, 3), np.uint8)).save(picture)
    dataset = data.load("folder:pets", tmp_path, 8, "zca")
    info = SetInfo(dataset.name, dataset.class_names, dataset.preprocess.spec(), 1, recipe=RECIPE)
    images, labels = synthetic.from_real(dataset.train, dataset, 1, rng)
    return SyntheticSet(images, labels, None, info), dataset


def test_a_set_with_zca_is_trained_on_as_it_is(pets, tmp_path, monkeypatch):
    stored, dataset = pets
    readme, script = readme_and_script(stored, tmp_path)
    written = written_by(script, tmp_path, monkeypatch)
    whitened = dataset.preprocess(dataset.test.images)
    np.testing.assert_array_equal(written["images"], whitened)
    assert "MEAN" not in script and "images of {pixels.dtype}, not float32" in script
    assert "jdd.load('folder:pets', 'DIR', image_size=8, preprocessing='zca')" in readme
    readme, script = readme_and_script(stored, tmp_path, "png", "pictures")
    assert not script and "PyTorch cannot whiten pictures" in readme
    (code,) = re.findall(r"## NumPy\n\n```python\n(.*?)```", readme, re.DOTALL)
    names = {}
    monkeypatch.chdir(tmp_path / "pictures")
    exec(code.replace("'DIR'", repr(str(tmp_path))), names)
    np.testing.assert_allclose(names["images"], stored.images, atol=0.05)


def test_zca_without_its_matrix_leaves_pixels_out(pets, tmp_path, monkeypatch):
    stored, _ = pets
    monkeypatch.setenv("JDD_CACHE_DIR", str(tmp_path / "empty"))
    readme, script = readme_and_script(stored, tmp_path)
    assert "pixels | none: the ZCA matrix of the training images of folder:pets was" in readme
    with np.load(tmp_path / "set.npz") as arrays:
        np.testing.assert_array_equal(arrays["images"], stored.images)
        assert script and "pixels" not in arrays
    for kind in ("huggingface", "safetensors", "pt", "jdd"):
        if kind != "pt" or importlib.util.find_spec("torch"):
            needed(kind)
            assert export(stored, None, place(tmp_path / kind, kind), kind).exists()
    with pytest.raises(UserError, match=r"`format` png: pictures need the ZCA matrix of the train"):
        export(stored, None, tmp_path / "png")
    assert not (tmp_path / "png").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "soft"),
    [(RECIPE, False), (RECIPE, True), (dataclasses.replace(OTHER, batch_size=40), False)],
)
def test_train_py_reaches_what_the_plain_recipe_does(digits, tmp_path, recipe, soft):
    """Within a point: networks spread by 1.3 points, so means of 40 differ by 0.3."""
    needed("pt")
    stored = made(digits, soft, recipe, ipc=10)
    export(stored, digits.preprocess, tmp_path / "set", "pt")
    np.savez(tmp_path / "test.npz", images=digits.test.images, labels=digits.test.labels)
    command = [sys.executable, tmp_path / "set" / "train.py", "--test", tmp_path / "test.npz"]
    completed = subprocess.run(
        [*map(str, command), "--networks", "40"], check=True, capture_output=True, text=True
    )
    theirs = float(re.search(r"^([\d.]+) ± ", completed.stdout, re.MULTILINE)[1])
    plain = dataclasses.replace(recipe, augmentation="none")
    ours = evaluation.evaluate(stored, digits, networks=40, recipe=plain)
    assert abs(theirs - 100 * ours.mean) < 1


def test_an_unknown_format_and_a_wrong_place_are_refused(digits, tmp_path):
    stored = made(digits, False)
    with pytest.raises(UserError, match="`format` 'zip'"):
        export(stored, digits.preprocess, tmp_path / "set", "zip")
    with pytest.raises(UserError, match=r"npz is a file that ends in \.npz"):
        export(stored, digits.preprocess, tmp_path / "set", "npz")
    with pytest.raises(UserError, match=r"ends in \.npz or \.safetensors"):
        export(stored, digits.preprocess, tmp_path / "set.npy")
    assert not list(tmp_path.iterdir())
