"""Traces a method once on a problem of two small images, so that what it lacks is said at once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdd.data import Split, to_device
from jdd.errors import UserError
from jdd.experts import Segment
from jdd.files import first_line
from jdd.methods.base import Method, MethodSettings, guarded
from jdd.networks import create
from jdd.preprocessing import fit
from jdd.synthetic import SetInfo, SyntheticSet


def try_out(name: str, factory: Callable[..., Method], settings: MethodSettings) -> None:
    """Raises `UserError`, its message beginning with `name`, where the method does not work."""
    network = create("ConvNet", 2, width=4, depth=1)
    split = Split(np.zeros((2, 8, 8, 1), np.uint8), np.arange(2, dtype=np.int32))
    preprocess = fit("standard", split.images)
    info = SetInfo("digits", ("0", "1"), preprocess.spec(), 1)
    images, labels = jnp.zeros((2, 8, 8, 1), jnp.float32), jnp.arange(2, dtype=jnp.int32)
    start = SyntheticSet(images, labels, None, info)
    method = factory(settings, network)
    if not isinstance(method, Method):
        raise UserError(
            f"{name}: its factory is to return a jdd.methods.Method, not {method!r:.80}"
        )
    if method.needs != settings.needs:
        raise UserError(
            f"{name}: its Method says other needs than its settings: return "
            "Method(init, update, settings.needs)"
        )
    data = to_device(split, preprocess, 2) if method.needs.real_images else None
    segment = None
    if method.needs.segments is not None:
        params = network.init(jax.random.key(0), start.images[:1])["params"]
        count = method.needs.segments.segments
        stacked = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), params)
        segment = Segment(stacked, stacked)
    begun = _traced(name, "init", method.init, jax.random.key(0), start, data)
    if not (isinstance(begun, tuple) and len(begun) == 2 and isinstance(begun[0], SyntheticSet)):
        raise UserError(f"{name}: init is to return (synthetic, state), a SyntheticSet first")
    synthetic, state = begun
    outcome = _traced(name, "update", method.update, synthetic, state, data, segment)
    if not isinstance(outcome, tuple) or len(outcome) != 3:
        raise UserError(f"{name}: update is to return (synthetic, state, metrics)")
    moved, next_state, metrics = outcome
    if not isinstance(metrics, dict) or "loss" not in metrics:
        raise UserError(f"{name}: update's metrics are to be a dictionary of scalars with a 'loss'")
    if taken := sorted({"iteration", "dropped", "learning_rate"} & set(metrics)):
        raise UserError(f"{name}: the metric {taken[0]} is the loop's own, choose another name")
    for key, value in metrics.items():
        if getattr(value, "shape", None) != ():
            given = getattr(value, "shape", type(value).__name__)
            raise UserError(f"{name}: the metric {key} is {given}, and is to be a scalar array")
    for what, before, after in (("set", synthetic, moved), ("state", state, next_state)):
        if not _alike(before, after):
            raise UserError(
                f"{name}: update is to return the {what} in the structure, shapes and dtypes in "
                f"which it takes it: {_shapes(before)}, not {_shapes(after)}"
            )
    _traced(name, "update", guarded(method).update, synthetic, state, data, segment)


def _traced(name: str, part: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:  # whatever the method's own code raises
        raise UserError(
            f"{name}: {part} raises {type(error).__name__}: {first_line(error)}"
        ) from error


def _alike(before: Any, after: Any) -> bool:
    structures: list[Any] = [jax.tree.structure(tree) for tree in (before, after)]
    if structures[0] != structures[1]:
        return False
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    return all(a.shape == b.shape and a.dtype == b.dtype for a, b in pairs)


def _shapes(tree: Any) -> str:
    return ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(tree))[:120]
