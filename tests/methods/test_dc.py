"""Gradient matching against plain loops and plain differentiation; batch norm; DSA's tie."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import networks
from jdd.errors import SettingError
from jdd.methods import DcSettings, Rejection, dc, dsa, guarded
from jdd.ops.target import compiling_for
from jdd.training import Trainer
from tests.methods import small

NETWORK = networks.create("MLP", small.CLASSES, width=16)
SETTINGS = DcSettings(outer_loop=1, batch_real=20, lr_img=0.3, mom_img=0.5, lr_net=0.05)


def cross_entropy(network, variables, images, label):
    logits = network.apply(variables, images)
    return -jnp.mean(jax.nn.log_softmax(logits)[:, label])


def layerwise_cosine(ours, theirs):
    """Output unit by output unit, kernels only."""
    total = 0.0
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        if a.ndim > 1:
            u, v = (x.reshape(-1, x.shape[-1]).T for x in (a, b))
            lengths = jnp.sqrt((u * u).sum(1) + 1e-20) * jnp.sqrt((v * v).sum(1) + 1e-20)
            total += jnp.sum(1 - (u * v).sum(1) / (lengths + 1e-6))
    return total


@functools.partial(jax.jit, static_argnums=(1, 4))
@functools.partial(jax.value_and_grad, argnums=0)
def plain_loss(images, network, variables, of, ipc):
    """Σ_c D(∇ℓ(S_c), ∇ℓ(B_c)), B_c all images of a class: reverse mode over reverse mode."""
    rest = {name: value for name, value in variables.items() if name != "params"}
    total = 0.0
    for label in range(small.CLASSES):

        def loss(params, batch, label=label):
            return cross_entropy(network, {"params": params, **rest}, batch, label)

        ours = jax.grad(loss)(variables["params"], images[label * ipc : (label + 1) * ipc])
        theirs = jax.grad(loss)(variables["params"], small.real(of, label))
        total += layerwise_cosine(ours, theirs)
    return total


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def plain_training(network, variables, images, ipc, epochs, rate, velocity):
    def loss(params):
        labels = range(small.CLASSES)
        parts = [images[label * ipc : (label + 1) * ipc] for label in labels]
        pairs = zip(parts, labels, strict=True)
        return sum(cross_entropy(network, {"params": params}, *pair) for pair in pairs) / len(parts)

    params = variables["params"]
    for _ in range(epochs):
        velocity = jax.tree.map(lambda v, g: 0.4 * v + g, velocity, jax.grad(loss)(params))
        params = jax.tree.map(lambda p, v: p - rate * v, params, velocity)
    return {"params": params}, velocity


@pytest.mark.parametrize("ipc", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_two_updates_are_those_of_plain_differentiation(ipc):
    of = small.digits(20)
    seen = small.two_updates(dc(SETTINGS, NETWORK), small.start(ipc), of)
    velocity = 0.0
    for (before, state, _), (after, _, loss) in itertools.pairwise(seen):
        value, gradient = plain_loss(before, NETWORK, small.fresh(NETWORK, state), of, ipc)
        velocity = 0.5 * velocity + gradient
        assert loss == pytest.approx(float(value), rel=1e-4)
        np.testing.assert_allclose(after, before - 0.3 * velocity, rtol=1e-4, atol=1e-5)
        assert np.abs(after - before).min(axis=(1, 2, 3)).max() > 0


def test_the_network_is_trained_on_the_set_between_the_images_updates():
    """Three updates of the images at one network, two epochs before the second and the third."""
    of, ipc = small.digits(20), 2
    settings = dataclasses.replace(SETTINGS, outer_loop=3, inner_loop=2, mom_net=0.4)
    seen = small.two_updates(dc(settings, NETWORK), small.start(ipc), of)
    velocity = 0.0
    for (images, state, _), (after, _, loss) in itertools.pairwise(seen):
        variables = small.fresh(NETWORK, state)
        of_network = jax.tree.map(jnp.zeros_like, variables["params"])
        values = []
        for outer in range(3):
            if outer:
                variables, of_network = plain_training(
                    NETWORK, variables, images, ipc, 2, 0.05, of_network
                )
            value, gradient = plain_loss(images, NETWORK, variables, of, ipc)
            velocity = 0.5 * velocity + gradient
            images = images - 0.3 * velocity
            values.append(float(value))
        assert loss == pytest.approx(np.mean(values), rel=1e-4)
        np.testing.assert_allclose(after, images, rtol=1e-3, atol=1e-4)
    untrained = dc(dataclasses.replace(settings, inner_loop=0), NETWORK)
    other = small.two_updates(untrained, small.start(ipc), of)
    assert np.abs(other[1][0] - seen[1][0]).max() > 1e-3


def test_the_networks_last_batch_may_be_smaller(monkeypatch):
    """Of nine images in batches of six: 4 and 4, or 6 and 3."""
    seen, of, make = [], small.digits(20), Trainer.of
    monkeypatch.setattr(Trainer, "of", lambda *given: seen.append(make(*given)) or seen[-1])
    for equal in (True, False):
        settings = dataclasses.replace(SETTINGS, outer_loop=2, batch_train=6, equal_batches=equal)
        small.two_updates(dc(settings, NETWORK), small.start(3), of)
    batches = [(trainer.batch, trainer.steps, trainer.rest) for trainer in seen]
    assert batches == [(4, 2, 0), (6, 1, 3)]


@pytest.mark.parametrize("share", [pytest.param(1.0, marks=pytest.mark.slow), 0.1])
def test_batch_norms_statistics_come_from_sixteen_real_images_a_class(share):
    """Set before the gradients are taken, then held: by hand on a network of one block."""
    network = networks.create("ConvNet", small.CLASSES, width=8, depth=1, norm="batch")
    of, ipc = small.digits(16), 2
    settings = dataclasses.replace(SETTINGS, batch_real=16, statistics=share)
    seen = small.two_updates(dc(settings, network), small.start(ipc), of)
    (before, state, _), (after, _, loss), _ = seen
    params = small.fresh(network, state)["params"]
    every = jnp.concatenate([small.real(of, label) for label in range(small.CLASSES)])
    kernel, bias = params["block_0"]["conv"]["kernel"], params["block_0"]["conv"]["bias"]
    convolved = jax.lax.conv_general_dilated(
        every, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    flat = np.asarray(convolved + bias).reshape(-1, 8)
    mean, var = share * flat.mean(0), (1 - share) + share * flat.var(0, ddof=1)
    held = {"mean": jnp.asarray(mean), "var": jnp.asarray(var)}
    variables = {"params": params, "batch_stats": {"block_0": {"norm": held}}}
    value, gradient = plain_loss(before, network, variables, of, ipc)
    assert loss == pytest.approx(float(value), rel=1e-4)
    np.testing.assert_allclose(after, before - 0.3 * gradient, rtol=1e-4, atol=1e-5)


def moved(method, synthetic, of):
    return np.asarray(small.two_updates(method, synthetic, of)[1][0] - synthetic.images)


@pytest.mark.parametrize("method", [pytest.param(dc, marks=pytest.mark.slow), dsa])
def test_classes_are_not_mixed(method):
    """Other real images of one class move that class's synthetic images alone."""
    made = method(SETTINGS, NETWORK)
    ours, others = (moved(made, small.start(2), small.digits(20, shift)) for shift in (0, 20))
    assert np.abs(ours[:2] - others[:2]).max() > 1e-4
    np.testing.assert_array_equal(ours[2:], others[2:])


