"""What `jdd` offers at its top: found on first use, documented, and typed for a strict checker."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import jdd

PROGRAM = """
import jax

import jdd
from jdd.distillation import Loop
from jdd.losses import distribution_matching


def distil(directory: str) -> float:
    dataset = jdd.load("digits", directory)
    network = jdd.create_network("ConvNet", dataset.num_classes, width=8)
    method = jdd.create_method("dm", network, iterations=3)
    start = jdd.SyntheticSet.load(directory, dataset)
    outcome = jdd.distill(method, start, None, jax.random.key(0), Loop(3, 3))
    accuracy = jdd.evaluate(outcome.best, dataset, jax.random.key(1))
    loss: jax.Array = distribution_matching(outcome.best.images[0, 0], start.images[0, 0])
    return accuracy.mean + float(loss)


try:
    distil("nowhere")
except jdd.UserError as error:
    print(error)
"""


def test_every_name_is_found_on_first_use_and_says_what_it_is():
    for name in jdd.__all__:
        thing = getattr(jdd, name)
        assert thing.__name__.split(".")[-1] in (name, "create"), name
        assert len(inspect.getdoc(thing) or "") > 80, name
    assert jdd.SyntheticSet.__module__ == "jdd.synthetic.set"
    assert {"losses", "methods", "runs", *jdd.__all__} <= set(dir(jdd))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = jdd.nothing


def test_a_users_program_passes_a_strict_type_check(tmp_path):
    """`py.typed` is there, and the public face has types that say something."""
    assert (Path(jdd.__file__).parent / "py.typed").exists()
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "wrong.py").write_text(
        'import jdd\n\ncount: str = jdd.load("digits").num_classes\njdd.evaluate(1, 2)\n'
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    good = subprocess.run([*command, "program.py"], cwd=tmp_path, capture_output=True, text=True)
    assert good.returncode == 0, good.stdout
    bad = subprocess.run([*command, "wrong.py"], cwd=tmp_path, capture_output=True, text=True)
    assert bad.returncode == 1 and bad.stdout.count("error:") == 3, bad.stdout
