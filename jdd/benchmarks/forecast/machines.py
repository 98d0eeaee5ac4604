"""The accelerators that programs are forecast for: their published figures, and a model of time.

| | memory | bandwidth | bfloat16 | float32 as TF32 or three passes | links | source |
| --- | --- | --- | --- | --- | --- | --- |
| v5e | 16 GiB | 819 GB/s | 197 TFLOP/s | 66 | 200 GB/s | cloud.google.com/tpu/docs/v5e |
| v6e | 32 GiB | 1,640 GB/s | 918 | 306 | 448 GB/s | cloud.google.com/tpu/docs/v6e |
| h100 | 80 GB | 3,350 GB/s | 989 | 494 | 450 GB/s | nvidia.com/en-us/data-center/h100 (SXM) |
| h200 | 141 GB | 4,800 GB/s | 989 | 494 | 450 GB/s | nvidia.com/en-us/data-center/h200 (SXM) |

Rates are dense ones, links those of one chip in one direction. A TPU makes a float32 product of
three bfloat16 passes at JAX's "high" precision and of six at "highest". What nobody publishes is
assumed: 3 µs for a kernel that the host launches on a GPU and 20 for it to look at a result before
it goes on; 1.2 µs for an operation on a TPU, which is the least that XLA's own estimates for one
come to (1,826 cycles).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from jdd.benchmarks.forecast.count import Kernel, Work
from jdd.errors import SettingError, nearest

_TPU_SLICES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_MOST_GPUS = 8  # of one host


@dataclass(frozen=True)
class Machine:
    """One chip."""

    name: str
    platform: str
    """as JAX names it: "gpu" or "tpu" """
    memory: int
    """bytes"""
    bandwidth: float
    """bytes a second, of its memory"""
    rates: Mapping[str, float]
    """floating-point operations a second, by the product's arithmetic"""
    link: float
    """bytes a second, to other chips"""
    launch: float
    """seconds that a kernel takes at least"""
    look: float = 0.0
    """seconds until the host has seen a result and goes on"""
    clock: float = 0.0
    """cycles a second, where the compiler counts cycles"""


@dataclass(frozen=True)
class Target:
    """What is compiled for: so many chips of a kind."""

    machine: Machine
    topology: str
    """how they are connected: "2x4"; of GPUs their number"""
    chips: int

    @property
    def name(self) -> str:
        """As `target` reads it."""
        if self.machine.platform == "tpu":
            return f"{self.machine.name}:{self.topology}"
        return self.machine.name if self.chips == 1 else f"{self.machine.name}x{self.chips}"


@dataclass(frozen=True)
class Seconds:
    """A program's time by the model: each kernel takes as long as the slowest of its three."""

    arithmetic: float
    """were there nothing else to wait for"""
    memory: float
    launches: float
    exchanges: float
    host: float
    model: float
    """the sum over kernels of the slowest of the first three, and all exchanges and looks"""
    compiler: float
    """by the compiler's own count of cycles; 0 where it has none"""

    def to_json(self) -> dict[str, float]:
        """Rounded to four digits."""
        return {name: float(f"{value:.4g}") for name, value in asdict(self).items()}


def _tpu(name: str, gib: int, bandwidth: float, peak: float, link: float, clock: float) -> Machine:
    rates = {"bf16": peak, "f32": peak, "f32 high": peak / 3, "f32 highest": peak / 6}
    return Machine(name, "tpu", gib * 2**30, bandwidth, rates, link, launch=1.2e-6, clock=clock)


def _gpu(name: str, gigabytes: int, bandwidth: float) -> Machine:
    rates = {"bf16": 989e12, "f16": 989e12, "f32": 494e12, "f32 high": 494e12, "f32 highest": 67e12}
    return Machine(name, "gpu", gigabytes * 10**9, bandwidth, rates, 450e9, launch=3e-6, look=20e-6)


MACHINES = {
    machine.name: machine
    for machine in (
        _tpu("v5e", 16, 819e9, 197e12, 200e9, 1.5e9),
        _tpu("v6e", 32, 1640e9, 918e12, 448e9, 1.75e9),
        _gpu("h100", 80, 3350e9),
        _gpu("h200", 141, 4800e9),
    )
}


def target(name: str) -> Target:
    """Reads "v5e:2x4" (a slice), "h200" or "h200x8".

    Raises:
      SettingError: there is no such machine, or none of that many chips; it says which there are.
    """
    kind, colon, topology = name.partition(":")
    if colon:
        machine = MACHINES.get(kind)
        if machine is None or machine.platform != "tpu":
            raise SettingError("target", name, nearest(kind, _kinds("tpu")))
        if topology not in _TPU_SLICES:
            raise SettingError("target", name, f"slices of {kind}: {', '.join(_TPU_SLICES)}")
        rows, columns = map(int, topology.split("x"))
        return Target(machine, topology, rows * columns)
    kind, _, count = name.partition("x")
    machine = MACHINES.get(kind)
    if machine is None:
        raise SettingError("target", name, nearest(name, ["v5e:2x2", "v6e:2x2", *_kinds("gpu")]))
    if machine.platform == "tpu":
        raise SettingError("target", name, f"say how many chips: {kind}:1x1, {kind}:2x2, …")
    chips = int(count) if count.isdigit() else 0 if "x" in name else 1
    if not 1 <= chips <= _MOST_GPUS:
        raise SettingError("target", name, f"{kind}, or {kind}x2 to {kind}x{_MOST_GPUS}")
    return Target(machine, str(chips), chips)


def seconds(work: Work, machine: Machine) -> Seconds:
    """How long a program takes by the model."""
    arithmetic = memory = launches = exchanges = slowest = 0.0
    for kernel, count in work.kernels:
        if kernel.collective:
            exchanges += count * (machine.launch + kernel.exchanged / machine.link)
        if kernel.kind == "exchange":
            continue
        parts = (_arithmetic(kernel, machine), kernel.bytes / machine.bandwidth, machine.launch)
        arithmetic += count * parts[0]
        memory += count * parts[1]
        launches += count * parts[2]
        slowest += count * max(parts)
    host = work.host_round_trips * machine.look
    cycles = work.cycles / machine.clock if machine.clock else 0.0
    model = slowest + exchanges + host
    return Seconds(arithmetic, memory, launches, exchanges, host, model, cycles)


def _arithmetic(kernel: Kernel, machine: Machine) -> float:
    slowest = min(machine.rates.values())
    return sum(flops / machine.rates.get(kind, slowest) for kind, flops in kernel.flops.items())


def larger(needed: int) -> str:
    """Which chips have so many bytes of memory, in words; empty where none has."""
    names = [name for name, machine in MACHINES.items() if machine.memory >= needed]
    return ", ".join(names)


def _kinds(platform: str) -> list[str]:
    return [name for name, machine in MACHINES.items() if machine.platform == platform]
