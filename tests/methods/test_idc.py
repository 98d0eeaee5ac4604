"""IDC against a step of its released code and plain loops; its networks; resume."""

import dataclasses
import functools
import itertools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jdd import data, evaluation, networks, synthetic
from jdd.data import DeviceData
from jdd.distillation import Hooks, Loop, distill
from jdd.errors import Interrupted, SettingError, UserError
from jdd.losses import gradient_matching, hidden_kernels
from jdd.methods import IdcSettings, gradients, guarded, idc
from jdd.runs import Selection
from jdd.runs import settings as run_settings
from jdd.runs.directory import RunFiles
from jdd.synthetic import MultiFormation, SetInfo, SyntheticSet
from jdd.training import FitState, Recipe, Trainer
from tests.methods import small

NETWORK = networks.create("MLP", small.CLASSES, width=16)
STEP = np.load(Path(__file__).parents[1] / "fixtures/idc/step.npz")
SETTINGS = IdcSettings(
    outer_loop=2,
    train_steps=3,
    batch_real=10,
    batch_train=30,
    lr_img=0.2,
    augmentation="none",
    net_cutmix=0.0,
)


def their_weights():
    """The released code's weights in Flax layout: its features run channel, row, column."""

    def block(i):
        weight, norm = STEP[f"state.layers.conv.{i}.weight"], f"state.layers.norm.{i}."
        conv = {"kernel": weight.transpose(2, 3, 1, 0), "bias": STEP[f"state.layers.conv.{i}.bias"]}
        return {"conv": conv, "norm": {"scale": STEP[norm + "weight"], "bias": STEP[norm + "bias"]}}

    kernel = STEP["state.classifier.weight"].reshape(3, 6, 3, 3).transpose(2, 3, 1, 0)
    last = {"kernel": kernel.reshape(54, 3), "bias": STEP["state.classifier.bias"]}
    return {"block_0": block(0), "block_1": block(1), "classifier": last}


def test_loss_and_gradient_are_those_of_the_released_code():
    """Of class 1 alone: the two others are matched by their own images, and add nothing."""
    real, ours = (STEP[name].transpose(0, 2, 3, 1) for name in ("real", "synthetic"))
    network = networks.create("ConvNet", 3, width=6, depth=2)
    every = DeviceData(
        jnp.concatenate([real + 1, real, real - 1]),
        jnp.repeat(jnp.arange(3, dtype=jnp.int32), 5),
        index=data.device.class_index(np.repeat(np.arange(3), 5), 3),
    )
    variables = {"params": jax.tree.map(jnp.asarray, their_weights())}
    fit = FitState.start(Trainer(network, 1, 1), variables, jax.random.key(0))
    # Five times over, so that each of the others may have its real images twice.
    tiled = jnp.concatenate([real + 1, real + 1, ours[[0, 1] * 5], real - 1, real - 1])
    for metric in ("mse", "l1"):

        def distance(a, b, metric=metric):
            return gradient_matching(hidden_kernels(a), hidden_kernels(b), metric)

        pair = gradients.Pair(5, lambda _, images: images, distance)
        loss, gradient = gradients.image_gradient(
            pair, network, fit, tiled, every, jax.random.key(0)
        )
        assert float(loss) == pytest.approx(float(STEP[metric]), rel=1e-3)
        theirs = STEP[f"{metric}_gradient"].transpose(0, 2, 3, 1)
        actual = gradient[10:20].reshape(5, *theirs.shape).sum(0)
        assert np.linalg.norm(actual - theirs) < 1e-3 * np.linalg.norm(theirs)


def plain_distance(params, ours, theirs, label):
    """Squared, between the gradients to the kernels of all layers but the classifier."""

    def loss(params, images):
        return -jnp.mean(jax.nn.log_softmax(NETWORK.apply({"params": params}, images))[:, label])

    a, b = (jax.grad(loss)(params, images) for images in (ours, theirs))
    return sum(
        jnp.sum(jnp.square(a[name]["dense"]["kernel"] - b[name]["dense"]["kernel"]))
        for name in a
        if name != "classifier"
    )


