"""Numbers that run away, for every method: the update is dropped, the set stays, the rate named."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import networks
from jdd.distillation import Hooks, Loop, distill
from jdd.errors import UserError
from jdd.experts import Segment
from jdd.methods import Rejection, guarded, registry, with_precision
from tests.methods import small

NETWORK = networks.create("ConvNet", small.CLASSES, width=4, depth=1)
METHODS = [name for name in registry.names() if not registry.entry(name).is_coreset]
# Sizes of a step, so that each method compiles and runs in a few seconds.
SIZES = {"batch_real": 5, "batch_train": 5, "outer_loop": 2, "inner_loop": 2, "train_steps": 2}
SIZES |= {"syn_steps": 3, "window": 2, "pool": 2, "frequencies": 16, "batch_net": 5}
RATES = [
    (name, field.name)
    for name in METHODS
    for field in dataclasses.fields(registry.entry(name).settings)
    if field.name.startswith("lr_")
]


def settings_of(name, **changes):
    """Those for the digits, made small."""
    kind = registry.entry(name).settings
    fields = {field.name for field in dataclasses.fields(kind)}
    values = {**registry.preset("quick", name, "digits", 1).values, **SIZES, **changes}
    return kind(**{n: value for n, value in values.items() if n in fields})


def method_of(name, **changes):
    return registry.create(name, settings_of(name, **changes), NETWORK)


@functools.cache
def real():
    return small.digits(10)


def start():
    """Random images."""
    return small.start(1)


def segment_of(method, seed=0):
    """From a random network to one a little way off."""
    window = method.needs.segments
    if window is None:
        return None
    params = NETWORK.init(jax.random.key(seed), jnp.zeros((1, 8, 8, 1)))["params"]
    rng = np.random.default_rng(seed)

    def some(distance):
        def leaf(p):
            noise = distance * rng.standard_normal((window.segments, *p.shape))
            return jnp.asarray(np.asarray(p) + noise, jnp.float32)

        return jax.tree.map(leaf, params)

    return Segment(some(0.0), some(0.05))


class Always:
    """Gives the same segment again and again, as a sampler gives them: stacked for a chunk."""

    def __init__(self, segment):
        self.segment = segment

    def chunks(self, first, last, size):
        for at in range(first, last, size):
            count = min(size, last - at)
            yield jax.tree.map(lambda p, n=count: jnp.broadcast_to(p, (n, *p.shape)), self.segment)


def data_of(method):
    return real() if method.needs.real_images else None


def poisoned(method, at):
    """The method with `value` in all that iteration `at` is given of real images and experts."""

    def update(value, synthetic, state, data, segment):
        def leaf(x):
            is_float = jnp.issubdtype(x.dtype, jnp.floating)
            return jnp.where(state.iteration == at, value, x) if is_float else x

        data, segment = jax.tree.map(leaf, (data, segment))
        return guarded(method).update(synthetic, state, data, segment)

    return jax.jit(update)


def same(a, b):
    """Whether two sets have the same bits."""
    return all(
        np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def sound(synthetic):
    """Whether images and labels are; the step size a set starts with is what the user wants."""
    learned = (synthetic.storage, synthetic.labels)
    leaves = [x for x in learned if jnp.issubdtype(x.dtype, jnp.floating)]
    return all(np.isfinite(x).all() and np.abs(x).max() <= 1e6 for x in leaves)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_what_is_no_number_at_one_step_leaves_no_trace(name):
    method = method_of(name)
    data, segment = data_of(method), segment_of(method)
    update = poisoned(method, 1)
    for value in (np.nan, np.inf, -np.inf):
        synthetic, state = jax.jit(method.init)(jax.random.key(0), start(), data)
        dropped, sets = [], [synthetic]
        for _ in range(4):
            synthetic, state, metrics = update(value, synthetic, state, data, segment)
            dropped.append(int(metrics["dropped"]))
            sets.append(synthetic)
        assert dropped == [0, Rejection.NOT_FINITE, 0, 0]
        assert same(sets[1], sets[2]) and all(map(sound, sets))
        assert not same(sets[0], sets[1]) and not same(sets[2], sets[4])


def run(method, iterations=30):
    """The outcome of a run, or what its error says, and the sets that were its best."""
    seen = []
    hooks = Hooks(
        evaluate=lambda s: seen.append(jax.tree.map(jnp.copy, s)) or 0.5,
        segments=Always(segment_of(method)) if method.needs.segments else None,
    )
    try:
        made = distill(
            method, start(), data_of(method), jax.random.key(0), Loop(iterations, 5, 5), hooks
        )
        return made, "", seen
    except UserError as error:
        return None, str(error), seen


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rate"), RATES)
def test_a_rate_of_1e30_ends_the_run_by_name_or_does_no_harm(name, rate):
    made, words, seen = run(method_of(name, **{rate: 1e30}))
    assert all(map(sound, seen))
    if made is None:
        assert "in a row were dropped" in words
        assert f"`{rate}`" in words and "\n" not in words
    else:
        assert sound(made.final) and sound(made.best)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_products_of_16_bits_that_overflow_are_dropped(name):
    """Images that are beyond what 16 bits hold of their squares, and ones that are not."""
    method = with_precision(method_of(name), "bfloat16")
    data, segment = data_of(method), segment_of(method)
    update = jax.jit(guarded(method).update)
    for scale, is_sound in ((1.0, True), (3e37, False)):
        first = start().replace(storage=scale * start().storage)
        synthetic, state = jax.jit(method.init)(jax.random.key(0), first, data)
        moved, _, metrics = update(synthetic, state, data, segment)
        assert (int(metrics["dropped"]) == 0) == is_sound
        assert same(moved, synthetic) != is_sound
