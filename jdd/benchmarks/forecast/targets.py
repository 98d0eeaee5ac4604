"""Chips that are not there, as JAX's compilers know them."""

import contextlib
import importlib.util
import os
from collections.abc import Iterator

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from jdd.benchmarks.forecast.machines import Machine, Target
from jdd.errors import SettingError, UserError
from jdd.ops.target import compiling_for
from jdd.sharding import mesh_of

# What libtpu would ask a TPU VM's metadata server for; and that it is asked for no chip, which only
# one process at a time could hold.
_NO_TPU_VM = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
# An H100's and an H200's dies are one: XLA's description of it, but for the memory behind it.
_GPU = """
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: 233472
  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {bandwidth}
  l2_cache_size: 52428800
  clock_rate_ghz: 1.98
  device_memory_size: {memory}
  cuda_compute_capability {{ major: 9 minor: 0 }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
runtime_version {{ major: 12 minor: 9 patch: 0 }}
device_description_str: "NVIDIA {name}"
"""


@contextlib.contextmanager
def compiling(target: Target, devices: int = 0) -> Iterator[Mesh]:
    """Traces and compiles its block for chips that need not be there.

    Args:
      target: which.
      devices: how many of them, the first ones; 0: all.

    Yields:
      Their mesh, which is set as JAX's own: on it arguments are to lie.

    Raises:
      SettingError: more devices than the target has.
      UserError: the compiler is not installed.
    """
    if not 0 <= devices <= target.chips:
        raise SettingError("devices", devices, f"{target.name} has {target.chips}")
    try:
        chips = np.asarray(_chips(target)[: devices or target.chips])
    except jax.errors.JaxRuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"the compiler for {target.name} cannot be used: {reason}") from error
    mesh = mesh_of(chips)
    with compiling_for(target.machine.platform), jax.set_mesh(mesh):
        yield mesh


def _chips(target: Target) -> list[jax.Device]:
    machine = target.machine
    if machine.platform == "tpu":
        _check_installed("libtpu", "forecast-tpu", machine)
        for name, value in _NO_TPU_VM.items():
            os.environ.setdefault(name, value)
        options = {"chips_per_host_bounds": (1, 1, 1)} if target.chips == 1 else {}
        described = topologies.get_topology_desc(target.name, "tpu", **options)
    else:
        _check_installed("jax_plugins.xla_cuda12", "forecast-cuda", machine)
        shape = f"1x1x{target.chips}"
        described = topologies.get_topology_desc(
            shape, "cuda", topology=shape, target_config=_description(machine)
        )
    return list(described.devices)


def _description(machine: Machine) -> str:
    return _GPU.format(
        name=machine.name.upper(), memory=machine.memory, bandwidth=int(machine.bandwidth)
    )


def _check_installed(module: str, extra: str, machine: Machine) -> None:
    try:
        missing = importlib.util.find_spec(module) is None
    except ModuleNotFoundError:  # the package that it is in
        missing = True
    if missing:
        raise UserError(
            f"the compiler for {machine.name} is not installed: pip install 'jdd[{extra}]'"
        )
