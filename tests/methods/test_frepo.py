"""FRePo: two steps of the released code, the pool, labels, mirror images, resuming."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import distillation, networks
from jdd.data import DeviceData
from jdd.distillation import Hooks, Loop
from jdd.errors import Interrupted, SettingError
from jdd.methods import FrepoSettings, frepo, guarded
from jdd.methods.frepo import _is_sound, first_targets, label_margin
from jdd.runs.directory import RunFiles
from jdd.synthetic import MultiFormation, SetInfo, SyntheticSet
from tests.methods import on_digits, small

PUBLISHED = Path(__file__).parents[1] / "fixtures" / "published" / "frepo.npz"
CLASSES, TEMPERATURE = 6, 0.25
SMALL = FrepoSettings(iterations=20, batch_real=30, pool=3, pool_steps=4, lr_img=0.01, lr_net=0.003)


NETWORK = networks.create("ConvNet", small.CLASSES, width=8, depth=2)


def released():
    """The inputs and weights of the stored steps, in our names."""
    rng = np.random.default_rng(701)

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    def layer(*shape):
        kernel = draw(*shape) / np.float32(np.sqrt(np.prod(shape[:-1])))
        return {"kernel": kernel, "bias": np.float32(0.1) * draw(shape[-1])}

    blocks = {f"block_{i}": {"conv": layer(3, 3, *s)} for i, s in enumerate([(3, 4), (4, 8)])}
    params = {**blocks, "classifier": layer(2 * 2 * 8, CLASSES)}
    images, targets = draw(12, 8, 8, 3), np.float32(0.3) * draw(12, CLASSES)
    real = DeviceData(jnp.asarray(draw(40, 8, 8, 3)), jnp.arange(40, dtype=jnp.int32) % CLASSES)
    info = SetInfo("cifar10", tuple("abcdef"), {}, 2)
    logits = jnp.asarray(targets) / TEMPERATURE
    return params, SyntheticSet(jnp.asarray(images), logits, None, info), real


def test_two_updates_are_those_of_the_released_code():
    params, start, real = released()
    settings = FrepoSettings(
        iterations=500, batch_real=40, pool=1, lr_img=0.003, temperature=TEMPERATURE
    )
    method = guarded(frepo(settings, networks.create("WideConvNet", CLASSES, width=4, depth=2)))
    synthetic, state = method.init(jax.random.key(0), start, real)
    progress = state.optimizer
    pool = progress.pool._replace(params=jax.tree.map(lambda p: jnp.asarray(p)[None], params))
    state = state._replace(optimizer=progress._replace(pool=pool))
    stored, update = np.load(PUBLISHED), jax.jit(method.update)
    for i in range(2):
        synthetic, state, metrics = update(synthetic, state, real)
        assert metrics["loss"] == pytest.approx(float(stored[f"{i}/loss"]), rel=1e-4)
        assert metrics["real_accuracy"] == pytest.approx(float(stored[f"{i}/accuracy"]), abs=1e-6)
    close(synthetic.images - start.images, stored["images"])
    close(TEMPERATURE * (synthetic.labels - start.labels), stored["targets"])
    moved = jax.tree.map(lambda new, old: new[0] - old, state.optimizer.pool.params, params)
    for name, ours in [
        ("Conv_0", moved["block_0"]["conv"]),
        ("Conv_1", moved["block_1"]["conv"]),
        ("Dense_0", moved["classifier"]),
    ]:
        for leaf in ("kernel", "bias"):
            close(ours[leaf], stored[f"moved/{name}/{leaf}"])


def close(ours, theirs):
    """But for the few entries whose gradient is next to nothing, of which Adam takes the sign."""
    apart = np.abs(np.asarray(ours) - theirs)
    assert np.quantile(apart, 0.97) < 3e-3 * np.abs(theirs).max()


@pytest.mark.slow
@pytest.mark.parametrize("norm", [pytest.param("instance", marks=pytest.mark.slow), "batch"])
def test_networks_are_trained_in_turn_and_replaced(norm):
    """A network that has taken more than `pool_steps` steps gives way; the others stay."""
    method = guarded(
        frepo(SMALL, networks.create("ConvNet", small.CLASSES, width=8, depth=2, norm=norm))
    )
    of = small.digits(10)
    synthetic, state = method.init(jax.random.key(1), small.start(1), of)
    update = jax.jit(method.update)
    assert state.optimizer.pool.steps.tolist() == [0, 1, 2]
    replaced = 0
    for _ in range(15):
        before = state.optimizer.pool
        synthetic, state, metrics = update(synthetic, state, of)
        after = state.optimizer.pool
        assert not metrics["dropped"]
        changed = [
            i
            for i in range(3)
            if any(
                np.any(a[i] != b[i])
                for a, b in zip(*map(jax.tree.leaves, (before.params, after.params)), strict=True)
            )
        ]
        (which,) = changed
        had = int(before.steps[which])
        assert int(after.steps[which]) == (0 if had > SMALL.pool_steps else had + 1)
        assert had <= SMALL.pool_steps + 1
        replaced += had > SMALL.pool_steps
        if had > SMALL.pool_steps:  # fresh: nothing of Adam's is left
            assert not any(np.any(m[which]) for m in jax.tree.leaves(after.moments))
    assert replaced >= 1
    if norm == "batch":
        assert np.any(after.batch_stats["block_0"]["norm"]["mean"])


def test_a_network_that_breaks_is_replaced():
    """One whose step is not finite, as its moments are not, gives way to a fresh one."""
    method = guarded(frepo(SMALL, NETWORK))
    of = small.digits(10)
    synthetic, state = method.init(jax.random.key(1), small.start(1), of)
    pool = state.optimizer.pool
    moments = jax.tree.map(lambda leaf: leaf * jnp.nan if leaf.ndim > 1 else leaf, pool.moments)
    broken = state.optimizer._replace(pool=pool._replace(moments=moments))
    _, state, metrics = jax.jit(method.update)(synthetic, state._replace(optimizer=broken), of)
    after = state.optimizer.pool
    assert not metrics["dropped"] and all(
        np.isfinite(p).all() for p in jax.tree.leaves(after.params)
    )
    (which,) = [
        i for i in range(3) if not any(np.any(m[i]) for m in jax.tree.leaves(after.moments))
    ]
    assert after.steps[which] == 0


def test_a_network_whose_products_overflow_is_no_sound_one():
    """Its parameters are finite, and so are its features: the regression multiplies those."""
    of = small.digits(10)
    _, state = frepo(SMALL, NETWORK).init(jax.random.key(1), small.start(1), of)
    member = jax.tree.map(lambda leaf: leaf[0], state.optimizer.pool)
    image = of.batch(jnp.arange(1))[0]
    assert _is_sound(NETWORK, member, image)
    norm = member.params["block_1"]["norm"]
    norm["scale"] = norm["scale"] * 1e20
    features = NETWORK.apply({"params": member.params}, image, method="embed")
    assert jnp.isfinite(features).all() and not _is_sound(NETWORK, member, image)


def test_labels_start_from_centred_classes_and_are_logits():
    of, method = small.digits(10), frepo(SMALL, NETWORK)
    synthetic, _ = method.init(jax.random.key(1), small.start(2), of)
    expected = (np.eye(3).repeat(2, axis=0) - 1 / 3) * np.sqrt(10 / 3)
    np.testing.assert_allclose(SMALL.temperature * synthetic.labels, expected, rtol=1e-5)
    again, _ = method.init(jax.random.key(1), synthetic, of)
    np.testing.assert_array_equal(again.labels, synthetic.labels)
    certain = jax.nn.softmax(first_targets(jnp.arange(10), 10) / FrepoSettings().temperature)
    np.testing.assert_allclose(np.diag(certain), np.e**2.5 / (np.e**2.5 + 9), rtol=1e-5)


def test_the_lead_of_a_label_counts_up_to_a_share_of_the_classes():
    labels = jnp.asarray([[0.1, 0.9, 0.0, 0.2], [0.3, 0.0, 0.2, 0.1]])
    assert label_margin(labels) == pytest.approx(-(0.25 + 0.1) / 2)


@pytest.mark.slow
def test_labels_that_are_not_learned_stay_classes():
    of = small.digits(10)
    method = guarded(frepo(dataclasses.replace(SMALL, learn_labels=False), NETWORK))
    synthetic, state = method.init(jax.random.key(1), small.start(2), of)
    moved, _, metrics = jax.jit(method.update)(synthetic, state, of)
    np.testing.assert_array_equal(moved.labels, small.start(2).labels)
    assert np.any(moved.images != synthetic.images) and metrics["loss"] > 0


@pytest.mark.parametrize(("dataset", "counts"), [("digits", False), ("cifar10", True)])
def test_mirror_images_count_where_the_dataset_may_be_mirrored(dataset, counts):
    """A set and its mirror image then have the same loss."""
    start, of = small.start(1), small.digits(10)
    start = start.replace(info=dataclasses.replace(start.info, dataset=dataset))
    settings = dataclasses.replace(SMALL, margin=0.0, ridge=1e-3)
    method = frepo(settings, NETWORK)
    losses = []
    for images in (start.images, start.images[:, :, ::-1]):
        started = method.init(jax.random.key(1), start.replace(storage=images), of)
        losses.append(float(jax.jit(method.update)(*started, of)[2]["loss"]))
    assert (losses[0] == pytest.approx(losses[1], rel=1e-3)) == counts


@pytest.mark.slow
def test_ten_images_are_worth_more_than_they_were():
    loaded, of = on_digits.digits()
    settings = FrepoSettings(iterations=80, batch_real=100, lr_img=0.02, lr_net=3e-3)
    made = on_digits.distilled(frepo(settings, on_digits.NETWORK), on_digits.start(), of, 80)
    assert on_digits.accuracy(loaded, made) > on_digits.accuracy(loaded, on_digits.start()) + 0.08


@pytest.mark.slow
def test_it_resumes_to_the_same_bits(tmp_path):
    start = SyntheticSet.store(small.start(1).storage, small.start(1).info, MultiFormation(2, 8, 8))
    of, method, asked = small.digits(10), frepo(SMALL, NETWORK), 0

    def stop():
        nonlocal asked
        asked += 1
        return asked == 3

    def go(folder, should_stop):
        hooks = Hooks(listener=RunFiles(tmp_path / folder), should_stop=should_stop)
        return distillation.distill(method, start, of, jax.random.key(0), Loop(6, 6, 2), hooks)

    with pytest.raises(Interrupted):
        go("parts", stop)
    parts, full = go("parts", lambda: False), go("full", lambda: False)
    assert parts.resumed_from > 0 and full.final.labels.shape == (12, 3)
    for a, b in zip(*map(jax.tree.leaves, (parts.final, full.final)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.any(full.final.storage != start.storage)


@pytest.mark.parametrize(
    ("name", "value"),
    [("pool", 0), ("ridge", 0.0), ("temperature", 0.0), ("lr_net", -1.0), ("margin", -1.0)],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(SettingError, match=f"`{name}`"):
        dataclasses.replace(SMALL, **{name: value})
