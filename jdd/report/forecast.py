"""A forecast in words: what a run's programs do on chips that are not there."""

from collections.abc import Callable, Mapping
from typing import Any

from tabulate import tabulate

_ROWS: tuple[tuple[str, Callable[[Any], str]], ...] = (
    ("compiled in", lambda p: f"{p['compile_seconds']:.0f} s"),
    ("  of processor time", lambda p: f"{p['compile_processor_seconds']:.0f} s"),
    ("memory: temporary", lambda p: _mib(p["bytes"]["temporary"])),
    ("memory: arguments", lambda p: _mib(p["bytes"]["arguments"])),
    ("memory at most", lambda p: _mib(p["bytes"]["peak"])),
    ("products, GFLOP", lambda p: f"{p['flops'] / 1e9:,.4g}"),
    ("memory traffic, GB", lambda p: f"{p['memory_traffic'] / 1e9:,.4g}"),
    ("is so many", lambda p: f"{p['units']:,} {_plural(p['unit'], p['units'])}"),
    ("kernels in each", lambda p: f"{p['per_unit']['kernels']:,.4g}"),
    ("library calls in each", lambda p: f"{p['per_unit']['library_calls']:,.4g}"),
    ("host round trips in each", lambda p: f"{p['per_unit']['host_round_trips']:,.3g}"),
    ("collectives", lambda p: _collectives(p["collectives"])),
    ("seconds: arithmetic alone", lambda p: f"{p['seconds']['arithmetic']:.3g}"),
    ("seconds: memory alone", lambda p: f"{p['seconds']['memory']:.3g}"),
    ("seconds: launches alone", lambda p: f"{p['seconds']['launches']:.3g}"),
    ("seconds: by the model", lambda p: f"{p['seconds']['model']:.3g}"),
    ("seconds: by the compiler", lambda p: f"{p['seconds']['compiler']:.3g}"),
    ("calls in the run", lambda p: f"{p['calls']:,.4g}"),
)


def page(result: Mapping[str, Any]) -> str:
    """What `jdd.benchmarks.forecast.forecast` gives, as a table of a program a column."""
    programs = result["programs"]
    rows = [[title, *(cell(p) for p in programs)] for title, cell in _ROWS]
    if not any(p["seconds"]["compiler"] for p in programs):
        rows = [row for row in rows if row[0] != "seconds: by the compiler"]
    title = (
        f"{result['method']} on {result['dataset']}, {result['ipc']} per class, preset "
        f"{result['preset']}, compiled for {result['target']}: {result['devices']} of "
        f"{_mib(result['memory'])}"
    )
    headers = ["a call of", *(p["program"] for p in programs)]
    align = ["left", *("right" for _ in programs)]
    table = tabulate(rows, headers=headers, colalign=align, disable_numparse=True)
    whole = f"these programs in the whole run, by the model: {result['seconds']:,.0f} s"
    return "\n".join([title, table, whole, "nothing was run: figures of the compiled programs"])


def _mib(count: float) -> str:
    return f"{count / 2**20:,.0f} MiB"


def _plural(unit: str, count: int) -> str:
    ending = "es" if unit.endswith("ch") else "s"
    return unit if count == 1 else unit + ending


def _collectives(collectives: Mapping[str, Mapping[str, int]]) -> str:
    words = [f"{e['count']:,} {kind}, {_mib(e['bytes'])}" for kind, e in collectives.items()]
    return "; ".join(words) or "none"
