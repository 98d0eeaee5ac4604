"""What a reader is to the fuzzing."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

DIRECTORIES = 1_000  # inputs of a reader of Orbax's directories, or TFDS's
FILES = 10_000


@dataclasses.dataclass(frozen=True)
class Reader:
    """One way in."""

    make: Callable[[Path], None]
    """puts a valid input into a directory"""
    read: Callable[[Path], Any]
    """reads it; what it returns is compared by `repr`"""
    inputs: int = FILES
    is_exact: bool = False
    """whether another input is either refused or read as the original"""
    package: str = ""
    """that reading takes and that `make test` does not install"""
