"""A field of a settings dataclass, which is a flag of the command line too."""

from dataclasses import field
from typing import Any


def flag(default: Any, text: str) -> Any:
    """A dataclass field with its default and the words that `--help` has for it, unit included."""
    return field(default=default, metadata={"help": text})
