"""Synthetic sets: stored bit for bit, decoded, started correctly."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import SyntheticSet, data, synthetic
from jdd.data import Dataset, Split
from jdd.errors import UserError
from jdd.synthetic import DECODERS
from jdd.training import Recipe
from tests.small_set import a_set


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


ROOT = Path(__file__).resolve().parents[1]


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
    with jax.debug_nans(True):
        made.replace(storage=of(made.storage)).save(tmp_path, eight_bits=True)
    np.testing.assert_array_equal(SyntheticSet.load(tmp_path).storage, of(made.storage))


def test_its_repr_is_a_line(digits):
    text = repr(a_set(digits))
    assert text.startswith("SyntheticSet(digits, ") and len(text) < 120


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
    with pytest.raises(UserError, match="`ipc` 5: at most 4 here, as class '3' has so many"):
        synthetic.from_real(split, part, 5, np.random.default_rng(0))
