"""Settings: frozen dataclasses whose fields declare default, help and bounds in one place.

A field is declared once, by `setting`, checked once, when the dataclass is made, and documented
once, by its help, which the command line shows.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from jdd.errors import SettingError, nearest

SEEDS = 2**32
RENAMED = {
    "whole_epochs": "full_data_epochs",
    "eval_each": "eval_augment_per_image",
    "teacher": "expert_optimizer",
    "schedule": "curriculum",
    "easy_share": "initial_fraction",
    "all_from": "full_from_epoch",
    "drop_from": "first_drop_epoch",
    "drop_more_from": "second_drop_epoch",
    "drop_easy": "first_drop_fraction",
    "drop_more": "second_drop_fraction",
    "first_max_start_epoch": "initial_max_start_epoch",
    "window_grown_by": "window_expansion_end",
}
"""Fields of jdd 0.1 that were renamed since; what is stored under the old names stays readable."""
_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}


def setting(
    default: Any,
    help: str,
    *,
    min: float | None = None,
    above: float | None = None,
    max: float | None = None,
    below: float | None = None,
    choices: Iterable[str] | None = None,
) -> Any:
    """A field of a `Settings` dataclass.

    Args:
      default: its value where none is given; its type is the field's.
      help: what it is, unit included, as the command line shows it.
      min, max: the smallest and the largest value.
      above, below: bounds that are themselves out of range.
      choices: the names that may be chosen from; None: any.
    """
    bounds = {"min": min, "above": above, "max": max, "below": below}
    names = None if choices is None else tuple(choices)
    return field(default=default, metadata={"help": help, "bounds": bounds, "choices": names})


def seed(default: int, help: str) -> Any:
    """A field for a seed: a whole number of 32 bits."""
    return setting(default, help, min=0, max=SEEDS - 1)


@dataclass(frozen=True)
class Settings:
    """Base of all settings; a value out of range is refused where the settings are made."""

    def __post_init__(self) -> None:
        """Raises `SettingError` for the first field that is out of range.

        What several fields must fulfil together a subclass checks in its own `__post_init__`.
        """
        for declared in fields(self):
            if "bounds" in declared.metadata:
                value = getattr(self, declared.name)
                if getattr(value, "shape", None) == ():  # a number of NumPy's or JAX's
                    value = value.item()
                    object.__setattr__(self, declared.name, value)
                _check(declared, value)


def helps(*kinds: type) -> dict[str, str]:
    """The help of every field of settings dataclasses, by name."""
    return {
        f.name: f.metadata["help"] for kind in kinds for f in fields(kind) if "help" in f.metadata
    }


def defaults(kind: type) -> dict[str, Any]:
    """The default of every field of a settings dataclass, by name."""
    return {f.name: f.default for f in fields(kind) if "help" in f.metadata}


def renamed(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Stored settings under today's names."""
    return {RENAMED.get(name, name): value for name, value in stored.items()}


def _check(declared: Any, value: Any) -> None:
    """Raises `SettingError` where the field cannot have this value."""
    kind = type(declared.default)
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise SettingError(
            declared.name, repr(value), f"{_WORDS.get(kind, kind.__name__)} is needed"
        )
    choices = declared.metadata["choices"]
    if choices is not None and value not in choices:
        raise SettingError(declared.name, f"'{value}'", nearest(str(value), choices))
    if kind in (int, float):
        low, above, high, below = (
            declared.metadata["bounds"][name] for name in ("min", "above", "max", "below")
        )
        inside = (
            (low is None or value >= low)
            and (above is None or value > above)
            and (high is None or value <= high)
            and (below is None or value < below)
        )
        if not inside:
            raise SettingError(declared.name, value, _range(low, above, high, below))
        if not math.isfinite(value):
            raise SettingError(declared.name, value, "it must be finite")


def _range(low: Any, above: Any, high: Any, below: Any) -> str:
    """Bounds in words: "from 0 to below 1", "at least 1 is needed", "it must be above 0"."""
    if high is None and below is None:
        return f"at least {low:g} is needed" if above is None else f"it must be above {above:g}"
    if low is None and above is None:
        return f"it must be below {below:g}" if high is None else f"at most {high:.10g}"
    end = f"below {below:g}" if high is None else f"{high:.10g}"
    if above is None:
        return f"from {low:g} to {end}"
    return f"above {above:g} and {end if high is None else f'at most {end}'}"
