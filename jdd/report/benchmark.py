"""The table of a benchmark."""

from collections.abc import Mapping
from typing import Any

from jdd.report.outcome import table

_HEAD = ("case", "s a step", "compiling, s", "peak, MiB", "GFLOP", "GFLOP/s", "of matmul, %")
_LAUNCHES = ("kernels", "launches")
_PEER = ("PyTorch, s", "PyTorch / ours")


def page(width: int, machine: str, cases: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for each case, as `jdd.benchmarks.measure` gives it, by its name."""
    has_peer, has_launches = (
        any(field in row for row in cases.values()) for field in ("peer", "launches")
    )
    head = [*_HEAD, *(_LAUNCHES if has_launches else ()), *(_PEER if has_peer else ())]
    rows = [
        [
            name,
            *_cells(row),
            *([str(row.get(field, "–")) for field in _LAUNCHES] if has_launches else []),
            *(_peer(row) if has_peer else []),
        ]
        for name, row in cases.items()
    ]
    return f"ConvNet-3 of width {width}, {machine}\n{table(head, rows)}"


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['seconds_per_step']:.3g}",
        f"{row['compile_seconds']:.1f}",
        f"{row['peak_bytes'] / 2**20:.0f}",
        f"{row['flops'] / 1e9:.4g}",
        f"{row['flops_per_second'] / 1e9:.3g}",
        f"{100 * row['share_of_matmul_rate']:.0f}",
    ]


def _peer(row: Mapping[str, Any]) -> list[str]:
    if "peer" not in row:
        return ["–", "–"]
    return [f"{row['peer']['seconds_per_step']:.3g}", f"{row['peer']['ratio']:.2f}"]
