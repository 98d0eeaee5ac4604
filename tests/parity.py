"""Reads the outputs of the published PyTorch code, and makes the inputs and weights they stand for.

The references are `tests/fixtures/parity`, whose README says how they were made; `JDD_PARITY_DIR`
may name another folder, with files of the same names that hold more of them.
"""

import functools
import json
import math
import os
from pathlib import Path

import numpy as np

_FIXTURES = Path(__file__).resolve().parent / "fixtures" / "parity"
DIRECTORY = Path(os.environ.get("JDD_PARITY_DIR", _FIXTURES))

State = dict[str, np.ndarray]


@functools.cache
def recipe() -> dict:
    return json.loads((DIRECTORY / "reference_1x28.json").read_text())


@functools.cache
def outputs() -> dict[str, np.ndarray]:
    with np.load(DIRECTORY / "reference_1x28.npz") as stored:
        return dict(stored)


def network_names() -> list[str]:
    """The make-ups that logits are stored of."""
    return [network["name"] for network in recipe()["networks"]]


def network(name: str) -> dict:
    return next(network for network in recipe()["networks"] if network["name"] == name)


def state(layout: list, seed: int) -> State:
    """The PyTorch state dict that the recipe fills in from one seed."""
    rng = np.random.default_rng(seed)
    return {name: _tensor(rng, name, tuple(shape)) for name, shape in layout}


def _tensor(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if "num_batches" in name:
        return np.zeros((), np.int64)
    a = rng.standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        return a / np.float32(math.sqrt(math.prod(shape[1:])))
    if name.endswith("running_var"):
        return 1 + 0.1 * np.abs(a)
    return 1 + 0.1 * a if name.endswith("weight") else 0.1 * a


def image(seed: int, count: int) -> np.ndarray:
    """Grey 28×28 images, NHWC."""
    nchw = np.random.default_rng(seed).standard_normal((count, 1, 28, 28)).astype(np.float32)
    return nchw.transpose(0, 2, 3, 1)


def relative_error(ours: object, theirs: np.ndarray) -> float:
    """‖ours − theirs‖ / ‖theirs‖; a gradient to images is compared in PyTorch's NCHW order."""
    ours = np.asarray(ours, np.float64)
    if ours.ndim == 4:
        ours = ours.transpose(0, 3, 1, 2)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