@functools.partial(jax.jit, static_argnums=3)
@jax.value_and_grad
def plain_loss(images, params, of, ipc):
    """Over all classes, whose real images are all drawn: reverse mode over reverse mode."""
    parts = images.reshape(small.CLASSES, ipc, *images.shape[1:])
    return sum(
        plain_distance(params, part, small.real(of, label), label)
        for label, part in enumerate(parts)
    )


@pytest.mark.slow
def test_a_network_is_trained_on_all_real_images_and_then_a_new_one_is_drawn():
    """30 real images in one batch: a step of SGD between the two updates at a network."""
    of, ipc = small.digits(10), 2
    method = guarded(idc(SETTINGS, NETWORK))
    made, state = method.init(jax.random.key(3), small.start(ipc), of)
    update = jax.jit(method.update)
    sgd = optax.chain(optax.add_decayed_weights(5e-4), optax.sgd(0.01, momentum=0.9))
    images, labels = of.batch(jnp.arange(30))

    @jax.jit
    @jax.grad
    def slope(params):
        logits = NETWORK.apply({"params": params}, images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    velocity, expected = 0.0, made.images
    for number in range(3):
        if number % 2 == 0:
            params = small.fresh(NETWORK, state)["params"]
            moments = sgd.init(params)
        else:
            change, moments = sgd.update(slope(params), moments, params)
            params = optax.apply_updates(params, change)
        loss, gradient = plain_loss(expected, params, of, ipc)
        velocity = 0.5 * velocity + gradient
        expected = expected - 0.2 * velocity
        before = made.images
        made, state, metrics = update(made, state, of)
        assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-3)
        np.testing.assert_allclose(made.images, expected, rtol=1e-3, atol=1e-4)
        assert np.abs(made.images - before).max() > 1e-3


def test_few_real_images_are_passed_over_once():
    """30 of them in batches of eight: four steps and no more, however many are asked for."""
    of = small.digits(10)

    def second(steps):
        settings = dataclasses.replace(SETTINGS, train_steps=steps, batch_train=8)
        return small.two_updates(idc(settings, NETWORK), small.start(2), of)[-1][0]

    np.testing.assert_array_equal(second(4), second(50))
    assert (second(3) != second(4)).any()


def test_a_dropped_update_does_not_put_off_the_next_network():
    of = small.digits(10)
    method = idc(SETTINGS, NETWORK)
    made, state = method.init(jax.random.key(3), small.start(2), of)
    update = jax.jit(method.update)
    epochs = []
    for number in range(6):
        made, after, _ = update(made, state, of)
        # The third is dropped: the state stays, but its iteration advances.
        dropped = number == 2
        state = state._replace(iteration=after.iteration) if dropped else after
        epochs.append(int(after.optimizer.network.epoch))
    assert epochs == [0, 1, 0, 0, 0, 1]


@pytest.mark.slow
def test_at_most_batch_syn_images_of_a_class_are_moved():
    of = small.digits(10)
    settings = dataclasses.replace(SETTINGS, batch_syn=2, mom_img=0.0)
    seen = small.two_updates(idc(settings, NETWORK), small.start(5), of)
    drawn = []
    for (before, *_), (after, *_) in itertools.pairwise(seen):
        moved = np.abs(after - before).max(axis=(1, 2, 3)).reshape(small.CLASSES, 5) > 0
        np.testing.assert_array_equal(moved.sum(1), 2)
        drawn.append(moved)
    assert (drawn[0] != drawn[1]).any()


def test_transforms_are_the_same_for_real_and_synthetic_images():
    """A set of the real images themselves is matched already, however they are transformed."""
    of = small.digits(10)
    settings = dataclasses.replace(SETTINGS, augmentation="color_crop_cutout", train_steps=0)
    method = idc(settings, NETWORK)
    update = jax.jit(method.update)
    images = jnp.concatenate([small.real(of, label) for label in range(small.CLASSES)])
    noise = small.start(10)

    def loss(start):
        return float(update(*method.init(jax.random.key(0), start, of), of)[2]["loss"])

    assert loss(noise.replace(storage=images)) < 1e-6 * loss(noise)


NETWORK_10 = networks.create("ConvNet", 10, width=16, depth=1)


@functools.cache
def on_digits():
    loaded = data.load("digits")
    return loaded, data.to_device(loaded.train, loaded.preprocess, 10)


