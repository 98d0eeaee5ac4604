"""Preprocessing against closed forms: the formula of mean/std, ZCA's effect on a covariance."""

import hashlib
import json
import os

import jax
import numpy as np
import pytest

from jdd import data, preprocessing
from jdd.errors import UserError
from jdd.ops.target import compiling_for

SHAPE = (4, 3, 3)
DIMENSIONS = 36


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("JDD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def correlated_images(n=300, seed=0):
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, 6)) @ rng.normal(size=(6, DIMENSIONS))
    return np.clip(mixed * 20 + 128, 0, 255).astype(np.uint8).reshape(n, *SHAPE)


def test_standard_is_the_formula():
    images = np.array([[[[0, 51, 255]]]], np.uint8)
    fitted = preprocessing.fit("standard", images, ((0.5, 0.1, 0.2), (0.25, 0.2, 0.4)))
    np.testing.assert_allclose(fitted(images)[0, 0, 0], [-2.0, 0.5, 2.0], atol=1e-6)
    assert fitted(images).dtype == np.float32


def test_mean_and_std_are_numpys():
    images = correlated_images()
    mean, std = preprocessing.channel_mean_std(images)
    np.testing.assert_allclose(mean, (images / 255.0).mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255.0).std(axis=(0, 1, 2)), rtol=1e-9)


def test_a_constant_channel_stays_finite():
    images = np.full((5, 2, 2, 1), 7, np.uint8)
    fitted = preprocessing.fit("standard", images)
    np.testing.assert_allclose(fitted(images), 0.0, atol=1e-6)


@pytest.mark.parametrize("kind", preprocessing.KINDS)
def test_invert_undoes_it_also_compiled_as_an_argument(kind):
    images = correlated_images()
    fitted = preprocessing.fit(kind, images)
    seen = jax.jit(lambda f, x: f(x))(fitted, images[:20])
    back = jax.jit(lambda f, x: f.invert(x))(fitted, seen)
    np.testing.assert_allclose(back, images[:20] / 255.0, atol=1e-5)
    np.testing.assert_allclose(seen, fitted(images[:20]), atol=1e-5)


def test_invert_clips():
    fitted = preprocessing.fit("standard", correlated_images(), ((0.5,) * 3, (0.25,) * 3))
    assert fitted.invert(np.full((1, *SHAPE), 9.0)).max() == 1.0
    assert fitted.invert(np.full((1, *SHAPE), -9.0)).min() == 0.0


def test_zca_shrinks_each_principal_variance_to_s_over_s_plus_epsilon():
    images = correlated_images(n=5000)
    fitted = preprocessing.fit("zca", images)
    flat = (images / 255.0).reshape(len(images), -1)
    variances, directions = np.linalg.eigh(np.cov(flat, rowvar=False))
    expected = directions @ np.diag(variances / (variances + 0.1)) @ directions.T
    white = np.asarray(fitted(images), np.float64).reshape(len(images), -1)
    np.testing.assert_allclose(np.cov(white, rowvar=False), expected, atol=1e-5)
    np.testing.assert_allclose(white.mean(axis=0), 0.0, atol=1e-5)


def test_normalize_zca_is_the_published_formula():
    """FRePo's: pixels by mean and std of each channel, covariance by n, ε · its mean diagonal."""
    images = correlated_images(n=5000)
    # Positions of other means: a channel's deviation is then not that of a position.
    images = (images // 2 + np.arange(images[0].size).reshape(images.shape[1:]) * 3).astype(
        np.uint8
    )
    fitted = preprocessing.fit("normalize_zca", images)
    pixels = images / 255.0
    normalised = (pixels - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))
    flat = normalised.reshape(len(images), -1) - normalised.reshape(len(images), -1).mean(0)
    covariance = flat.T @ flat / len(flat)
    ridge = 0.1 * np.trace(covariance) / DIMENSIONS
    vectors, sizes, _ = np.linalg.svd(covariance + ridge * np.eye(DIMENSIONS))
    expected = flat @ (vectors / np.sqrt(sizes)) @ vectors.T
    white = np.asarray(fitted(images), np.float64).reshape(len(images), -1)
    np.testing.assert_allclose(white, expected, atol=2e-3)
    alike = np.repeat(images[:1], 5, axis=0)
    alike[:] = alike[0, 0, 0]
    with pytest.raises(UserError, match="training images are all the same"):
        preprocessing.fit("normalize_zca", alike, ([0.5] * 3, [0.2] * 3))
    other = preprocessing.fit("zca", images).spec()
    assert preprocessing.differences(other, fitted.spec()) == [
        "stored with zca, asked with normalize_zca"
    ]


