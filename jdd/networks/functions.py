"""A network that is a pair of functions: whatever library it was written with."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jdd.errors import UserError


@dataclasses.dataclass(frozen=True)
class FunctionNetwork:
    """`init(key, images)` and `apply(params, images)` in the place of a Flax module.

    Parameters may be any pytree of float arrays; to the outside they are a flat dictionary, so
    that experts of it can be stored.
    """

    init_function: Callable[[jax.Array, jax.Array], Any]
    apply_function: Callable[[Any, jax.Array], jax.Array]
    embed_function: Callable[[Any, jax.Array], jax.Array] | None = None
    maps_function: Callable[[Any, jax.Array], list[jax.Array]] | None = None

    def init(self, key: jax.Array, images: jax.Array, train: bool = False) -> dict[str, Any]:
        """Fresh variables, `{"params": …}`."""
        del train
        leaves = jax.tree_util.tree_leaves_with_path(self.init_function(key, images))
        return {"params": {jax.tree_util.keystr(path): leaf for path, leaf in leaves}}

    def apply(
        self,
        variables: Any,
        images: jax.Array,
        train: bool = False,
        method: str | None = None,
        mutable: Any = False,
    ) -> Any:
        """Logits `(n, classes)`; with `method`, "embed" or "trace", what the other functions give.

        Raises:
          UserError: a method wants features, and the network was made without a function for them.
        """
        del train
        one = jax.ShapeDtypeStruct((1, *images.shape[1:]), jnp.float32)
        like = jax.eval_shape(self.init_function, jax.random.key(0), one)
        names = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(like)]
        leaves = [variables["params"][name] for name in names]
        params = jax.tree.unflatten(jax.tree.structure(like), leaves)
        if method is None:
            logits = self.apply_function(params, images)
            return (logits, {}) if mutable else logits
        if method == "embed" and self.embed_function is not None:
            return self.embed_function(params, images)
        if self.maps_function is not None and method == "feature_maps":
            return self.maps_function(params, images)
        if self.maps_function is not None and method == "trace" and self.embed_function is not None:
            return self.maps_function(params, images), self.embed_function(params, images)
        wanted = {"embed": "embed", "trace": "embed and feature_maps"}.get(method, method)
        raise UserError(f"this network was made without {wanted}: jdd.networks.from_functions")


def from_functions(
    init: Callable[[jax.Array, jax.Array], Any],
    apply: Callable[[Any, jax.Array], jax.Array],
    *,
    embed: Callable[[Any, jax.Array], jax.Array] | None = None,
    feature_maps: Callable[[Any, jax.Array], list[jax.Array]] | None = None,
) -> FunctionNetwork:
    """A network of functions, for all methods, evaluation and tasks: Flax NNX, Equinox, plain JAX.

    Args:
      init: `(key, images (n, h, w, c))` → parameters, any pytree of float arrays.
      apply: `(parameters, images)` → logits `(n, classes)`.
      embed: `(parameters, images)` → features before the classifier `(n, d)`; DM, FRePo, NCFM and
        the coresets need it.
      feature_maps: `(parameters, images)` → maps behind every activation, each NHWC; DataDAM needs
        it, and `embed`.
    """
    return FunctionNetwork(init, apply, embed, feature_maps)
