"""A case measured: ours, a peer's and the machine's matrix product by turns."""

import contextlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jdd import cost
from jdd.benchmarks import cases
from jdd.benchmarks.cases import Case
from jdd.benchmarks.flops import product_flops
from jdd.benchmarks.launches import profiled
from jdd.benchmarks.timing import compile_afresh, in_turns, matrix_product, median
from jdd.errors import SettingError
from jdd.files import first_line
from jdd.runs.result import machine
from jdd.runs.settings import PRECISIONS
from jdd.settings import Settings, seed, setting


@dataclass(frozen=True)
class BenchmarkSettings(Settings):
    """How cases are measured."""

    peer: str = setting(
        "none",
        "torch: the same steps in plain PyTorch (pip install torch), in turns with ours",
        choices=("none", "torch"),
    )
    width: int = setting(128, "channels of the ConvNet", min=1)
    steps: int = setting(0, "timed steps; 0: as many as fit into `most`, at least 3", min=0)
    most: float = setting(20.0, "measure a case for about this many seconds", above=0)
    precision: str = setting(
        "tf32",
        "our products on accelerators: float32, tf32 or bfloat16; PyTorch's are float32 with the "
        "first, else tf32",
        choices=PRECISIONS,
    )
    profile: bool = setting(
        False, "on an accelerator also count the kernels and launches of one step, in a profile"
    )
    seed: int = seed(0, "seed of images, experts and weights")


