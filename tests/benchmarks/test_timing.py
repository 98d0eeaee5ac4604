"""Turns, and programs compiled afresh."""

import time

import jax
import jax.numpy as jnp
import pytest

from jdd.benchmarks.timing import compile_afresh, in_turns, matrix_product


def test_calls_take_turns_after_one_that_warms_up():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    progress = []
    measured = in_turns(calls, 3, 1.0, lambda done, total: progress.append((done, total)))
    assert order == list("ab" * 4)
    assert {name: len(seconds) for name, seconds in measured.items()} == {"a": 3, "b": 3}
    assert progress == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_as_many_rounds_as_fit_but_three_at_least():
    def call():
        time.sleep(0.05)

    assert len(in_turns({"a": call}, 0, 1e-3)["a"]) == 3
    seconds = in_turns({"a": call}, 0, 0.6)["a"]
    assert 3 < len(seconds) <= 12 and min(seconds) >= 0.05


def test_whoever_is_told_may_end_it():
    def stop(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_turns({"a": lambda: None}, 0, 1.0, stop)


def test_a_program_is_compiled_again_and_none_is_kept(tmp_path):
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_enable_compilation_cache
    compiled, seconds = compile_afresh(lambda x: jnp.sin(x) @ x, jnp.ones((3, 3)))
    assert jnp.allclose(compiled(jnp.ones((3, 3))), 3 * jnp.sin(1.0)) and seconds > 0
    assert before == (
        jax.config.jax_compilation_cache_dir,
        jax.config.jax_enable_compilation_cache,
    )


def test_the_matrix_product(monkeypatch):
    monkeypatch.setattr("jdd.benchmarks.timing._SIDE_ON_CPU", 64)
    product, flops = matrix_product()
    assert product().shape == (64, 64) and flops == 2 * 64**3
