"""Devices: one mesh of one axis, and how work on many models or classes is spread over it.

The mesh is JAX's own context: `with jax.set_mesh(sharding.mesh(4)):` runs what is inside on four
devices. Every array is whole on every device; what is spread is the work on the leading axis of
`over_models` and `spread`, each of whose entries depends on itself alone. So the numbers hardly
depend on how many devices there are. Without a mesh everything runs on JAX's default device.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from jdd.errors import UserError

AXIS = "devices"
_MOST = 10  # activations of more would not leave room for large networks


def mesh(devices: int = 0) -> Mesh:
    """The first `devices` devices of all processes, or all of them for 0, on the axis "devices".

    Raises:
      UserError: there are fewer; or some processes would have none.
    """
    there = jax.devices()
    if devices < 0:
        raise UserError(f"--devices {devices}: 1 or more, or 0 for all there are")
    if devices > len(there):
        raise UserError(f"--devices {devices}: JAX finds {len(there)} here ({there[0].platform})")
    used = there[: devices or len(there)]
    if len({device.process_index for device in used}) < jax.process_count():
        raise UserError(
            f"--devices {devices}: {jax.process_count()} processes run as one, and each needs one"
        )
    return Mesh(np.asarray(used), (AXIS,), axis_types=(AxisType.Auto,))


@contextlib.contextmanager
def devices(count: int = 0) -> Iterator[int]:
    """Runs what is inside on `count` devices (0: on all there are) and gives their number.

    On a single one nothing is set, and arrays stay free to go to any device.

    Raises:
      UserError: see `mesh`.
    """
    used = mesh(count)
    if used.size == 1 and used.devices.flat[0] == jax.devices()[0]:
        yield 1
        return
    with jax.set_mesh(used):
        yield used.size


def connect() -> None:
    """Makes this process one of several that run as one, each with devices of its own.

    Where the others are is read from the environment: a TPU VM's or SLURM's, else
    `JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`. Before any computation.

    Raises:
      UserError: the environment does not say, or the others do not answer.
    """
    if jax.distributed.is_initialized():
        return
    # It would take SIGTERM away from whoever asked to be told of it.
    jax.config.update("jax_enable_preemption_service", False)
    count, own = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
    try:
        jax.distributed.initialize(
            num_processes=int(count) if count else None, process_id=int(own) if own else None
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"--distributed: {str(error).strip().splitlines()[0]}; on machines other than TPU VMs "
            "and SLURM's set JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and "
            "JAX_PROCESS_ID"
        ) from None


def any_process(here: bool) -> bool:
    """Whether it is true in any of the processes that run as one; all of them have to ask."""
    if jax.process_count() == 1:
        return here
    return bool(np.asarray(multihost_utils.process_allgather(np.asarray(here))).any())


def agreed(value: float) -> float:
    """The first process's value, in all that run as one.

    What they compute alike may differ in its last bit, and they must not decide differently.
    """
    if jax.process_count() == 1:
        return value
    return float(multihost_utils.broadcast_one_to_all(np.float64(value)))


def models_at_once(wanted: int) -> int:
    """How many models one compiled call should hold: one a device on CPUs, up to ten elsewhere.

    On a CPU one model fills the cores, and a batch of kernels would become a grouped convolution,
    which XLA's CPU backend runs four times slower than one model after another.
    """
    return min(wanted, _spread_over() * at_once(wanted))


def at_once(wanted: int) -> int:
    """How many models a device works on side by side; see `models_at_once`."""
    return 1 if jax.default_backend() == "cpu" else min(wanted, _MOST)


def stack(trees: list[Any]) -> Any:
    """Pytrees of one structure, one for each model, as one with a leading axis of models."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def over_models(function: Callable[..., Any], shared: Any, *arguments: Any) -> Any:
    """Maps over models: `function(shared, *entry)` for each entry of the arguments' leading axis.

    Over the devices of the mesh, and on each of them `lax.map` (one model after another) on a CPU,
    `vmap` elsewhere; the results are the same. One model alone is called as it is: under `vmap`
    every branch of a `lax.switch` would be computed.

    Args:
      function: of what the models share and of one model's entries; see `spread`.
      shared: pytree of arrays.
      arguments: pytrees of arrays with a leading axis of models.
    """

    def on_one_device(shared: Any, *arguments: Any) -> Any:
        if jax.tree.leaves(arguments)[0].shape[0] == 1:
            alone = function(shared, *jax.tree.map(lambda leaf: leaf[0], arguments))
            return jax.tree.map(lambda leaf: leaf[None], alone)
        if jax.default_backend() == "cpu":
            return jax.lax.map(lambda packed: function(shared, *packed), arguments)
        return jax.vmap(lambda *packed: function(shared, *packed))(*arguments)

    return spread(on_one_device, shared, *arguments)


def spread(mapped: Callable[..., Any], shared: Any, *arguments: Any) -> Any:
    """Divides what `mapped` maps over, the leading axis of the arguments, among the devices.

    Args:
      mapped: `(shared, *arguments)` → pytree of arrays with the arguments' leading axis, entry for
        entry. It is called with a device's share of the entries. What it depends on it takes as
        arguments: arrays that are traced outside mean nothing on a device of many.
      shared: pytree of arrays, whole on every device.
      arguments: pytrees of arrays with a leading axis.

    Returns:
      What `mapped(shared, *arguments)` gives, whole on every device. Where the devices do not
      divide the entries, the last entry is computed more than once.
    """
    count, size = _spread_over(), jax.tree.leaves(arguments)[0].shape[0]
    if count == 1 or size == 1:
        return mapped(shared, *arguments)
    slots = jnp.arange(-(-size // count) * count).clip(max=size - 1)
    # Unchecked: checked, a gradient to what is shared would be summed over all devices' entries,
    # where each entry's own is wanted.
    on_devices = jax.shard_map(
        mapped,
        in_specs=(P(), *(P(AXIS) for _ in arguments)),
        out_specs=P(AXIS),
        check_vma=False,
    )
    found = on_devices(shared, *jax.tree.map(lambda leaf: leaf[slots], arguments))
    return jax.tree.map(lambda v: jax.lax.with_sharding_constraint(v, P())[:size], found)


def _spread_over() -> int:
    """Devices that work may be divided among here: 1 without a mesh or inside a division."""
    around = jax.sharding.get_abstract_mesh()
    if AXIS not in around.axis_names or AXIS in around.manual_axes:
        return 1
    return int(around.shape[AXIS])
