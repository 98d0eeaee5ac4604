"""Every loss and its gradients against the published PyTorch code, on its own network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import losses, networks
from jdd.interop import params_from_torch
from tests import parity

NETWORK = networks.create("ConvNet", 10, width=32)
METRICS = {"ours": "layerwise_cosine", "mse": "mse", "cos": "cosine"}


@functools.cache
def start():
    listed = parity.recipe()["loss_net_1x28"]
    return from_torch(parity.state(listed["state"], listed["seed"]))


def from_torch(state):
    with (
        jax.ensure_compile_time_eval()
    ):  # cached, so they may not belong to the function traced now
        return params_from_torch(NETWORK, state, (28, 28, 1))["params"]


def check(key, ours, tolerance):
    assert parity.relative_error(ours, parity.outputs()[key]) < tolerance


@functools.cache
def class_grads(seed, count):
    return grads_of(start(), parity.image(seed, count))


@jax.jit
def grads_of(params, images):
    labels = jnp.full(len(images), 3)
    return jax.grad(lambda p: losses.cross_entropy(NETWORK.apply({"params": p}, images), labels))(
        params
    )


@pytest.mark.parametrize("metric", METRICS)
def test_gradient_matching(metric):
    real = class_grads(411, 16)

    @jax.jit
    def distance(images):
        return losses.gradient_matching(grads_of(start(), images), real, METRICS[metric])

    loss, grad = jax.value_and_grad(distance)(parity.image(401, 4))
    check(f"dc/1x28/{metric}/loss", loss, 1e-4)
    check(f"dc/1x28/{metric}/grad", grad, 2e-3)


@functools.partial(jax.jit, static_argnames="method")
def features(images, method):
    return NETWORK.apply({"params": start()}, images, method=method)


def test_distribution_matching():
    real = features(parity.image(411, 16), "embed")

    def distance(images):
        return losses.distribution_matching(features(images, "embed"), real)

    loss, grad = jax.value_and_grad(distance)(parity.image(401, 4))
    check("dm/1x28/loss", loss, 1e-4)
    check("dm/1x28/grad", grad, 1e-3)
    check("dam/1x28/mmd", loss, 1e-4)


@pytest.mark.parametrize("power", [1, 4])
def test_attention_matching(power):
    real = features(parity.image(411, 16), "feature_maps")[:-1]

    def layers(images):
        synthetic = features(images, "feature_maps")[:-1]
        return jnp.stack(
            [
                losses.attention_matching([a], [b], power)
                for a, b in zip(synthetic, real, strict=True)
            ]
        )

    def distance(images):
        return losses.attention_matching(features(images, "feature_maps")[:-1], real, power)

    images = parity.image(401, 4)
    check(f"dam/1x28/p{power}/layers", layers(images), 1e-4)
    check(f"dam/1x28/p{power}/attention_grad", jax.grad(distance)(images), 1e-3)


@functools.cache
def target_and_label_logits():
    """The recipe draws the target's noise and then the label logits from one generator."""
    listed, first = parity.recipe()["mtt_1x28"], parity.recipe()["loss_net_1x28"]
    begin = parity.state(first["state"], first["seed"])
    rng = np.random.default_rng(listed["target_seed"])
    target = {
        name: begin[name] + np.float32(0.05) * rng.standard_normal(shape).astype(np.float32)
        for name, shape in listed["order"]
    }
    return from_torch(target), rng.standard_normal((20, 10)).astype(np.float32)


@functools.partial(jax.jit, static_argnames=("entropy", "dropped"))
def matched(images, labels, rate, batches, entropy, dropped=0.0):
    """Six plain SGD steps of the student, then the distance from the target."""
    target, _ = target_and_label_logits()

    def step(params, batch):
        def loss(p):
            return entropy(NETWORK.apply({"params": p}, images[batch]), labels[batch])

        return jax.tree.map(lambda p, g: p - rate * g, params, jax.grad(loss)(params)), None

    student, _ = jax.lax.scan(step, start(), batches)
    weights = losses.drop_smallest_errors(student, target, dropped) if dropped else None
    return losses.trajectory_matching(student, start(), target, weights)


def test_trajectory_matching_with_hard_labels():
    batches = jnp.asarray(parity.outputs()["mtt/1x28/batches"], jnp.int32)
    loss, grads = jax.value_and_grad(matched, argnums=(0, 2))(
        parity.image(421, 20), jnp.arange(20) // 2, 0.02, batches, losses.cross_entropy
    )
    check("mtt/1x28/hard/loss", loss, 1e-5)
    check("mtt/1x28/hard/grad_images", grads[0], 2e-3)
    check("mtt/1x28/hard/grad_lr", grads[1], 2e-3)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_trajectory_matching_with_soft_labels(share):
    _, label_logits = target_and_label_logits()
    batches = jnp.asarray(parity.outputs()["mtt/1x28/batches"], jnp.int32)
    loss, grads = jax.value_and_grad(matched, argnums=(0, 1, 2))(
        parity.image(421, 20), label_logits, 0.02, batches, losses.soft_cross_entropy, share
    )
    name = "pad/1x28" if share else "mtt/1x28/soft"
    check(f"{name}/loss", loss, 1e-5)
    check(f"{name}/grad_images", grads[0], 2e-3)
    if not share:
        check(f"{name}/grad_labels", grads[1], 2e-3)
        check(f"{name}/grad_lr", grads[2], 2e-3)
