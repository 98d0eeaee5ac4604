"""jdd: dataset distillation in JAX."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from jdd.synthetic import SyntheticSet as SyntheticSet

_HOMES = {"SyntheticSet": "jdd.synthetic"}
_SUBMODULES = frozenset(
    (
        *("augment", "data", "distillation", "evaluation", "experts", "interop", "losses"),
        *("methods", "networks", "ops", "preprocessing", "recipe", "report", "runs", "sharding"),
        *("storage", "synthetic", "training", "unrolling"),
    )
)


def __getattr__(name: str) -> Any:
    """Loads `jdd.SyntheticSet`, `jdd.data` and the like on first use: `import jdd` is quick."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"jdd.{name}")
    raise AttributeError(f"module 'jdd' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_SUBMODULES})
