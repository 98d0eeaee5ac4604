"""Chunks are short enough for a machine that goes away within half a minute of saying so."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import data, preprocessing
from jdd.benchmarks.flops import product_flops
from jdd.data import Dataset, Split
from jdd.experts import Segment
from jdd.methods import registry
from jdd.runs import Selection, build, problem

# An A100's convolutions of these sizes in TF32, at the slowest; a chunk then takes ten seconds.
TERAFLOPS, SECONDS = 30, 10
SHAPES = {
    "cifar10": ((32, 32, 3), 10),
    "cifar100": ((32, 32, 3), 100),
    "tiny_imagenet": ((64, 64, 3), 200),
}
# One update is a chunk at least: these are ten matchings of all classes and fifty steps between.
LONG_UPDATES = {("dc", "cifar100"): 23, ("dsa", "cifar100"): 23}


def unread(name, *_):
    """A dataset of the size, whose images nobody looks at."""
    shape, classes = SHAPES[name]
    labels = (np.arange(60 * classes) % classes).astype(np.int32)
    split = Split(np.zeros((len(labels), *shape), np.uint8), labels)
    preprocess = preprocessing.fit("standard", split.images, ([0.5] * 3, [0.5] * 3))
    return Dataset(name, split, split, tuple(map(str, range(classes))), preprocess)


def update_flops(made):
    """Of an update's products."""
    method = made.method
    real = made.real_data()
    synthetic, state = jax.eval_shape(method.init, jax.random.key(0), made.start, real)
    segment, window = None, method.needs.segments
    if window is not None:
        params = made.network.init(jax.random.key(0), made.start.images[:1])["params"]
        leaves = jax.tree.map(
            lambda p: jax.ShapeDtypeStruct((window.segments, *p.shape), jnp.float32), params
        )
        segment = Segment(leaves, leaves)
    return product_flops(method.update, synthetic, state, real, segment, turns=1)


CELLS = [
    (
        method,
        dataset,
        max(n for n in registry.entry(method).presets["paper"].rows[dataset] if n <= 50),
    )
    for method in registry.names()
    for dataset in SHAPES
    if not registry.entry(method).is_coreset
    and dataset in registry.entry(method).presets["paper"].rows
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "dataset", "ipc"), CELLS)
def test_a_chunk_of_the_paper_preset_ends_in_seconds(monkeypatch, method, dataset, ipc):
    """Counted, not timed; quick presets are for two CPU cores, on which a chunk takes seconds."""
    monkeypatch.setattr(data, "load", unread)
    chosen = Selection(method, dataset, ipc, "noise", preset="paper")
    settings = build(chosen, {"eval_random": False})
    flops = update_flops(problem.prepare(settings))
    seconds = settings.loop.chunk * flops / TERAFLOPS / 1e12
    if settings.loop.chunk == 1 and (method, dataset) in LONG_UPDATES:
        assert seconds <= LONG_UPDATES[method, dataset]
    else:
        assert seconds <= SECONDS, (settings.loop.chunk, flops)