def test_zca_in_chunks_is_zca_at_once(monkeypatch):
    images = correlated_images()
    at_once = preprocessing.fit_zca(images)
    monkeypatch.setattr(preprocessing._zca, "_CHUNK", 7)
    np.testing.assert_allclose(preprocessing.fit_zca(images).whiten, at_once.whiten, atol=1e-6)


def test_zca_of_grey_images_is_refused_in_one_line():
    with pytest.raises(UserError, match="RGB") as raised:
        preprocessing.fit("zca", np.zeros((3, 8, 8, 1), np.uint8))
    assert "\n" not in str(raised.value)


def test_unknown_kind_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'standard'"):
        preprocessing.fit("standart", correlated_images())


def test_zca_is_read_from_the_cache(cache, monkeypatch):
    images = correlated_images()
    first = preprocessing.fit("zca", images)
    assert [path.suffix for path in cache.iterdir()] == [".f32"]
    monkeypatch.setattr(preprocessing._zca, "fit_zca", lambda _: pytest.fail("computed again"))
    second = preprocessing.fit("zca", images)
    np.testing.assert_array_equal(first.zca.whiten, second.zca.whiten)


def test_the_cache_is_a_checksum_and_the_numbers(cache):
    fitted = _zca(correlated_images())
    (path,) = cache.iterdir()
    digest, content = path.read_bytes()[:32], path.read_bytes()[32:]
    assert hashlib.sha256(content).digest() == digest
    numbers = np.concatenate([np.ravel(a) for a in (fitted.mean, fitted.whiten, fitted.unwhiten)])
    np.testing.assert_array_equal(np.frombuffer(content, "<f4"), numbers)


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "longer", "a pipe", "a link to it"])
def test_a_broken_cache_file_is_computed_anew(cache, damage):
    images = correlated_images()
    expected = preprocessing.fit("zca", images)
    (path,) = cache.iterdir()
    whole = path.read_bytes()
    content = bytearray(whole)
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    damaged = {"cut": content[:-1], "empty": b"", "longer": content + b"0"}
    path.write_bytes(damaged.get(damage, content))
    if damage == "a pipe":
        path.unlink()
        os.mkfifo(path)
    if damage == "a link to it":
        path.unlink()
        path.symlink_to(path)
    again = preprocessing.fit("zca", images)
    np.testing.assert_array_equal(expected.zca.whiten, again.zca.whiten)
    assert path.read_bytes() == whole and not path.is_symlink()


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("JDD_CACHE_DIR", str(tmp_path / "file"))
    fitted, computed = (f(correlated_images()) for f in (_zca, preprocessing.fit_zca))
    np.testing.assert_array_equal(fitted.whiten, computed.whiten)


def _zca(images):
    return preprocessing.fit("zca", images).zca


def test_specs_survive_json_and_differ_in_words():
    standard = preprocessing.fit("standard", correlated_images()).spec()
    zca = preprocessing.fit("zca", correlated_images()).spec()
    other_zca = preprocessing.fit("zca", correlated_images(seed=1)).spec()
    constants = preprocessing.fit("standard", correlated_images(), ((0.5,) * 3, (0.2,) * 3)).spec()
    resized = preprocessing.fit("zca", np.repeat(correlated_images(), 2, axis=1)).spec()

    for spec in (standard, zca):
        assert preprocessing.differences(json.loads(json.dumps(spec)), spec) == []
    assert preprocessing.differences(zca, standard) == ["stored with zca, asked with standard"]
    assert "other training images" in preprocessing.differences(zca, other_zca)[0]
    assert "mean" in preprocessing.differences(standard, constants)[0]
    assert preprocessing.differences(zca, resized) == ["stored for 4×3×3 images, asked for 8×3×3"]


