"""Traces a network once on the images of a dataset, so that what it lacks is said at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jdd.errors import UserError
from jdd.files import first_line
from jdd.networks.base import NetworkLike


def try_out(
    name: str,
    network: NetworkLike,
    image_shape: tuple[int, int, int],
    num_classes: int,
    gives: Sequence[str] = (),
) -> None:
    """Raises `UserError` where a network cannot be trained here.

    Args:
      name: of the network.
      network: a Flax module, or what `from_functions` gives.
      image_shape: `(h, w, c)`.
      num_classes: how many logits it is to give.
      gives: what a method asks of it besides logits, as "embed" or "trace".
    """
    title = f"network '{name}'"
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    variables = _traced(title, "init", lambda x: network.init(jax.random.key(0), x), images)
    if not isinstance(variables, Mapping) or "params" not in variables:
        raise UserError(f"{title}: init gives no 'params'")
    if others := sorted({*variables} - {"params", "batch_stats"}):
        raise UserError(
            f"{title}: init gives '{others[0]}': training keeps 'params' and 'batch_stats' alone"
        )
    for leaf in jax.tree.leaves(variables["params"]):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise UserError(f"{title}: a parameter is {leaf.dtype}, and all are to be floats")
    logits = _traced(title, "apply", network.apply, variables, images)
    if getattr(logits, "shape", None) != (2, num_classes):
        given = getattr(logits, "shape", type(logits).__name__)
        raise UserError(
            f"{title}: apply gives {given} for 2 images of {num_classes} classes: logits "
            "(n, classes) are needed"
        )
    _traced(
        title,
        "apply with train=True",
        lambda v, x: network.apply(v, x, train=True, mutable=["batch_stats"]),
        *(variables, images),
    )
    for part in gives:
        _traced(title, part, lambda v, x, p=part: network.apply(v, x, method=p), variables, images)


def _traced(title: str, part: str, function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return jax.eval_shape(function, *arguments)
    except UserError as error:
        raise UserError(f"{title}: {error}") from None
    except Exception as error:  # whatever the network's own code raises
        words = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{title}: {part} raises {words}") from error