def ten_stored_images():
    loaded, _ = on_digits()
    decoder = MultiFormation(2, 8, 8)
    images, _ = synthetic.from_real(loaded.train, loaded, 4, np.random.default_rng(0))
    return SyntheticSet.encode(images, SetInfo("digits", loaded.class_names, {}, 1), decoder)


def accuracy(made):
    loaded, _ = on_digits()
    test = data.to_device(loaded.test, loaded.preprocess)
    recipe = Recipe(epochs=100, learning_rate=0.03)
    return evaluation.train_and_test(
        NETWORK_10, recipe, made.data(), test, jax.random.key(1), 2
    ).mean


QUICK = IdcSettings(iterations=30, outer_loop=10, train_steps=4, batch_real=30, lr_img=1.0)


@pytest.mark.slow
def test_ten_stored_images_get_better_and_a_run_resumes_to_the_same_bits(tmp_path):
    _, real = on_digits()
    start = ten_stored_images()
    method = idc(dataclasses.replace(QUICK, augmentation="color_crop"), NETWORK_10)
    key, loop = jax.random.key(0), Loop(iterations=30, evaluate_every=15, chunk=5)
    whole = distill(method, start, real, key, loop)
    assert whole.dropped == 0
    assert accuracy(whole.final) > accuracy(start) + 0.05
    asked = itertools.count()
    stopped = Hooks(listener=RunFiles(tmp_path), should_stop=lambda: next(asked) >= 2)
    with pytest.raises(Interrupted):
        distill(method, start, real, key, loop, stopped)
    parts = distill(method, start, real, key, loop, Hooks(listener=RunFiles(tmp_path)))
    assert 0 < parts.resumed_from < 30 and parts.resumed_from % QUICK.outer_loop
    np.testing.assert_array_equal(parts.final.storage, whole.final.storage)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", 0),
        ("outer_loop", 0),
        ("train_steps", -1),
        ("batch_syn", 0),
        ("lr_img", 0.0),
        ("mom_net", 1.0),
        ("decay_net", -1.0),
        ("net_cutmix", 1.5),
        ("metric", "l2"),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(SettingError, match=f"`{name}`"):
        dataclasses.replace(SETTINGS, **{name: value})


def test_what_cannot_be_matched_is_refused():
    with pytest.raises(UserError, match="no layer but its last"):
        hidden_kernels({"classifier": {"kernel": jnp.zeros((4, 3)), "bias": jnp.zeros(3)}})
    with pytest.raises(UserError, match="'crp'"):
        dataclasses.replace(SETTINGS, augmentation="color_crp")


def test_what_the_released_code_has():
    """Rates for pixels in [0, 1], times ipc / 10, over the square of each dataset's deviations.

    Its `tune_lr_img` scales by (size / 32)² too, but MNIST's by (size / 28)².
    """

    def built(dataset, ipc):
        return run_settings.build(Selection("idc", dataset, ipc, "real", preset="paper"))

    for dataset, published, deviations in [
        ("cifar10", 5e-3, [0.2023, 0.1994, 0.2010]),
        ("cifar100", 5e-3, [0.2673, 0.2564, 0.2762]),
        ("svhn", 5e-3, [0.1980, 0.2010, 0.1970]),
        ("mnist", 1e-4, [0.3081]),
        ("fashion_mnist", 1e-4 * (28 / 32) ** 2, [0.3530]),
    ]:
        for ipc in (1, 10, 50):
            rate = published * ipc / 10 / np.mean(np.square(deviations))
            ours = built(dataset, ipc).method_settings.lr_img
            assert ours == pytest.approx(rate, rel=0.01), dataset
    for ipc in (1, 10, 50):
        run = built("cifar10", ipc)
        of = run.method_settings
        assert (of.metric, of.train_steps, of.outer_loop, of.iterations) == ("mse", 32, 100, 200000)
        recipe = run.recipe("color_crop_cutout_flip_scale_rotate")
        assert recipe.augmentation == "stacked_color_crop_flip_scale_rotate"
        assert (recipe.cutmix, recipe.epochs, recipe.batch_size) == (0.5, 1000, 64)
        assert run.storage.factor == 2
    of = built("mnist", 10).method_settings
    assert (of.metric, of.train_steps, of.augmentation) == ("l1", 8, "color_crop")
    assert of.net_cutmix == built("mnist", 10).recipe("color").cutmix == 0