def test_the_fingerprint_does_not_feel_a_rounding_error():
    fitted = preprocessing.fit("zca", correlated_images())
    nudged = jax.tree.map(lambda a: a * (1 + 1e-7), fitted)
    assert nudged.spec()["zca"] == fitted.spec()["zca"]


@pytest.mark.parametrize("beforehand", [True, False])
def test_a_cpu_with_room_whitens_beforehand_to_the_same_images(monkeypatch, beforehand):
    split = data.Split(correlated_images(2300), np.arange(2300, dtype=np.int32) % 3)
    fitted = preprocessing.fit("zca", split.images)
    if not beforehand:
        monkeypatch.setattr(preprocessing._zca, "_memory", lambda: 8 * 4 * split.images.size - 1)
    on_device = data.to_device(split, fitted, 3)
    assert on_device.images.dtype == (np.float32 if beforehand else np.uint8)
    assert (on_device.preprocess is None) == beforehand
    images, labels = on_device.batch(np.array([2299, 0, 1000, 999]))
    expected = fitted(split.images[[2299, 0, 1000, 999]])
    np.testing.assert_allclose(images, expected, atol=1e-5)
    np.testing.assert_array_equal(labels, [1, 0, 1, 0])


def test_an_accelerator_is_given_pixels():
    split = data.Split(correlated_images(50), np.zeros(50, np.int32))
    fitted = preprocessing.fit("zca", split.images)
    with compiling_for("gpu"):
        assert data.to_device(split, fitted).images.dtype == np.uint8


def test_whitening_that_memory_cannot_hold_is_refused_before_anything_is_read(monkeypatch):
    words = r"512×512 pixels takes a matrix of 786,432² numbers, 2,304.0 GiB, and .* `image_size`$"
    monkeypatch.setattr("jdd.data.tfds.read_or_download", lambda *_: pytest.fail("read"))
    monkeypatch.delenv("JDD_DATA_DIR", raising=False)
    with pytest.raises(UserError, match=words):
        data.load("cifar10", image_size=512, preprocessing="zca")
    preprocessing.check_zca((32, 32, 3))
    monkeypatch.setattr(preprocessing._zca, "_memory", lambda: 2**20)
    with pytest.raises(UserError, match="of memory to make it, here are 0"):
        preprocessing.fit("zca", np.zeros((2, 32, 32, 3), np.uint8))


def test_statistics_keep_all_digits_and_those_of_four_still_fit():
    images = np.random.default_rng(0).integers(0, 200, (7, 5, 5, 3), np.uint8)
    fitted = preprocessing.fit("standard", images)
    spec = json.loads(json.dumps(fitted.spec()))
    again = preprocessing.from_spec(spec)
    np.testing.assert_array_equal(again.mean, fitted.mean)
    np.testing.assert_array_equal(again.std, fitted.std)
    np.testing.assert_allclose(spec["mean"], (images / 255).mean((0, 1, 2)), rtol=1e-7)
    four = preprocessing.shortened(spec)
    assert four != spec and preprocessing.differences(four, spec) == []
    off = {**spec, "std": [value + 2e-4 for value in spec["std"]]}
    assert preprocessing.differences(off, spec)


def test_a_whitening_is_known_again_without_its_images(cache):
    images = np.random.default_rng(0).integers(0, 256, (30, *SHAPE), np.uint8)
    spec = json.loads(json.dumps(preprocessing.fit("zca", images).spec()))
    preprocessing.fit("zca", images[::2])
    restored = preprocessing.from_spec(spec)
    assert restored.spec() == spec and restored.zca.whiten.shape == (DIMENSIONS, DIMENSIONS)
    assert preprocessing.from_spec({**spec, "zca": "of others"}) is None
