"""A small set of the digits."""

import jax
import jax.numpy as jnp

from jdd import SyntheticSet, synthetic
from jdd.synthetic import SetInfo
from jdd.training import Recipe


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
