"""Several runs in one program: each comes to the set of its own run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import networks, sharding, updates
from jdd.experts import Segment
from jdd.methods import registry
from jdd.settings import defaults
from tests.methods import small

UPDATES, CHUNK, SEEDS = 6, 3, (0, 1, 2)
# Adam divides a gradient by its length, and so what it is rounded to: of bptt's images a quarter of
# one of its steps is asked for, of its losses the same as of all others'.
ADAM_STEP = 0.001
NETWORK = networks.create("ConvNet", small.CLASSES, width=8, depth=2)
# Few steps of everything, and rates at which images move by more than they are rounded to.
SMALL = {
    "batch_real": 6,
    "lr_img": 0.1,
    "outer_loop": 2,
    "inner_loop": 2,
    "syn_steps": 3,
    "lr_init": 0.05,
    "window": 2,
    "steps": 8,
    "max_start_epoch": 2,
    "initial_max_start_epoch": 1,
    "feature_epochs": 2,
    "threshold": 0.0,
}
METHODS = [name for name in registry.METHODS if not registry.METHODS[name].is_coreset]


def method_of(name):
    kind = registry.entry(name).settings
    wanted = {field: value for field, value in SMALL.items() if field in defaults(kind)}
    if name == "bptt":
        wanted["lr_img"] = ADAM_STEP
    return registry.create(name, kind(**wanted), NETWORK)


def segments_of(seed, count):
    """One for each of `CHUNK` updates: small steps from a random network."""
    params = NETWORK.init(jax.random.key(seed), jnp.zeros((1, 8, 8, 1)))["params"]
    rng = np.random.default_rng(seed)

    def near(distance):
        return jax.tree.map(
            lambda p: (p + distance * rng.standard_normal((CHUNK, count, *p.shape))).astype("f4"),
            params,
        )

    return Segment(near(0.0), near(0.05))


def ends(method, of, several):
    """Storage, labels and step size of each seed's set after its updates, and its losses."""
    window = method.needs.segments
    runs, losses = [], [[] for _ in SEEDS]
    for seed in SEEDS:
        synthetic, state = method.init(jax.random.key(seed), small.start(2, seed), of)
        runs.append(jax.tree.map(jnp.copy, (synthetic, state)))
    for at in range(0, UPDATES, CHUNK):
        pieces = [
            None if window is None else segments_of(100 * at + seed, window.segments)
            for seed in SEEDS
        ]
        if several:
            sets, states = zip(*runs, strict=True)
            moved = updates.of_runs(method, sets, states, of, tuple(pieces), CHUNK)
        else:
            moved = [
                updates.of_run(method, *run, of, piece, CHUNK)
                for run, piece in zip(runs, pieces, strict=True)
            ]
        runs = [one[:2] for one in moved]
        for so_far, (_, _, metrics) in zip(losses, moved, strict=True):
            assert not np.any(metrics["dropped"])
            so_far += np.asarray(metrics["loss"]).tolist()
    leaves = [[np.asarray(leaf) for leaf in jax.tree.leaves(run[0])] for run in runs]
    return [[*each, np.asarray(loss)] for each, loss in zip(leaves, losses, strict=True)]


def check(name):
    method = method_of(name)
    of = small.digits(8) if method.needs.real_images else None
    together, alone = ends(method, of, True), ends(method, of, False)
    assert not np.allclose(alone[0][0], alone[1][0]), "the seeds are one run"
    for ours, theirs in zip(together, alone, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            of_adam = name == "bptt" and a is ours[0]
            allowed = ADAM_STEP / 4 if of_adam else 1e-5 * max(1.0, np.abs(b).max())
            assert np.abs(a - b).max() <= allowed


@pytest.mark.slow
def test_one_after_another_as_on_a_cpu():
    check("dm")


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_side_by_side_as_on_an_accelerator(name, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    seen = []
    vmap = jax.vmap
    monkeypatch.setattr(
        jax, "vmap", lambda *args, **named: seen.append(sharding.at_once()) or vmap(*args, **named)
    )
    check(name)
    assert len(SEEDS) in seen, "the runs were not mapped over"
