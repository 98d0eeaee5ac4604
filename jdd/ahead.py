"""Programs compiled while there is other work."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax


@contextlib.contextmanager
def compiling(*programs: Callable[[], Any]) -> Iterator[None]:
    """Compiles programs beside the block, one after another; the block's end waits for the last.

    JAX keeps what it compiled: a call with arguments of the same shapes finds it. An error is left
    to that call, which meets it again. Of several processes each would have to compile in the order
    of the others, so there nothing is done.

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
    if programs and jax.process_count() == 1:
        thread.start()
    failed = True
    try:
        yield
        failed = False
    finally:
        if failed:
            over.set()  # the program that is being compiled is still waited for
        if thread.ident is not None:
            thread.join()
