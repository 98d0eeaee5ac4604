"""jdd: dataset distillation in JAX.

    import jax, jdd

    digits = jdd.load("digits")
    network = jdd.create_network("ConvNet", digits.num_classes, width=32, depth=2)
    method = jdd.create_method("dm", network, iterations=100)

`load` finds a dataset, `create_network` and `create_method` make what is registered by name,
`distill` runs a method, `evaluate` trains fresh networks on a `SyntheticSet` and tests them;
`UserError` is what all of them raise where the caller can mend it. The losses are in `jdd.losses`,
importable alone; whole runs with files in `jdd.runs`.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from jdd.data import load as load
    from jdd.distillation import distill as distill
    from jdd.errors import UserError as UserError
    from jdd.evaluation import evaluate as evaluate
    from jdd.methods import create_method as create_method
    from jdd.networks import create as create_network
    from jdd.synthetic import SyntheticSet as SyntheticSet

__all__ = [
    "SyntheticSet",
    "UserError",
    "create_method",
    "create_network",
    "distill",
    "evaluate",
    "load",
]

_HOMES = {
    "SyntheticSet": ("jdd.synthetic", "SyntheticSet"),
    "UserError": ("jdd.errors", "UserError"),
    "create_method": ("jdd.methods", "create_method"),
    "create_network": ("jdd.networks", "create"),
    "distill": ("jdd.distillation", "distill"),
    "evaluate": ("jdd.evaluation", "evaluate"),
    "load": ("jdd.data", "load"),
}
_MODULES = frozenset(
    (
        *("augment", "benchmarks", "data", "difficulty", "distillation", "evaluation", "experts"),
        *("interop", "losses", "methods", "networks", "ops", "plugins", "preprocessing", "report"),
        "measures",
        *("runs", "settings", "sharding", "synthetic", "tasks", "training", "unrolling"),
    )
)


def __getattr__(name: str) -> Any:
    """Loads `jdd.SyntheticSet`, `jdd.data` and the like on first use: `import jdd` is quick."""
    if name in _HOMES:
        module, attribute = _HOMES[name]
        return getattr(importlib.import_module(module), attribute)
    if name in _MODULES:
        return importlib.import_module(f"jdd.{name}")
    raise AttributeError(f"module 'jdd' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})
