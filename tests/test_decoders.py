"""Decoders: multi-formation and cosine coefficients, against other libraries' numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft

from jdd import SyntheticSet, data, synthetic
from jdd.errors import UserError
from jdd.synthetic import Dct, MultiFormation, SetInfo, StorageSettings, decoder_for
from jdd.synthetic.decoders import decoder_from_json

INFO = SetInfo("digits", ("a", "b"), {"kind": "standard"}, 2)


def pictures(n, height, width, channels=1, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.standard_normal((n, height, width, channels)), jnp.float32)


def enlarged(part, height, width):
    """Bilinear, between pixel centres, by JAX's own resize."""
    return jax.image.resize(part, (height, width, part.shape[-1]), "bilinear")


@pytest.mark.parametrize(("side", "factor"), [(8, 2), (8, 4), (28, 3), (32, 3), (9, 2)])
def test_each_part_of_a_stored_image_is_enlarged(side, factor):
    decoder = MultiFormation(factor, side, side)
    stored = pictures(3, side, side, 2)
    part = -(-side // factor)
    over = factor * part - side
    filled = np.pad(stored, [(0, 0), (0, over), (0, over), (0, 0)], constant_values=0.5)
    expected = [
        enlarged(image[part * i : part * (i + 1), part * j : part * (j + 1)], side, side)
        for image in filled
        for i in range(factor)
        for j in range(factor)
    ]
    np.testing.assert_allclose(decoder.decode(stored), np.stack(expected), atol=5e-6)


def test_the_formation_multi_has_the_images_of_every_factor():
    stored = pictures(2, 8, 8)
    images = MultiFormation(2, 8, 8, "multi").decode(stored).reshape(2, 5, 8, 8, 1)
    np.testing.assert_array_equal(images[:, 0], stored)
    uniform = MultiFormation(2, 8, 8).decode(stored).reshape(2, 4, 8, 8, 1)
    np.testing.assert_array_equal(images[:, 1:], uniform)


def test_real_images_are_averaged_and_laid_side_by_side():
    images = pictures(8, 8, 8)
    decoder = MultiFormation(2, 8, 8)
    means = np.asarray(images, np.float64).reshape(2, 2, 2, 4, 2, 4, 2, 1).mean((4, 6))
    expected = means.transpose(0, 1, 3, 2, 4, 5).reshape(2, 8, 8, 1)
    np.testing.assert_allclose(decoder.encode(images), expected, atol=1e-6)
    # A side that the factor does not divide: the mean is kept, and what is over is cut off.
    flat = jnp.full((9, 28, 28, 1), 0.7)
    np.testing.assert_allclose(MultiFormation(3, 28, 28).encode(flat), 0.7, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_coefficients_are_those_of_the_cosine_transform(channels):
    images = pictures(50, 8, 6, channels) * jnp.linspace(0.1, 2, 6)[:, None]
    decoder = Dct.of(images, 12)
    every = scipy.fft.dctn(np.asarray(images, np.float64), axes=(1, 2), norm="ortho")
    variance = every.var(0).reshape(48, channels)
    for channel, places in enumerate(decoder.chosen):
        assert set(places) == set(np.argsort(-variance[:, channel])[:12])
        kept = np.zeros(48, bool)
        kept[list(places)] = True
        coefficients = every[..., channel].reshape(50, 48)
        np.testing.assert_allclose(
            decoder.encode(images)[:, :, channel], coefficients[:, kept], atol=2e-5
        )
        lowpass = np.where(kept, coefficients, 0).reshape(50, 8, 6)
        expected = scipy.fft.idctn(lowpass, axes=(1, 2), norm="ortho")
        decoded = decoder.decode(decoder.encode(images))[..., channel]
        np.testing.assert_allclose(decoded, expected, atol=2e-5)
    whole = Dct.of(images, 48)
    np.testing.assert_allclose(whole.decode(whole.encode(images)), images, atol=1e-5)


@pytest.mark.parametrize(
    "decoder", [MultiFormation(2, 8, 8), MultiFormation(2, 8, 8, "multi"), MultiFormation(3, 8, 8)]
)
def test_the_gradient_of_a_decoder_is_its_transpose(decoder):
    stored, images = pictures(2, 8, 8), decoder.decode(pictures(2, 8, 8))
    direction = pictures(len(images), 8, 8, seed=1)
    _, pull = jax.vjp(decoder.decode, stored)
    other = pictures(2, 8, 8, seed=2)
    moved = decoder.decode(other) - decoder.decode(jnp.zeros_like(other))
    assert float(jnp.vdot(moved, direction)) == pytest.approx(
        float(jnp.vdot(other, pull(direction)[0])), rel=1e-5
    )


def test_a_set_is_stored_and_counted_with_its_decoder(tmp_path):
    images = pictures(16, 8, 8)
    chosen = Dct.of(images, 16)
    for decoder, numbers in (
        (MultiFormation(2, 8, 8), 4 * 64),
        (MultiFormation(2, 8, 8, "multi"), 4 * 64),
        (chosen, 16 * 16 + 16),
    ):
        made = SyntheticSet.encode(images, INFO, decoder)
        assert made.numbers == numbers and len(made.images) == len(made.labels)
        assert decoder_from_json(decoder.to_json()) == decoder
        np.testing.assert_array_equal(made.labels, np.repeat([0, 1], len(made.images) // 2))
        soft = made.replace(labels=jnp.zeros((len(made.images), 2)), learning_rate=jnp.float32(1))
        assert soft.numbers == numbers + 2 * len(made.images) + 1
        np.testing.assert_array_equal(soft.classes(), made.labels)
        made.save(tmp_path / "set")
        loaded = SyntheticSet.load(tmp_path / "set")
        assert loaded.decoder == decoder
        np.testing.assert_array_equal(loaded.images, made.images)


def test_a_set_is_put_class_by_class_with_what_it_stores():
    decoder = MultiFormation(2, 8, 8)
    made = SyntheticSet.encode(pictures(16, 8, 8), INFO, decoder)
    order = jnp.asarray([3, 0, 2, 1])
    mixed = made.replace(storage=made.storage[order], labels=jnp.repeat(made.labels[::4][order], 4))
    np.testing.assert_array_equal(mixed.by_class().labels, made.labels)
    np.testing.assert_array_equal(mixed.by_class().storage, made.storage[jnp.asarray([0, 1, 3, 2])])


def test_noise_fills_the_same_storage():
    key, image = jax.random.key(0), (8, 8, 1)
    for decoder, shape in (
        (synthetic.IDENTITY, (20, 8, 8, 1)),
        (MultiFormation(2, 8, 8), (20, 8, 8, 1)),
        (Dct.of(pictures(9, 8, 8), 24), (50, 24, 1)),
    ):
        noise = decoder.noise(key, 10, 2, image)
        assert noise.shape == shape and abs(float(noise.std()) - 1) < 0.1
    assert MultiFormation(3, 9, 9).encoded(2) == 18 and synthetic.IDENTITY.encoded(2) == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"factor": 5}, "`factor` 5: from 1 to 4 for 8 × 8"),
        ({"factor": 0}, "`factor` 0: at least 1"),
        ({"decoder": "dct", "factor": 2}, "`factor` 2: `decoder` dct stores no pixels"),
        ({"coefficients": 5}, "`coefficients` 5: `decoder` dct alone"),
        ({"decoder": "dct", "coefficients": 65}, "`coefficients` 65: from 1 to 64"),
        ({"formation": "multi"}, "`formation` multi: it takes a `factor`"),
        ({"decoder": "wavelet"}, "`decoder` 'wavelet'"),
    ],
)
def test_what_cannot_be_stored_is_refused(settings, words):
    digits = data.load("digits")
    with pytest.raises(UserError, match=words):
        decoder_for(StorageSettings(**settings), digits, digits.train)


@pytest.mark.parametrize(
    ("side", "factor", "formation"), [(28, 8, "uniform"), (9, 4, "uniform"), (11, 5, "multi")]
)
def test_parts_that_would_lie_outside_the_image_are_refused(side, factor, formation):
    with pytest.raises(
        UserError, match=f"{factor} parts of {-(-side // factor)} pixels leave none"
    ):
        MultiFormation(factor, side, 32, formation)


def test_the_settings_make_the_decoder():
    digits = data.load("digits")
    few = data.Split(digits.train.images[:40], digits.train.labels[:40])

    def made(**settings):
        return decoder_for(StorageSettings(**settings), digits, few)

    assert made() == synthetic.IDENTITY
    assert made(factor=2, formation="multi") == MultiFormation(2, 8, 8, "multi")
    assert made(decoder="dct") == Dct.of(digits.preprocess(few.images), 16)
    assert made(decoder="dct").encoded(3) == 12
