"""Programs compiled while there is other work."""

import collections
import contextlib
import logging
import re
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import ahead
from jdd.cli.distill import main

TINY = (
    "--method mtt --dataset digits --preset quick  --depth 1 --num-experts 1 "
    "--train-epochs 2 --expert-epochs 1 --max-start-epoch 1 --syn-steps 2 --iterations 4 "
    "--eval-every 2 --chunk 2 --eval-networks 1 --eval-epochs 2 --validation-epochs 2 "
    "--full-data-epochs 0 --no-eval-random"
)


@pytest.fixture
def compiled(caplog):
    """Counts what this thread compiled or found in the cache, by the name of the function."""

    def count():
        done = re.findall(r"Finished XLA compilation of jit\((\w+)\)", caplog.text)
        return collections.Counter(done)

    with caplog.at_level(logging.WARNING, logger="jax"), jax.log_compiles():
        yield count


@pytest.mark.parametrize(
    ("width", "is_ahead"), [(3, True), pytest.param(4, False, marks=pytest.mark.slow)]
)
def test_what_is_compiled_during_the_experts_training_is_what_the_run_then_calls(
    width, is_ahead, tmp_path, compiled, monkeypatch
):
    """Were a shape or a type another, the run would compile them as it does without."""
    if not is_ahead:
        monkeypatch.setattr(ahead, "compiling", lambda *_: contextlib.nullcontext())
    assert main([*TINY.split(), "--width", str(width), "--out", str(tmp_path / "run")]) == 0
    counts = compiled()
    assert counts["epoch_of_many"] == counts["_fresh"] == 1
    assert counts["of_run"] == counts["train_many"] == (0 if is_ahead else 1)


def test_a_call_finds_the_program_and_meets_its_error(compiled):
    double = jax.jit(lambda x: 2 * x)
    broken = jax.jit(lambda x: x.no_such_thing)
    shape = jax.ShapeDtypeStruct((3,), jnp.float32)
    images = np.arange(3, dtype=np.float32)
    with ahead.compiling(lambda: broken.lower(shape), lambda: double.lower(shape)):
        pass
    np.testing.assert_array_equal(double(images), [0, 2, 4])
    assert not compiled()
    with pytest.raises(AttributeError, match="no_such_thing"):
        broken(jnp.ones(3))


def test_with_several_devices_nothing_is_compiled(monkeypatch):
    """There a run would not find it: its arguments are placed otherwise."""
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    made = []
    with ahead.compiling(lambda: made.append("program")):
        pass
    assert not made


def test_a_block_that_fails_starts_no_further_program():
    """The one that is being traced is waited for, the next is not begun."""
    begun, gate = threading.Event(), threading.Event()
    made = []

    def first():
        begun.set()
        gate.wait(10)
        made.append("first")
        return jax.jit(lambda x: x).lower(jnp.ones(1))

    with pytest.raises(KeyError), ahead.compiling(first, lambda: made.append("second")):
        begun.wait(10)
        gate.set()
        raise KeyError("stopped")
    assert made[:1] == ["first"] and "second" not in made
