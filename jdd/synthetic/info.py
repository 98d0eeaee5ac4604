"""What is written on a synthetic set."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import jdd
from jdd import preprocessing, records
from jdd.settings import SEEDS
from jdd.training import Recipe


@dataclass(frozen=True)
class SetInfo:
    """What is written on a set: where it comes from and how to train on it.

    Two descriptions are equal, and share compiled programs, where dataset, classes and images per
    class are. `jit` gives a set back with the description of the first that it was traced with.
    """

    dataset: str
    class_names: tuple[str, ...]
    preprocessing: Mapping[str, Any] = field(compare=False)
    """`Preprocess.spec()` of the space that the images live in"""
    ipc: int
    """images per class that are stored, or, with another decoder, in whose place it stores"""
    init: str = field(default="real", compare=False)
    method: str = field(default="none", compare=False)
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """of the method"""
    seed: int = field(default=0, compare=False)
    recipe: Recipe = field(default_factory=Recipe, compare=False)
    """how networks are trained on the set"""
    version: str = field(default=jdd.__version__, compare=False)
    plugins: tuple[Mapping[str, str], ...] = field(default=(), compare=False)
    """the user's files that the set was made with: their `path` and `sha256`"""
    fingerprint: str = field(default="", compare=False)
    """of the real training images, as `jdd.data.fingerprint` has it; empty: not known"""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        value = {**asdict(replace(self, recipe=Recipe())), "recipe": self.recipe.to_json()}
        return {**value, "class_names": list(self.class_names), "plugins": list(self.plugins)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SetInfo":
        """The inverse of `to_json`; raises `ValueError` for what it would not give."""
        info = records.build(cls, value)
        preprocessing.check_spec(info.preprocessing)
        if not info.class_names or info.ipc < 1:
            raise ValueError(f"{len(info.class_names)} classes of {info.ipc} images")
        if not 0 <= info.seed < SEEDS:
            raise ValueError(f"'seed' is {info.seed}")
        return info
