"""Augmentation against closed forms, a bilinear sampler in float64, and finite differences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import augment as module
from jdd.augment import (
    DsaSettings,
    EachSettings,
    _sampling,
    augment,
    augment_each,
    augment_stacked,
    cutmix,
    strategy_for,
)
from jdd.errors import UserError

KINDS = module.WITH_FLIP.split("_")
STILL = DsaSettings(flip=0.0, scale=1.0, rotate=0.0, crop=0.0, cutout=0.0, brightness=0.0)


def images(n=5, height=9, width=8, channels=3, seed=0):
    shape = (n, height, width, channels)
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def bilinear(image, y, x):
    """Samples one `(h, w, c)` image at `(y, x)` in float64, pixel by pixel, zero outside."""
    height, width, channels = image.shape
    out = np.zeros((*y.shape, channels))
    for i, j in np.ndindex(*y.shape):
        for p, q in np.ndindex(height, width):
            weight = max(0.0, 1 - abs(y[i, j] - p)) * max(0.0, 1 - abs(x[i, j] - q))
            out[i, j] += weight * image[p, q].astype(np.float64)
    return out


@pytest.mark.parametrize("siamese", [False, True])
@pytest.mark.parametrize("kind", ["crop", "cutout", "flip", "scale", "rotate"])
def test_an_empty_range_changes_nothing(kind, siamese):
    x = images()
    np.testing.assert_array_equal(augment(jax.random.key(1), x, kind, siamese, STILL), x)


def test_none_changes_nothing():
    x = images()
    np.testing.assert_array_equal(augment(jax.random.key(1), x, "none"), x)
    np.testing.assert_array_equal(augment_each(jax.random.key(1), x, "none"), x)


@pytest.mark.parametrize("kind", KINDS)
def test_siamese_draws_do_not_depend_on_the_batch(kind):
    x = images(n=7)
    for seed in range(3):
        at_once = augment(jax.random.key(seed), x, kind, siamese=True)
        part = augment(jax.random.key(seed), x[4:], kind, siamese=True)
        np.testing.assert_allclose(at_once[4:], part, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_images_have_draws_of_their_own_unless_siamese(kind):
    x = np.repeat(images(n=1), 64, axis=0)
    assert len(np.unique(augment(jax.random.key(0), x, kind), axis=0)) > 1
    shared = np.asarray(augment(jax.random.key(0), x, kind, siamese=True))
    assert np.ptp(shared, axis=0).max() < 1e-6


def test_kinds_come_equally_often():
    x = images(n=1, height=6, width=6)
    settings = DsaSettings(flip=1.0)
    keys = jax.random.split(jax.random.key(3), 600)

    def under(strategy):
        one = functools.partial(augment, strategy=strategy, siamese=True, settings=settings)
        return np.asarray(jax.jit(jax.vmap(one, in_axes=(0, None)))(keys, x))

    drawn = under(module.WITH_FLIP)
    alone = np.stack([under(kind) for kind in KINDS])
    is_kind = np.abs(alone - drawn).max(axis=(2, 3, 4, 5)) < 1e-5
    assert is_kind.any(axis=0).all()  # always exactly one of the transforms, never two
    counts = is_kind.sum(axis=1)
    assert np.all(np.abs(counts - 100) < 50)  # five standard deviations


def test_color_is_brightness_then_saturation_then_contrast():
    x = images(n=300, height=4, width=4).astype(np.float64)
    y = np.asarray(augment(jax.random.key(0), x.astype(np.float32), "color"), np.float64)
    grey = x.mean(axis=3, keepdims=True)
    mean = x.mean(axis=(1, 2, 3), keepdims=True)
    brightness = y.mean(axis=(1, 2, 3)) - mean.ravel()
    # out = k·s·(x − grey) + k·(grey − mean) + mean + b: grey moves with brightness, not with s.
    moved = y.mean(axis=3, keepdims=True) - y.mean(axis=(1, 2, 3), keepdims=True)
    contrast = ((grey - mean) * moved).sum((1, 2, 3)) / ((grey - mean) ** 2).sum((1, 2, 3))
    colour = y - y.mean(axis=3, keepdims=True)
    product = ((x - grey) * colour).sum((1, 2, 3)) / ((x - grey) ** 2).sum((1, 2, 3))
    b, k, ks = (a[:, None, None, None] for a in (brightness, contrast, product))
    np.testing.assert_allclose(y, ks * (x - grey) + k * (grey - mean) + mean + b, atol=1e-5)
    for values, least, most in (
        (brightness, -0.5, 0.5),
        (contrast, 0.5, 1.5),
        (product / contrast, 0.0, 2.0),
    ):
        assert least - 1e-4 <= values.min() < least + 0.1 * (most - least)
        assert most - 0.1 * (most - least) < values.max() <= most + 1e-4
    assert abs(np.corrcoef(brightness, contrast)[0, 1]) < 0.25  # drawn apart from each other


def test_crop_shifts_by_whole_pixels_up_to_an_eighth():
    x = np.repeat(images(n=1, height=16, width=8), 400, axis=0)
    y = np.asarray(augment(jax.random.key(0), x, "crop"))
    expected = {}
    for down in range(-2, 3):
        for right in range(-1, 2):
            padded = np.pad(x[0], ((2, 2), (1, 1), (0, 0)))
            expected[down, right] = padded[2 + down : 18 + down, 1 + right : 9 + right]
    matches = [[np.array_equal(image, e) for e in expected.values()] for image in y]
    assert np.all(np.sum(matches, axis=1) == 1)
    assert np.all(np.sum(matches, axis=0) > 0)


def test_cutout_zeroes_a_square_clipped_at_the_borders():
    x = np.ones((500, 8, 8, 1), np.float32)
    y = np.asarray(augment(jax.random.key(0), x, "cutout"))[..., 0]
    seen = set()
    for image in y:
        rows, columns = np.where((image == 0).any(1))[0], np.where((image == 0).any(0))[0]
        assert (image == 0).sum() == len(rows) * len(columns)  # one full rectangle
        seen.add((rows[0], len(rows)))
    # A side of 4, centred on 0 … 8: fully inside, half of it at least everywhere.
    assert seen == {(0, 2), (0, 3), *((i, 4) for i in range(5)), (5, 3), (6, 2)}


def test_flip_mirrors_half_of_the_images():
    x = images(n=400, height=2, width=3)
    y = np.asarray(augment(jax.random.key(0), x, "flip"))
    mirrored = np.all(y == x[:, :, ::-1], axis=(1, 2, 3))
    assert np.all(mirrored | np.all(y == x, axis=(1, 2, 3)))
    assert 150 < mirrored.sum() < 250


def test_scale_zooms_about_the_centre():
    # On a ramp, bilinear sampling is exact: the factors can be read off. Each axis has its own.
    ramp = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0), indexing="ij"), axis=-1) - 4
    y = np.asarray(augment(jax.random.key(0), np.repeat(ramp[None].astype("f"), 200, 0), "scale"))
    down, right = y[:, 6, 4, 0] / 2, y[:, 4, 6, 1] / 2
    inner = np.stack([down[:, None, None] * ramp[..., 0], right[:, None, None] * ramp[..., 1]], -1)
    np.testing.assert_allclose(y[:, 2:7, 2:7], inner[:, 2:7, 2:7], atol=1e-5)
    for factor in (down, right):
        assert 1 / 1.2 - 1e-5 <= factor.min() < 0.87
        assert 1.16 < factor.max() <= 1.2 + 1e-5
    assert abs(np.corrcoef(down, right)[0, 1]) < 0.3


def test_rotation_turns_about_the_centre_within_fifteen_degrees():
    ramp = np.stack(np.meshgrid(np.arange(9.0), np.arange(9.0), indexing="ij"), axis=-1) - 4
    y = np.asarray(augment(jax.random.key(0), np.repeat(ramp[None].astype("f"), 200, 0), "rotate"))
    angle = np.arctan2(y[:, 4, 6, 0], y[:, 4, 6, 1])
    assert -np.deg2rad(15.01) < angle.min() < -np.deg2rad(13)
    assert np.deg2rad(13) < angle.max() < np.deg2rad(15.01)
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    turned = np.stack(
        [cos * ramp[..., 0] + sin * ramp[..., 1], cos * ramp[..., 1] - sin * ramp[..., 0]], -1
    )
    np.testing.assert_allclose(y[:, 2:7, 2:7], turned[:, 2:7, 2:7], atol=1e-5)


@pytest.mark.parametrize("degrees", [-15.0, 7.0, 40.0, 90.0])
def test_sampling_is_bilinear_with_zeros_outside(degrees):
    x = images(n=2, height=7, width=6)
    y, column = _sampling.rotated_grid(jnp.deg2rad(jnp.array([degrees])), 7, 6)
    ours = _sampling.sample(x, y, column)
    theirs = [bilinear(image, np.asarray(y[0]), np.asarray(column[0])) for image in x]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_separable_sampling_is_bilinear_with_zeros_outside():
    x = images(n=2, height=7, width=6)
    rows = np.array([np.linspace(-1.7, 8, 7), np.linspace(1, 2, 7)], np.float32)
    columns = np.array([np.linspace(4, 0, 6), np.linspace(-0.3, 6, 6)], np.float32)
    ours = _sampling.sample_separably(x, jnp.asarray(rows), jnp.asarray(columns))
    for i in range(2):
        grid = np.meshgrid(rows[i], columns[i], indexing="ij")
        np.testing.assert_allclose(ours[i], bilinear(x[i], *grid), atol=1e-5)


@pytest.mark.parametrize("siamese", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_agree_with_finite_differences(kind, siamese):
    with jax.enable_x64(True):
        x, direction, out = (images(n=3, height=6, width=5, seed=s).astype("d") for s in (0, 1, 2))
        run = functools.partial(augment, jax.random.key(2), strategy=kind, siamese=siamese)
        slope = jnp.vdot(jax.vjp(run, x)[1](jnp.asarray(out))[0], direction)
        # Every transform is linear in the pixels, so that a long step is as good as a short one.
        difference = jnp.vdot(out, run(x + direction) - run(x - direction)) / 2
        assert x.dtype == np.float64
        np.testing.assert_allclose(slope, difference, rtol=1e-9)


def test_an_unknown_kind_names_the_nearest():
    with pytest.raises(UserError, match="'rotat': did you mean 'rotate'"):
        augment(jax.random.key(0), images(), "color_rotat")
    with pytest.raises(UserError, match="'crops': did you mean 'crop'"):
        augment_each(jax.random.key(0), images(), "crops")


def test_digits_are_not_flipped():
    assert "flip" not in strategy_for("mnist") + strategy_for("svhn") + strategy_for("digits")
    assert strategy_for("cifar10") == strategy_for("fashion_mnist") == module.WITH_FLIP


def test_each_image_has_a_transform_of_its_own_kind():
    ramp = np.stack(np.meshgrid(np.arange(17.0), np.arange(17.0), indexing="ij"), axis=-1) - 8
    x = np.repeat(ramp[None].astype(np.float32), 300, axis=0)
    y = np.asarray(augment_each(jax.random.key(0), x), np.float64)
    # Inside, out = A · ramp + shift; read A and the shift off five pixels.
    shift = y[:, 8, 8]
    across, down = (y[:, 8, 10] - shift) / 2, (y[:, 10, 8] - shift) / 2
    shifted = np.abs(shift).max(1) > 1e-4
    turned = np.abs(down[:, 1]) > 1e-4
    zoomed = (np.abs(across[:, 1] - down[:, 0]) > 1e-4) & ~turned
    assert np.all(shifted.astype(int) + turned + zoomed <= 1)
    for kind in (shifted, turned, zoomed):
        assert 60 < kind.sum() < 140
    assert set(np.unique(np.round(shift[shifted], 4))) == set(range(-4, 5))
    angles = np.rad2deg(np.arctan2(across[turned, 0], across[turned, 1]))
    assert -45.1 < angles.min() < -38
    assert 38 < angles.max() < 45.1
    np.testing.assert_allclose(np.hypot(*across[turned].T), 1, atol=1e-4)
    assert 1 / 1.2 - 1e-4 <= across[zoomed, 1].min() < 0.86
    assert 1.17 < across[zoomed, 1].max() <= 1 / 0.8 + 1e-4


def test_each_draws_alike_whatever_the_images_type():
    few = images(height=32, width=32).astype(jnp.bfloat16)
    of_few, of_many = (augment_each(jax.random.key(0), x) for x in (few, few.astype(np.float32)))
    assert of_few.dtype == jnp.bfloat16
    np.testing.assert_allclose(of_few.astype(np.float32), of_many, atol=0.1)


def test_each_fills_with_the_mean():
    x = np.full((20, 6, 6, 1), 3.5, np.float32)
    np.testing.assert_allclose(augment_each(jax.random.key(0), x), x, atol=1e-6)
    still = EachSettings(crop=0, scale=0.0, rotate=0.0)
    np.testing.assert_allclose(
        augment_each(jax.random.key(0), images(), settings=still), images(), atol=1e-6
    )


def test_cutmix_is_one_box_and_one_permutation_of_a_batch():
    """Boxes of Yun et al.: √(1 − λ) of either side, an even number of pixels, cut off at edges."""
    x = images(n=6, height=10, width=8)
    labels = jnp.arange(6)
    seen, sides = [], set()
    for seed in range(60):
        mixed, both = cutmix(jax.random.key(seed), x, labels, probability=0.8)
        order = np.asarray(both.others)
        np.testing.assert_array_equal(np.sort(order), labels)
        inside = np.argwhere((np.asarray(mixed) != x).any(axis=(0, 3)))
        box = np.zeros((10, 8), bool)
        if len(inside):
            (top, left), (bottom, right) = inside.min(0), inside.max(0) + 1
            box[top:bottom, left:right] = True
            sides.add((bottom - top, right - left))
        np.testing.assert_array_equal(mixed, np.where(box[:, :, None], x[order], x))
        np.testing.assert_allclose(both.fraction, 1 - box.mean(), atol=1e-6)
        seen.append(1 - box.mean())
    assert len(sides) > 10 and seen.count(1.0) >= 6
    always = [cutmix(jax.random.key(s), x, labels, 1.0, 0.05)[1].fraction[0] for s in range(40)]
    small_or_full = np.mean([f < 0.7 or f > 0.9 for f in always])
    assert small_or_full > 0.8  # a small beta has λ near 0 or 1
    for seed in range(5):
        np.testing.assert_array_equal(cutmix(jax.random.key(seed), x, labels, 0.0)[0], x)


def test_stacked_kinds_go_in_the_released_codes_order():
    """Flip and cutout at their places around color; one geometric kind; siamese as `augment`."""
    x = images(n=4)
    key = jax.random.key(3)
    flip, color, geometric, cutout = jax.random.split(key, 4)
    mirrored = augment(flip, x, "flip", settings=DsaSettings(flip=1.0))
    expected = augment(color, mirrored, "color")
    expected = augment(cutout, augment(geometric, expected, "crop_scale"), "cutout")
    settings = DsaSettings(flip=1.0)
    ours = augment_stacked(key, x, "crop_color_cutout_flip_scale", settings=settings)
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    empty = (np.asarray(ours) == 0).all(axis=3).sum(axis=(1, 2))
    assert (empty >= 4).all()  # the square that is cut out last is not colored
    parts = [augment_stacked(key, one, module.WITH_FLIP, siamese=True) for one in (x, x[1:])]
    np.testing.assert_allclose(parts[0][1:], parts[1], atol=1e-6)
    with pytest.raises(UserError, match="'croop': did you mean 'crop'"):
        augment_stacked(key, x, "color_croop")
