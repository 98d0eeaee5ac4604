"""A network's first values drawn by NumPy.

The same distributions as the modules' own `init`, not the same numbers. Compiling that takes longer
than compiling the training step, which matters where many networks are trained shortly.
"""

from typing import Any

import numpy as np


def fresh_variables(shapes: Any, rng: np.random.Generator) -> dict[str, Any]:
    """Variables as `jdd.networks.layers` initialises them.

    Args:
      shapes: what `jax.eval_shape` gives for the module's `init`: a nested dictionary.
      rng: where the numbers come from.

    Returns:
      The same dictionary of float32 NumPy arrays. Next to a kernel, U(−1/√fan_in, 1/√fan_in); of a
      norm, scale and variance 1, bias and mean 0.
    """
    drawn: dict[str, Any] = {}
    for name, value in sorted(shapes.items()):
        if isinstance(value, dict):
            drawn[name] = fresh_variables(value, rng)
        elif "kernel" in shapes:
            bound = np.prod(shapes["kernel"].shape[:-1]) ** -0.5
            drawn[name] = rng.uniform(-bound, bound, value.shape).astype(np.float32)
        else:
            drawn[name] = np.full(value.shape, name in ("scale", "var"), np.float32)
    return drawn
