"""A case measured: ours, a peer's and the machine's matrix product by turns."""

import os
from collections.abc import Callable
from typing import Any

import jax

from jdd import cost
from jdd.benchmarks import cases
from jdd.benchmarks.cases import Case
from jdd.benchmarks.flops import product_flops
from jdd.benchmarks.timing import compile_afresh, in_turns, matrix_product, median
from jdd.runs.settings import PRECISIONS


def measure(
    case: Case,
    *,
    width: int = 128,
    seed: int = 0,
    peer: bool = False,
    rounds: int | None = None,
    most: float = 20.0,
    precision: str = "tf32",
    watched: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Compiles a case's step, then times it.

    Args:
      case: which.
      width: channels of the ConvNet.
      seed: of all random numbers.
      peer: whether PyTorch makes the same step in between.
      rounds, most, watched: as for `in_turns`.
      precision: of our products on accelerators, one of `jdd.runs.settings.PRECISIONS`; the
        matrix product is in the same one, PyTorch's are as it has them by itself.

    Returns:
      `seconds_per_step` (the median), all `seconds_of_steps`, `compile_seconds`, `peak_bytes` as
      XLA counts them, `flops`, `flops_per_second`, `matmul_flops_per_second` of the machine in the
      same rounds, `share_of_matmul_rate`, and what the step is. FLOPs are those of direct sums, of
      which a CPU takes half in large convolutions, so that the share may be above 1. With a peer
      `peer`: its name and version, its seconds and `ratio`, its median by ours.
    """
    problem = cases.problem(case, width, seed)
    step = cases.step(problem, seed)
    with jax.default_matmul_precision(PRECISIONS[precision]):
        compiled, compile_seconds = compile_afresh(step.function, *step.arguments)
        product, product_flops_each = matrix_product()
    arguments = step.arguments

    def ours() -> None:
        nonlocal arguments
        result = jax.block_until_ready(compiled(*arguments))
        arguments = step.onward(arguments, result)

    calls: dict[str, Callable[[], Any]] = {"matmul": product, "jdd": ours}
    if peer:
        from jdd.benchmarks.peer.steps import Peer

        calls["torch"] = Peer(problem, seed).step()
    found = in_turns(calls, rounds, most, watched)
    seconds = median(found["jdd"])
    flops = product_flops(step.function, *step.arguments, turns=step.turns)
    matmul_rate = product_flops_each / median(found["matmul"])
    result = {
        "step": case.words(),
        "method": case.kind,
        "dataset": case.dataset,
        "ipc": case.ipc,
        "precision": precision,
        "seconds_per_step": seconds,
        "seconds_of_steps": _rounded(found["jdd"]),
        "compile_seconds": round(compile_seconds, 3),
        "peak_bytes": cost.peak_bytes(compiled),
        "flops": flops,
        "flops_per_second": flops / seconds,
        "matmul_flops_per_second": matmul_rate,
        "share_of_matmul_rate": flops / seconds / matmul_rate,
    }
    if peer:
        import torch

        theirs = median(found["torch"])
        result["peer"] = {
            "name": "torch",
            "version": torch.__version__,
            "threads": torch.get_num_threads(),
            "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
            "seconds_per_step": theirs,
            "seconds_of_steps": _rounded(found["torch"]),
            "ratio": theirs / seconds,
        }
    return result


def prepare_torch() -> None:
    """Imports PyTorch for use beside JAX: every core that this process may use, as JAX takes them.

    PyTorch's threads wait without spinning, unless OMP_WAIT_POLICY says otherwise. While something
    else holds a core (JAX's threads about to sleep, other programs), spinning ones take the time of
    those they wait for: on a busy machine of two cores a training step took three times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    usable = getattr(os, "sched_getaffinity", None)
    torch.set_num_threads(len(usable(0)) if usable else os.cpu_count() or 1)


def _rounded(seconds: list[float]) -> list[float]:
    return [round(value, 6) for value in seconds]
