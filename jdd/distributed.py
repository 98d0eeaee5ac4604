"""Which process writes and prints, and how several that run as one agree.

Where several processes run as one (`jax.distributed`), the first is the primary: it alone writes,
on a file system that all of them see, and the others wait for its files at a barrier.
No function here starts JAX's devices in a process that runs alone.
"""

import os
import sys
from typing import Any

from jdd.errors import UserError


def connect() -> None:
    """Makes this process one of several that run as one, each with its devices.

    The cluster is read from the environment: a TPU VM's or SLURM's, else
    `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`. Call it before any
    computation.

    Raises:
      UserError: the environment describes no cluster, or the other processes do not answer.
    """
    import jax

    if jax.distributed.is_initialized():
        return
    # It would replace the SIGTERM handler of our scripts.
    jax.config.update("jax_enable_preemption_service", False)
    count, index = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    try:
        jax.distributed.initialize(
            num_processes=int(count) if count else None, process_id=int(index) if index else None
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"`distributed`: {str(error).strip().splitlines()[0]}; on machines other than TPU VMs "
            "and SLURM's set JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and "
            "JAX_PROCESS_ID"
        ) from None


def is_primary() -> bool:
    """Whether this process is the one that writes and prints."""
    jax = _connected()
    return jax is None or bool(jax.process_index() == 0)


def barrier(name: str) -> None:
    """Returns once all processes that run as one are here; `name` tells barriers apart."""
    if (jax := _connected()) is not None and jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def any_process(here: bool) -> bool:
    """Whether `here` is true in any of the processes that run as one; all have to call this."""
    if (jax := _connected()) is None or jax.process_count() == 1:
        return here
    import numpy as np
    from jax.experimental import multihost_utils

    return bool(np.asarray(multihost_utils.process_allgather(np.asarray(here))).any())


def broadcast(value: float) -> float:
    """The primary process's value, in all processes that run as one.

    Their own results may differ in the last bit, and they must not decide differently.
    """
    if (jax := _connected()) is None or jax.process_count() == 1:
        return value
    import numpy as np
    from jax.experimental import multihost_utils

    return float(multihost_utils.broadcast_one_to_all(np.float64(value)))


def _connected() -> Any:
    """JAX where this process is one of several that run as one, else None.

    Otherwise JAX is not asked for its process index: that would start its devices, and a process
    that only starts others, such as `reproduce.py`, would take the devices away from them.
    """
    jax = sys.modules.get("jax")
    return jax if jax is not None and jax.distributed.is_initialized() else None
