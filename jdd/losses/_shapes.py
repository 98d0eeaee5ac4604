"""Trees that a loss takes together."""

from typing import Any

import jax
import numpy as np


def check_same(name: str, first: Any, *others: Any) -> None:
    """Raises `ValueError` where trees differ in structure, or their leaves in shape."""

    def check(a: Any, b: Any) -> None:
        if np.shape(a) != np.shape(b):
            raise ValueError(f"{name} takes the same shapes, not {np.shape(a)} and {np.shape(b)}")

    for other in others:
        jax.tree.map(check, first, other)  # which names where structures differ