def test_siamese_transforms_are_the_same_for_real_and_synthetic_images():
    """A set of the real images themselves is matched already, however they are transformed."""
    of = small.digits(6)
    # A unit that no image of a class drives has no gradient, and counts in the cosine distance.
    settings = dataclasses.replace(SETTINGS, batch_real=6, metric="mse")
    images = jnp.concatenate([small.real(of, label) for label in range(small.CLASSES)])
    matched = small.start(6).replace(storage=images)
    made = dsa(settings, NETWORK)
    update = jax.jit(made.update)

    def loss(synthetic, i):
        return float(update(*made.init(jax.random.key(i), synthetic, of), of)[2]["loss"])

    for i in range(3):
        assert loss(matched, i) < 1e-6 * loss(small.start(6), i)
    plain = small.two_updates(dc(settings, NETWORK), small.start(6), of)[1][2]
    assert abs(plain - loss(small.start(6), 3)) > 1e-3 * plain


def test_an_update_that_is_not_finite_is_dropped():
    method, of, start = guarded(dc(SETTINGS, NETWORK)), small.digits(20), small.start(1)
    start = start.replace(storage=start.images.at[1].set(jnp.inf))
    synthetic, state = method.init(jax.random.key(0), start, of)
    after, state, metrics = jax.jit(method.update)(synthetic, state, of)
    reason = Rejection(int(metrics["dropped"]))
    assert reason is Rejection.NOT_FINITE and "`lr_img`" in reason.words()
    assert int(state.iteration) == 1
    np.testing.assert_array_equal(after.images, synthetic.images)


