"""What an import loads, and that no file imports from a floor above its own."""

import ast
import functools
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

import jdd

ROOT = Path(__file__).resolve().parents[1]

# From the ground up; a file imports only from floors below its own, or from its own. What a run
# shows on its way stands below it, the pages that are made of its result above.
FLOORS = (
    *(
        "errors",
        "settings",
        "randomness",
        "distributed",
        "files",
        "locks",
        "ahead",
        "records",
        "plugins",
        "_orbax",
        "checkpoints",
    ),
    *("ops", "losses", "augment", "networks", "preprocessing", "rows", "sharding", "unrolling"),
    *("data", "training", "synthetic", "evaluation", "measures", "difficulty", "experts"),
    *("methods", "cost", "events", "updates", "one_run", "distillation"),
    *("report.console", "report.pictures", "runs"),
    *("tasks", "report", "interop", "benchmarks", "cli"),
)
HEAVY = {"orbax", "tensorflow", "tensorflow_datasets", "matplotlib", "sklearn", "torch"}
SCRIPTS = [path.stem for path in sorted((ROOT / "bin").glob("*.py"))]


def files():
    return sorted((ROOT / "jdd").rglob("*.py"))


def floor_of(name):
    """The floor that a module stands on: "report.console.say" → "report.console"."""
    parts = name.split(".")
    return next(
        (floor for floor in (".".join(parts[:2]), parts[0]) if floor in FLOORS),
        f"none, {name} has to be given one here and in docs/dev/architecture.md",
    )


def is_for_types_alone(node):
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
    )


def imported(node):
    """The modules of ours that a syntax tree imports, wherever in it, dotted below `jdd`."""
    for child in ast.iter_child_nodes(node):
        if is_for_types_alone(child):
            continue
        if isinstance(child, ast.Import):
            yield from (a.name[4:] for a in child.names if a.name.startswith("jdd."))
        elif isinstance(child, ast.ImportFrom):
            assert not child.level, "a relative import"
            if child.module == "jdd":
                yield from (alias.name for alias in child.names)
            elif child.module and child.module.startswith("jdd."):
                yield from (f"{child.module[4:]}.{alias.name}" for alias in child.names)
        else:
            yield from imported(child)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_imports_from_floors_below(path):
    name = ".".join(path.relative_to(ROOT / "jdd").with_suffix("").parts)
    if name == "__init__":
        return
    floor = floor_of(name)
    assert floor in FLOORS
    for other in imported(ast.parse(path.read_text())):
        below = floor_of(other)
        assert below in FLOORS
        assert FLOORS.index(below) <= FLOORS.index(floor), f"{floor} imports from {below} above it"


def test_every_floor_is_there():
    names = {".".join(p.relative_to(ROOT / "jdd").with_suffix("").parts) for p in files()}
    for floor in FLOORS:
        assert names & {floor, f"{floor}.__init__"}, f"{floor} is no longer there"


@functools.cache
def loaded(statement):
    """Names of the modules in a fresh interpreter after a statement, and what it printed."""
    program = f"{statement}\nimport sys, json; print(json.dumps(list(sys.modules)))"
    out = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    *printed, names = out.splitlines()
    return set(json.loads(names)), printed


def top(statement):
    return {name.partition(".")[0] for name in loaded(statement)[0]}


def test_losses_load_jax_and_nothing_heavier():
    modules = top("import jdd.losses")
    assert "jax" in modules
    assert not modules & (HEAVY | {"flax", "optax", "tensorstore", "PIL"})


IMPORT = """
import time
begin = time.perf_counter()
import jdd
jdd.__version__, dir(jdd)
print(time.perf_counter() - begin)
"""


def test_the_package_alone_loads_not_even_jax_and_is_quick():
    modules, (seconds,) = loaded(IMPORT)
    assert not top(IMPORT) & (HEAVY | {"jax", "numpy"})
    assert {name for name in modules if name.startswith("jdd")} == {"jdd"}
    assert float(seconds) < 0.3


def test_help_and_errors_load_nothing_heavy_before_they_must():
    modules = top(f"import {', '.join(f'jdd.cli.{script}' for script in SCRIPTS)}")
    assert "jdd" in modules and not modules & (HEAVY | {"jax", "numpy"})


def test_the_settings_that_help_lists_load_jax_and_nothing_heavier():
    modules = top("import jdd.cli.selection, jdd.methods, jdd.runs.settings")
    assert "jax" in modules
    assert not modules & HEAVY


def test_public_names_are_what_they_are_called_and_explained():
    homes = {
        "SyntheticSet": "jdd.synthetic.set",
        "UserError": "jdd.errors",
        "create_method": "jdd.methods.registry",
        "create_network": "jdd.networks.registry",
        "distill": "jdd.distillation",
        "evaluate": "jdd.evaluation",
        "load": "jdd.data.registry",
    }
    assert sorted(homes) == sorted(jdd.__all__)
    for name, home in homes.items():
        public = getattr(jdd, name)
        assert callable(public) and public.__module__ == home
        assert public.__doc__ and name in dir(jdd)


def test_modules_are_found_on_first_use():
    modules = {name for name in dir(jdd) if name not in vars(jdd) and name not in jdd.__all__}
    for name in {"losses", "networks", "runs", *modules}:
        module = getattr(jdd, name)
        assert isinstance(module, types.ModuleType) and module.__name__ == f"jdd.{name}"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = jdd.nothing