def measure(
    case: Case,
    settings: BenchmarkSettings,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Compiles a case's step, then times it.

    Args:
      case: which.
      settings: how; the matrix product has their precision too.
      progress: as for `in_turns`.

    Returns:
      `seconds_per_step` (the median), all `seconds_of_steps`, `compile_seconds`, `peak_bytes` as
      XLA counts them, `flops`, `flops_per_second`, `matmul_flops_per_second` of the machine in the
      same rounds, `share_of_matmul_rate`, and what the step is. FLOPs are those of direct sums, of
      which a CPU takes half in large convolutions, so that the share may be above 1. With a peer
      `peer`: its name and version, its seconds and `ratio`, its median by ours; where it
      raises an error, `peer_failed` in its place. On an accelerator
      `device_peak_bytes`, the most that was in use since the process began, and with `profile`
      `kernels` and `launches` of one step, see `jdd.benchmarks.launches`.
    """
    problem = cases.problem(case, settings.width, settings.seed)
    step = cases.step(problem, settings.seed)
    with jax.default_matmul_precision(PRECISIONS[settings.precision]):
        compiled, compile_seconds = compile_afresh(step.function, *step.arguments)
        # A GPU would multiply float32 numbers by TF32 at the precision bfloat16.
        rounded = settings.precision == "bfloat16" and jax.default_backend() != "cpu"
        product, product_flops_each = matrix_product(jnp.bfloat16 if rounded else jnp.float32)
    arguments = step.arguments

    def ours() -> None:
        nonlocal arguments
        result = jax.block_until_ready(compiled(*arguments))
        arguments = step.onward(arguments, result)

    calls: dict[str, Callable[[], Any]] = {"matmul": product, "jdd": ours}
    peer, trouble = _torch_calls(problem, settings) if settings.peer == "torch" else ({}, "")
    calls |= peer
    seconds_of = in_turns(calls, settings.steps, settings.most, progress)
    seconds = median(seconds_of["jdd"])
    flops = product_flops(step.function, *step.arguments, turns=step.turns)
    matmul_rate = product_flops_each / median(seconds_of["matmul"])
    result = {
        "step": case.words(),
        "method": case.kind,
        "dataset": case.dataset,
        "ipc": case.ipc,
        "precision": settings.precision,
        "seconds_per_step": seconds,
        "seconds_of_steps": _rounded(seconds_of["jdd"]),
        "compile_seconds": round(compile_seconds, 3),
        "peak_bytes": cost.peak_bytes(compiled),
        "flops": flops,
        "flops_per_second": flops / seconds,
        "matmul_flops_per_second": matmul_rate,
        "share_of_matmul_rate": flops / seconds / matmul_rate,
    }
    result |= _of_accelerator(ours, settings.profile)
    if peer:
        result["peer"] = _of_torch(seconds_of, seconds)
    if trouble:
        result["peer_failed"] = trouble
    return result


def _of_accelerator(call: Callable[[], Any], profile: bool) -> dict[str, int]:
    """What only an accelerator tells: memory in use at most, kernels and launches of a call."""
    figures: dict[str, int] = {}
    if (stats := jax.local_devices()[0].memory_stats()) is not None:
        figures["device_peak_bytes"] = stats.get("peak_bytes_in_use", 0)
    if profile:
        with contextlib.suppress(Exception):  # of a profiler; what is measured is worth more
            counts = profiled(call)
            figures |= {} if counts is None else counts._asdict()
    return figures


def _torch_calls(problem: cases.Problem, settings: BenchmarkSettings) -> tuple[dict[str, Any], str]:
    """PyTorch's step in each layout of images in which it runs, and what else it raised.

    On a GPU its products are as ours, TF32 or float32, and cuDNN tries which algorithm is fastest.
    """
    calls: dict[str, Any] = {}
    try:
        for name, call in _torch_steps(problem, settings):
            call()
            calls[name] = call
    except Exception as error:  # whatever is wrong there; ours is measured all the same
        return calls, f"{type(error).__name__}: {first_line(error)}"
    return calls, ""


def _torch_steps(
    problem: cases.Problem, settings: BenchmarkSettings
) -> Iterator[tuple[str, Callable[[], Any]]]:
    import torch

    from jdd.benchmarks.peer.steps import Peer, device

    if device().type == "cpu":
        yield "NCHW", Peer(problem, settings.seed).step()
        return
    rounded = settings.precision != "float32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = rounded
    torch.backends.cudnn.benchmark = True
    torch.cuda.reset_peak_memory_stats()
    for name in ("NCHW", "NHWC"):
        yield name, Peer(problem, settings.seed, channels_last=name == "NHWC").step()


def _of_torch(seconds_of: dict[str, list[float]], ours: float) -> dict[str, Any]:
    """What PyTorch took, and how, in its faster layout; `ours` is our median."""
    import torch

    layout = min({"NCHW", "NHWC"} & {*seconds_of}, key=lambda name: median(seconds_of[name]))
    seconds = seconds_of[layout]
    on_gpu = torch.backends.cudnn.benchmark
    return {
        "name": "torch",
        "version": torch.__version__,
        "layout": layout,
        **({"peak_bytes": torch.cuda.max_memory_allocated()} if on_gpu else {}),
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
        "seconds_per_step": median(seconds),
        "seconds_of_steps": _rounded(seconds),
        "ratio": median(seconds) / ours,
    }


def circumstances(settings: BenchmarkSettings) -> dict[str, Any]:
    """With what, and on what machine, cases were measured."""
    return {
        "width": settings.width,
        "seed": settings.seed,
        "precision": settings.precision,
        "device": jax.devices()[0].device_kind,
        "machine": machine(),
        "jax": jax.__version__,
    }


def prepare_peer(settings: BenchmarkSettings) -> None:
    """Imports PyTorch, where it is the peer: every core that this process may use, as JAX does.

    On a GPU JAX leaves PyTorch half of the memory, unless XLA_CLIENT_MEM_FRACTION says otherwise.

    PyTorch's threads wait without spinning, unless OMP_WAIT_POLICY says otherwise. While something
    else holds a core (JAX's threads about to sleep, other programs), spinning ones take the time of
    those they wait for: on a busy machine of two cores a training step took three times as long.

    Raises:
      SettingError: it is not installed.
    """
    if settings.peer != "torch":
        return
    if importlib.util.find_spec("torch") is None:
        raise SettingError("peer", settings.peer, "PyTorch is not installed: pip install torch")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "XLA_PYTHON_CLIENT_MEM_FRACTION" not in os.environ:  # its older name; JAX refuses both
        os.environ.setdefault("XLA_CLIENT_MEM_FRACTION", "0.5")
    import torch

    usable = getattr(os, "sched_getaffinity", None)
    torch.set_num_threads(len(usable(0)) if usable else os.cpu_count() or 1)


def _rounded(seconds: list[float]) -> list[float]:
    return [round(value, 6) for value in seconds]
