"""Programs compiled while there is other work."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax


@contextlib.contextmanager
def compiling(*programs: Callable[[], Any]) -> Iterator[None]:
    """Compiles programs while the block runs, one after another; its end waits for the last.

    JAX keeps what it compiled: a call with arguments of the same shapes finds it. An error is left
    to that call, which meets it again. With several devices a call's arguments lie elsewhere than
    is known here, and it would compile the same once more; on a GPU XLA chooses kernels by
    timing them, which other work would disturb. There nothing is done.

    Args:
      programs: each gives a traced program, as `jax.jit(…).lower(…)` does.
    """
    over = threading.Event()

    def work() -> None:
        for program in programs:
            if not over.is_set():
                with contextlib.suppress(Exception):
                    program().compile()

    thread = threading.Thread(target=work, name="compiling", daemon=True)
    if programs and jax.device_count() == 1 and jax.default_backend() != "gpu":
        thread.start()
    try:
        yield
    except BaseException:
        over.set()  # the program that is being compiled is still waited for
        raise
    finally:
        if thread.ident is not None:
            thread.join()
