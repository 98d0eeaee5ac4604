"""What an import loads, and that no file imports from a floor above its own."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground up; a file imports only from floors below its own, or from its own folder.
FLOORS = (
    *("errors", "settings", "randomness", "recipe"),
    *("ops", "losses", "augment", "networks", "preprocessing"),
    *("_orbax", "storage", "data", "synthetic"),
    *("sharding", "unrolling", "cost", "training", "difficulty", "experts", "evaluation"),
    *("methods", "distillation", "tasks", "report", "interop", "runs", "benchmarks", "cli"),
)
HEAVY = {"orbax", "tensorflow", "tensorflow_datasets", "matplotlib", "sklearn", "torch"}


def files():
    return sorted((ROOT / "jdd").rglob("*.py"))


def floor_of(path):
    return path.relative_to(ROOT / "jdd").with_suffix("").parts[0]


def imported(path):
    """The modules of ours that a file imports, wherever in it, dotted below `jdd`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            # `from jdd import x` imports x, `from jdd.x import y` imports x.
            names = (
                [f"jdd.{alias.name}" for alias in node.names]
                if node.module == "jdd"
                else [node.module or ""]
            )
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("jdd."))


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_from_floors_below(path):
    own = floor_of(path)
    if own == "__init__":
        return
    assert own in FLOORS, f"{own} has no floor: give it one here and in the architecture"
    for other in imported(path):
        if other == "SyntheticSet":  # the package's public name
            other = "synthetic"
        assert other in FLOORS, f"{path} imports {other}, which has no floor"
        assert FLOORS.index(other) <= FLOORS.index(own), f"{own} imports from {other} above it"


def loaded(statement):
    """Top-level names of the modules in a fresh interpreter after a statement."""
    program = f"{statement}\nimport sys, json; print(json.dumps(list(sys.modules)))"
    out = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return set(json.loads(out.splitlines()[-1]))


def top(modules):
    return {name.partition(".")[0] for name in modules}


def test_losses_load_jax_and_nothing_heavier():
    modules = top(loaded("import jdd.losses"))
    assert "jax" in modules
    assert not modules & (HEAVY | {"flax", "optax", "tensorstore", "PIL"})


def test_the_package_alone_loads_not_even_jax():
    modules = loaded("import jdd; jdd.__version__; dir(jdd)")
    assert not top(modules) & (HEAVY | {"jax", "numpy"})
    assert {name for name in modules if name.startswith("jdd")} == {"jdd"}


def test_help_and_errors_load_nothing_heavy_before_they_must():
    modules = top(loaded("import jdd.cli.distill, jdd.cli.evaluate, jdd.cli.train_experts"))
    assert not modules & (HEAVY | {"jax", "numpy"})


def test_the_settings_that_help_lists_load_jax_and_nothing_heavier():
    modules = top(loaded("import jdd.cli.common, jdd.methods, jdd.runs"))
    assert "jax" in modules
    assert not modules & HEAVY


def test_public_names_are_found_on_first_use():
    import jdd

    assert jdd.SyntheticSet.__module__ == "jdd.synthetic"
    for name in dir(jdd):
        assert getattr(jdd, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = jdd.nothing
