"""What a synthetic set stores, and the images that it decodes to.

A decoder is a static, hashable description of a map from what is learned (the storage, any pytree
of float arrays) to images. Methods move the storage by the gradient to it; networks are trained on
the images.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jax

from jdd.errors import UserError


class Decoder(Protocol):
    """A map from storage to images; an instance is hashable and goes through `jit` as static."""

    def decode(self, storage: Any) -> jax.Array:
        """Storage → float32 images `(n, h, w, c)`, preprocessed; differentiable."""

    def encode(self, images: jax.Array) -> Any:
        """Images `(n, h, w, c)` → storage that a method starts from, which decodes near to them."""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON, with its registered `name`."""


@dataclass(frozen=True)
class Identity:
    """Pixels are stored as they are."""

    def decode(self, storage: jax.Array) -> jax.Array:
        """The storage itself."""
        return storage

    def encode(self, images: jax.Array) -> jax.Array:
        """The images themselves."""
        return images

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"name": "identity"}


IDENTITY = Identity()
DECODERS: dict[str, type] = {"identity": Identity}
"""By the name that is written on a set, along with the decoder's fields."""


def decoder_from_json(value: Mapping[str, Any]) -> Decoder:
    """The inverse of `Decoder.to_json`; raises `UserError` for a decoder that is not known."""
    options = dict(value)
    name = options.pop("name", "identity")
    if name not in DECODERS:
        raise UserError(f"no decoder '{name}' here: the set was made by a newer jdd")
    decoder: Decoder = DECODERS[name](**options)
    return decoder
