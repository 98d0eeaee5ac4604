"""One seed, split by name."""

import jax

from jdd import randomness


def test_uses_of_one_seed_draw_apart():
    keys = [tuple(jax.random.key_data(randomness.key(0, name)).tolist()) for name in ("a", "b")]
    draws = [randomness.generator(0, name).random() for name in ("a", "b")]
    assert keys[0] != keys[1] and draws[0] != draws[1]
    assert randomness.generator(0, "a").random() == draws[0]
