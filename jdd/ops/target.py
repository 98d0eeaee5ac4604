"""The platform that programs are made for: JAX's own, or one that they are only compiled for."""

import contextlib
from collections.abc import Iterator

import jax

# Part of the keys of jit's caches: what was traced for one platform never serves another.
_compiled_for = jax.make_user_context("")


def platform() -> str:
    """The platform that what is traced now will run on: "cpu", "gpu" or "tpu"."""
    return str(_compiled_for.value or jax.default_backend())


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """Traces its block for a platform, which need not be there: "cpu", "gpu" or "tpu"."""
    with _compiled_for(platform):
        yield
