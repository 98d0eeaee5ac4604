"""Synthetic sets: stored bit for bit, decoded, refused where they do not fit, started correctly."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jdd
from jdd import SyntheticSet, checkpoints, data, files, synthetic
from jdd.data import Dataset, Split
from jdd.errors import UserError
from jdd.synthetic import DECODERS, SetInfo
from jdd.training import Recipe

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def a_set(dataset, labels=None, rate=0.02):
    images, hard = synthetic.from_noise(dataset, 2, jax.random.key(0))
    info = SetInfo(
        dataset=dataset.name,
        class_names=dataset.class_names,
        preprocessing=dataset.preprocess.spec(),
        ipc=2,
        method="mtt",
        settings={"syn_steps": 3},
        seed=4,
        recipe=Recipe(options={"width": 8}, epochs=3),
    )
    rate = None if rate is None else jnp.float32(rate)
    return SyntheticSet(images, hard if labels is None else labels, rate, info)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("rate", [None, 0.1])
def test_a_set_is_loaded_as_it_was_saved(digits, tmp_path, soft, rate):
    logits = jax.random.normal(jax.random.key(1), (20, 10)) if soft else None
    made = a_set(digits, logits, rate)
    assert made.save(tmp_path / "run") == tmp_path / "run" / "synthetic"
    for place in (tmp_path / "run", tmp_path / "run" / "synthetic"):
        loaded = SyntheticSet.load(place, digits)
        assert jax.tree.structure(loaded) == jax.tree.structure(made)
        for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(made), strict=True):
            assert a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert loaded.info.to_json() == made.info.to_json() and loaded.info.recipe.options == {
        "width": 8
    }
    np.testing.assert_array_equal(
        loaded.hard_labels(), np.argmax(logits, 1) if soft else np.repeat(np.arange(10), 2)
    )


def test_a_set_in_eight_bits_takes_a_quarter_and_is_rounded_once(digits, tmp_path):
    made = a_set(digits)
    storage = jax.random.normal(jax.random.key(0), (640, *made.storage.shape[1:]))
    made = made.replace(storage=storage, labels=jnp.tile(made.labels, 32))
    made.save(tmp_path / "whole")
    made.save(tmp_path / "rounded", eight_bits=True)
    size = [
        sum(file.stat().st_size for file in (tmp_path / name).rglob("*") if file.is_file())
        for name in ("whole", "rounded")
    ]
    saved = made.storage.size * 3
    assert size[0] - size[1] > 0.9 * saved
    once = SyntheticSet.load(tmp_path / "rounded", digits)
    step = float(np.ptp(made.storage)) / 255
    np.testing.assert_allclose(once.storage, made.storage, atol=0.5001 * step)
    assert once.storage.dtype == jnp.float32 and len(np.unique(once.storage)) <= 256
    np.testing.assert_array_equal(once.labels, made.labels)
    assert once.learning_rate == made.learning_rate
    once.save(tmp_path / "again", eight_bits=True)
    np.testing.assert_array_equal(SyntheticSet.load(tmp_path / "again").storage, once.storage)


@pytest.mark.parametrize("of", [np.ones_like, np.zeros_like])
def test_eight_bits_hold_one_number_as_it_is(digits, tmp_path, of):
    made = a_set(digits)
    made.replace(storage=of(made.storage)).save(tmp_path, eight_bits=True)
    np.testing.assert_array_equal(SyntheticSet.load(tmp_path).storage, of(made.storage))


def test_a_set_goes_through_jit_as_it_is(digits):
    made = a_set(digits)
    doubled = jax.jit(lambda s: jax.tree.map(lambda leaf: 2 * leaf, s))(made)
    np.testing.assert_array_equal(doubled.images, 2 * made.images)
    assert doubled.info == made.info and hash(doubled.info) == hash(made.info)


def test_sets_of_other_runs_share_a_compiled_program(digits):
    """Seed, version, settings and the like shape no program; classes and images per class do."""

    @jax.jit
    def energy(s):
        return jnp.sum(s.images**2) * s.info.ipc

    made = a_set(digits)
    others = {
        "seed": 5,
        "version": "9.9.9",
        "init": "noise",
        "method": "dm",
        "settings": {"syn_steps": 4},
        "recipe": Recipe(epochs=5),
        "preprocessing": {"kind": "zca"},
        "plugins": ({"path": "mine.py", "sha256": "0"},),
    }
    first = energy(made)
    for name, value in others.items():
        info = dataclasses.replace(made.info, **{name: value})
        assert getattr(info, name) != getattr(made.info, name)
        assert energy(made.replace(info=info)) == first
        assert energy._cache_size() == 1, f"{name} makes it compile again"
    for name, value in {"ipc": 3, "dataset": "mnist", "class_names": ("0", "1")}.items():
        before = energy._cache_size()
        energy(made.replace(info=dataclasses.replace(made.info, **{name: value})))
        assert energy._cache_size() == before + 1, name
    assert energy(made.replace(info=dataclasses.replace(made.info, ipc=3))) == pytest.approx(
        float(first) * 3 / 2
    )


@dataclasses.dataclass(frozen=True)
class Enlarged:
    """Stores images of a half (or less) of each side: a decoder as a user may write it."""

    factor: int = 2

    def decode(self, storage):
        small = storage["small"] + storage["level"]
        return small.repeat(self.factor, axis=1).repeat(self.factor, axis=2)

    def encode(self, images):
        n, h, w, c = images.shape
        tiles = images.reshape(n, h // self.factor, self.factor, w // self.factor, self.factor, c)
        return {"small": jnp.mean(tiles, (2, 4)), "level": jnp.zeros((n, 1, 1, c))}

    def to_json(self):
        return {"name": "enlarged", "factor": self.factor}


@pytest.fixture
def enlarged(monkeypatch):
    monkeypatch.setitem(DECODERS, "enlarged", Enlarged)
    return Enlarged(4)


def test_a_set_that_stores_something_else_than_pixels(digits, tmp_path, enlarged):
    images = a_set(digits).images
    made = a_set(digits).replace(storage=enlarged.encode(images), decoder=enlarged)
    tiles = np.asarray(images, np.float64).reshape(20, 2, 4, 2, 4, 1).mean((2, 4))
    expected = np.kron(tiles[..., 0], np.ones((1, 4, 4)))[..., None]
    np.testing.assert_allclose(made.images, expected, atol=1e-6)
    np.testing.assert_array_equal(made.data().images, made.images)

    made.save(tmp_path)
    loaded = SyntheticSet.load(tmp_path, digits)
    assert loaded.decoder == enlarged and loaded.decoder != Enlarged(2)
    assert jax.tree.structure(loaded) == jax.tree.structure(made)
    np.testing.assert_array_equal(loaded.images, made.images)
    assert loaded.storage["small"].shape == (20, 2, 2, 1)

    energy = jax.jit(lambda s: jnp.sum(s.images**2))
    np.testing.assert_allclose(energy(loaded), 16 * np.sum(tiles**2), rtol=1e-5)
    gradient = jax.jit(jax.grad(energy, allow_int=True))(loaded)
    assert gradient.decoder == enlarged
    np.testing.assert_allclose(gradient.storage["small"], 32 * tiles, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        gradient.storage["level"], 32 * tiles.sum((1, 2), keepdims=True), rtol=1e-3, atol=1e-4
    )
    assert energy._cache_size() == 1
    energy(loaded.replace(decoder=Enlarged(2)))
    assert energy._cache_size() == 2


def test_a_decoder_that_is_not_here_is_named(digits, tmp_path, enlarged, monkeypatch):
    made = a_set(digits)
    made.replace(storage=enlarged.encode(made.images), decoder=enlarged).save(tmp_path)
    monkeypatch.delitem(DECODERS, "enlarged")
    with pytest.raises(UserError, match="no decoder 'enlarged' here"):
        SyntheticSet.load(tmp_path)


def test_sets_of_jdd_0_1_are_read(digits):
    """Their images lay under another name, and no decoder was written on them."""
    old = SyntheticSet.load(ROOT / "tests" / "fixtures" / "set-0.1")
    assert (old.images.shape, old.images.dtype) == ((10, 28, 28, 1), jnp.float32)
    # As that jdd read them.
    pixels = np.asarray(old.images, np.float64)
    assert pixels.mean() == pytest.approx(-0.0844098070129636, rel=1e-9)
    assert pixels.std() == pytest.approx(1.1854666032334937, rel=1e-9)
    np.testing.assert_array_equal(old.labels, np.arange(10))
    assert float(old.learning_rate) == pytest.approx(0.07421864)
    assert (old.info.version, old.info.plugins, old.info.recipe.epochs) == ("0.1.0", (), 300)
    small = SyntheticSet.load(ROOT / "tests" / "fixtures" / "run-0.1", digits)
    assert (small.info.method, small.info.seed, len(small.labels)) == ("mtt", 77, 20)
    with pytest.raises(UserError, match="is a set of 'mnist', not of 'digits'"):
        old.check_fits(digits)


def test_a_set_of_0_1_is_stored_anew_as_it_is(tmp_path):
    old = SyntheticSet.load(ROOT / "tests" / "fixtures" / "run-0.1")
    old.save(tmp_path)
    new = SyntheticSet.load(tmp_path)
    assert new.info.to_json() == old.info.to_json()
    jax.tree.map(np.testing.assert_array_equal, new, old)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset": "mnist"}, "is a set of 'mnist', not of 'digits': use `dataset` mnist"),
        ({"mean": [0.5]}, r"other preprocessing: stored with mean \[0.5\], asked with"),
        ({"kind": "zca"}, "stored with zca, asked with standard"),
        ({"image_shape": [28, 28, 1]}, "stored for 28×28×1 images, asked for 8×8×1"),
    ],
)
def test_a_set_that_does_not_fit_is_refused(digits, tmp_path, change, words):
    made = a_set(digits)
    if "dataset" in change:
        info = dataclasses.replace(made.info, **change)
    else:
        info = dataclasses.replace(made.info, preprocessing={**made.info.preprocessing, **change})
    dataclasses.replace(made, info=info).save(tmp_path)
    with pytest.raises(UserError, match=words):
        SyntheticSet.load(tmp_path, digits)
    if "image_shape" not in change:  # which the images themselves do not have
        assert SyntheticSet.load(tmp_path).info.to_json() == info.to_json()


def test_another_version_and_another_checkpoint_are_refused(digits, tmp_path):
    folder = a_set(digits).save(tmp_path)
    file = folder / "info" / "metadata"
    header = json.loads(file.read_text())
    for change, words in [
        ({"format_version": 2}, "format version 2"),
        ({"set": None}, "not of a synthetic set"),
        ({"set": {"dataset": "digits"}}, "damaged"),
        ({"set": {**header["set"], "recipe": {"colour": 1}}}, "damaged"),
    ]:
        file.write_text(json.dumps({**header, **change}))
        if change != {"format_version": 2}:
            with pytest.raises(UserError, match="info/metadata' is not as it was written"):
                SyntheticSet.load(tmp_path)
        files.write_json(folder / "checksums.json", checkpoints._checksums(folder))
        with pytest.raises(UserError, match=words):
            SyntheticSet.load(tmp_path)


def places_of(value, at=()):
    yield at
    if isinstance(value, (dict, list)):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in inner:
            yield from places_of(each, (*at, key))


def test_every_edit_of_the_description_is_noticed(digits, tmp_path):
    """Each value in it replaced, each field taken out."""
    file = a_set(digits).save(tmp_path) / "info" / "metadata"
    whole = file.read_text()
    places = [place for place in places_of(json.loads(whole)) if place]
    assert len(places) > 50
    for place in places:
        for edit in ("replaced", "taken out"):
            header = json.loads(whole)
            parent = header
            for key in place[:-1]:
                parent = parent[key]
            if edit == "replaced":
                parent[place[-1]] = 7 if parent[place[-1]] != 7 else 8
            else:
                del parent[place[-1]]
            file.write_text(json.dumps(header))
            with pytest.raises(UserError, match=r"damaged|format version 7"):
                SyntheticSet.load(tmp_path)
    file.write_text(whole)
    SyntheticSet.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": -1}, "'seed' is -1"),
        ({"ipc": 0}, "10 classes of 0 images"),
        ({"class_names": []}, "0 classes of 2 images"),
        ({"class_names": "digits"}, "'class_names' is 'digits', a list is needed"),
        ({"recipe": {"epochs": "many"}}, "'recipe.epochs' is 'many', a whole number is needed"),
        ({"recipe": {"epochs": 0}}, "`epochs` 0: at least 1"),
        ({"preprocessing": {"kind": "zoom"}}, "'preprocessing.kind' is 'zoom'"),
        ({"preprocessing": {"kind": "zca", "image_shape": [8, 8]}}, "has 2 entries, 3 are needed"),
        ({"plugins": [3]}, r"'plugins\[0\]' is 3, fields are needed"),
    ],
)
def test_a_description_that_cannot_be_is_refused_by_its_field(digits, tmp_path, change, words):
    """Also where somebody has made the checksums fit."""
    folder = a_set(digits).save(tmp_path)
    header = json.loads((folder / "info" / "metadata").read_text())
    header["set"] = {**header["set"], **change}
    (folder / "info" / "metadata").write_text(json.dumps(header))
    files.write_json(folder / "checksums.json", checkpoints._checksums(folder))
    with pytest.raises(UserError, match=words):
        SyntheticSet.load(tmp_path)


def test_a_set_is_checked_where_it_is_evaluated_and_where_a_run_starts(digits):
    made = a_set(digits)
    made = made.replace(labels=made.labels.at[4].set(99))
    with pytest.raises(UserError, match="a label is outside 0 to 9"):
        jdd.evaluate(made, digits)
    loop = jdd.distillation.Loop(1, 1)
    with pytest.raises(UserError, match="a label is outside 0 to 9"):
        jdd.distill(None, made, None, jax.random.key(0), loop)


def test_a_set_that_was_being_replaced_is_found(digits, tmp_path):
    """What is left where a process is killed between the two renames of a replacement."""
    folder = a_set(digits).save(tmp_path)
    folder.rename(tmp_path / ".synthetic.old")
    shutil.copytree(tmp_path / ".synthetic.old", tmp_path / ".synthetic.new")
    for place in (tmp_path, folder):
        assert float(SyntheticSet.load(place).learning_rate) == pytest.approx(0.02)
    a_set(digits, rate=0.5).save(tmp_path)
    assert float(SyntheticSet.load(tmp_path).learning_rate) == 0.5
    assert [p.name for p in tmp_path.iterdir()] == ["synthetic"]


def test_nothing_there_is_said(tmp_path):
    for place, words in ((tmp_path, "holds no checkpoint"), (tmp_path / "no", "does not exist")):
        with pytest.raises(UserError, match=words):
            SyntheticSet.load(place)
    (tmp_path / "store.json").write_text("{}")
    with pytest.raises(UserError, match="holds experts, not a synthetic set"):
        SyntheticSet.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {"storage": s.storage.at[3, 2, 1, 0].set(jnp.nan)}, "is not finite"),
        (lambda s: {"labels": s.labels.at[4].set(99)}, "a label is outside 0 to 9"),
        (lambda s: {"labels": s.labels.at[4].set(-1)}, "a label is outside 0 to 9"),
        (lambda s: {"labels": s.labels[:5]}, "labels of shape"),
        (lambda s: {"labels": jnp.zeros((20, 3))}, "labels of shape"),
        (lambda s: {"labels": jnp.full((20, 10), jnp.inf)}, "label logits are not finite"),
        (lambda s: {"storage": s.storage[:, :7]}, "its images have the shape"),
        (lambda s: {"storage": s.storage[..., 0]}, "its images have the shape"),
        (lambda s: {"storage": s.labels}, "no numbers"),
        (lambda s: {"learning_rate": jnp.float32(0)}, "step size is no positive number"),
        (lambda s: {"learning_rate": jnp.float32(jnp.nan)}, "step size is no positive number"),
    ],
)
def test_a_set_that_nothing_can_be_trained_on_is_refused(digits, tmp_path, change, words):
    made = a_set(digits)
    made.replace(**change(made)).save(tmp_path)
    with pytest.raises(UserError, match=words):
        SyntheticSet.load(tmp_path)


@pytest.mark.parametrize("ipc", [1, 7])
def test_real_images_are_of_their_classes_and_differ(digits, ipc):
    images, labels = synthetic.from_real(digits.train, digits, ipc, np.random.default_rng(0))
    np.testing.assert_array_equal(labels, np.repeat(np.arange(10), ipc))
    assert images.dtype == jnp.float32 and images.shape == (10 * ipc, 8, 8, 1)
    pixels = np.rint(np.asarray(digits.preprocess.invert(images)) * 255).astype(np.uint8)
    chosen = []
    for image, label in zip(pixels, np.asarray(labels), strict=True):
        equal = (digits.train.images == image).all(axis=(1, 2, 3)) & (digits.train.labels == label)
        assert equal.any()
        chosen.append(int(np.argmax(equal)))
    assert len(set(chosen)) == len(chosen)
    again, _ = synthetic.from_real(digits.train, digits, ipc, np.random.default_rng(1))
    assert not np.array_equal(images, again)


def test_noise_is_standard_normal(digits):
    images, labels = synthetic.from_noise(digits, 50, jax.random.key(0))
    assert abs(float(images.mean())) < 0.02 and abs(float(images.std()) - 1) < 0.02
    np.testing.assert_array_equal(np.bincount(np.asarray(labels)), [50] * 10)


def test_images_per_class_have_bounds(digits):
    for ipc in (0, -3):
        with pytest.raises(UserError, match=f"`ipc` {ipc}: at least 1"):
            synthetic.from_real(digits.train, digits, ipc, np.random.default_rng(0))
        with pytest.raises(UserError, match=f"`ipc` {ipc}: at least 1"):
            synthetic.from_noise(digits, ipc, jax.random.key(0))
    few = np.flatnonzero(digits.train.labels != 3).tolist()
    few += np.flatnonzero(digits.train.labels == 3)[:4].tolist()
    split = Split(digits.train.images[few], digits.train.labels[few])
    part = Dataset("digits", split, digits.test, digits.class_names, digits.preprocess)
    assert len(synthetic.from_real(split, part, 4, np.random.default_rng(0))[1]) == 40
    with pytest.raises(UserError, match="`ipc` 5: at most 4 here, as class '3' holds"):
        synthetic.from_real(split, part, 5, np.random.default_rng(0))
