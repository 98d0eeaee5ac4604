"""A method of one's own: match class means of random networks' features and of their squares."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from jdd.methods import Method, MethodSettings, MethodState, decoded, move_storage, register
from jdd.settings import setting


@dataclass(frozen=True)
class MomentsSettings(MethodSettings):  # noqa: D101
    iterations: int = setting(200, "updates, each with a fresh random network", min=1)
    lr_img: float = setting(0.3, "rate at which images are updated", above=0)


def moments(settings, network):  # noqa: D103
    sgd = optax.sgd(settings.lr_img, momentum=0.5)

    def init(key, start, data):
        return start, MethodState(jax.random.key_data(key), jnp.int32(0), sgd.init(start.storage))

    def update(synthetic, state, data, segment=None):
        images, to_storage = decoded(synthetic)
        key, *keys = jax.random.split(state.iteration_key(), 1 + data.num_classes)

        def means(images):  # of each class; the key gives real and synthetic images one network
            f = network.apply(network.init(key, images[:1]), images, method="embed")
            return jnp.hstack([f, f**2]).reshape(len(keys), -1, 2 * f.shape[1]).mean(axis=1)

        target = means(jnp.concatenate([data.sample_class(k, c, 64) for c, k in enumerate(keys)]))
        loss, gradient = jax.value_and_grad(lambda x: jnp.sum((means(x) - target) ** 2))(images)
        return move_storage(synthetic, state, to_storage(gradient), sgd, {"loss": loss})

    return Method(init, update)


register("moments", moments, MomentsSettings)