def test_sets_of_other_methods_are_put_in_order():
    """By class, with hard labels, without the step size that another method learned."""
    start = small.start(2)
    order = np.array([3, 0, 5, 1, 4, 2])
    shuffled = start.replace(
        storage=start.images[order],
        labels=start.labels[order],
        learning_rate=jnp.float32(0.1),
    )
    ordered, _ = dc(SETTINGS, NETWORK).init(jax.random.key(0), shuffled, small.digits(20))
    np.testing.assert_array_equal(ordered.labels, start.labels)
    assert ordered.learning_rate is None
    for label in range(small.CLASSES):
        rows = slice(2 * label, 2 * label + 2)
        assert {image.tobytes() for image in np.asarray(ordered.images[rows])} == {
            image.tobytes() for image in np.asarray(start.images[rows])
        }
    soft = start.replace(labels=jnp.ones((6, 3)))
    ordered, _ = dc(SETTINGS, NETWORK).init(jax.random.key(0), soft, small.digits(20))
    np.testing.assert_array_equal(ordered.labels, start.labels)
    np.testing.assert_array_equal(ordered.images, start.images)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", 0),
        ("outer_loop", 0),
        ("inner_loop", -1),
        ("batch_real", 0),
        ("batch_train", 0),
        ("lr_img", 0.0),
        ("lr_img", float("nan")),
        ("lr_net", -1.0),
        ("mom_img", 1.0),
        ("mom_net", -0.5),
        ("statistics", 1.5),
        ("metric", "cosin"),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    words = "did you mean 'cosine'" if name == "metric" else f"`{name}`"
    with pytest.raises(SettingError, match=words):
        dataclasses.replace(SETTINGS, **{name: value})


@pytest.mark.slow
def test_an_accelerators_update_is_that_of_a_cpu():
    """With an inner loop of known length, classes side by side, transforms without a branch."""
    network = networks.create("ConvNet", small.CLASSES, width=4, depth=2)
    settings = DcSettings(batch_real=6, outer_loop=3, inner_loop=2)
    seen = {}
    for platform in ("cpu", "gpu"):
        with compiling_for(platform):
            method = dsa(settings, network)
            *_, (images, _, loss) = small.two_updates(method, small.start(2), small.digits(8))
            seen[platform] = np.asarray(images), loss
    np.testing.assert_allclose(*(images for images, _ in seen.values()), atol=1e-4)
    assert seen["gpu"][1] == pytest.approx(seen["cpu"][1], 1e-4)
