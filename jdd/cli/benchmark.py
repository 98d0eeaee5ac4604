"""`benchmark.py`: how long a step of each method takes, and beside it the same in PyTorch."""

import argparse
import importlib.util
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jdd.cli.arguments import Parser, integer, number, seed, tune_xla
from jdd.cli.common import add_json
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import UserError, unknown

NAME = "benchmark"
PEERS = ("torch",)
DESCRIPTION = (
    "Times one step after another on random images: an update of a method, a training step, a "
    "test, with a ConvNet-3 and the papers' settings. One step beforehand warms up; printed are "
    "medians. Leave the machine to it alone: all its cores are used."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper))


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    parser = Parser(prog="benchmark.py", description=textwrap.fill(DESCRIPTION, 100))
    # One case a line, and none broken at a hyphen.
    parser.formatter_class = lambda prog: argparse.RawDescriptionHelpFormatter(
        prog, max_help_position=34, width=100
    )
    parser.epilog = _list_of_cases()
    parser.add_argument(
        "--case",
        default="all",
        metavar="NAME,NAME",
        help="what to measure, listed below; default: all",
    )
    parser.add_argument(
        "--peer",
        metavar="|".join(PEERS),
        help="make the same steps in plain PyTorch (pip install 'jdd[bench]'), in turns with ours",
    )
    parser.add_argument(
        "--width", type=integer, default=128, metavar="N", help="channels (default: 128)"
    )
    parser.add_argument(
        "--steps",
        type=integer,
        metavar="N",
        help="timed steps (default: as many as fit into --most seconds, at least 3)",
    )
    parser.add_argument(
        "--most", type=number, default=20.0, metavar="X", help="seconds a case (default: 20)"
    )
    parser.add_argument(
        "--precision",
        default="tf32",
        metavar="NAME",
        help="our products on accelerators: float32, tf32 or bfloat16 (default: tf32)",
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    add_json(parser)
    given = parser.parse_args(arguments)
    _check(given)

    import jax

    from jdd.benchmarks import cases
    from jdd.benchmarks.measure import measure, prepare_torch
    from jdd.report import outcome
    from jdd.report.console import Stage, say
    from jdd.runs.judging import machine

    chosen = {name: cases.case(name) for name in _chosen(given.case, cases.CASES)}
    if given.peer is not None:
        prepare_torch()
    found: dict[str, Any] = {}
    try:
        for name, case in chosen.items():
            say(f"{name}: {case.words()}")
            with Stage(f"{name}: rounds") as stage:
                found[name] = measure(
                    case,
                    width=given.width,
                    seed=given.seed,
                    peer=given.peer is not None,
                    rounds=given.steps,
                    most=given.most,
                    precision=given.precision,
                    watched=stage.watched(stopper),
                )
    finally:  # stopped, it shows the cases that it has come to the end of
        if found:
            print(f"ConvNet-3 of width {given.width}, {machine()}")
            print(outcome.table(*_rows(found)))
    if given.json:
        only = next(iter(found.values())) if len(found) == 1 else {}
        print_json(
            {
                **only,
                "task": NAME,
                "width": given.width,
                "seed": given.seed,
                "precision": given.precision,
                "device": jax.devices()[0].device_kind,
                "machine": machine(),
                "jax": jax.__version__,
                "cases": found,
                "seconds": round(time.monotonic() - began, 2),
            }
        )


def _check(given: Any) -> None:
    if given.width < 1:
        raise UserError(f"--width {given.width}: at least 1 is needed")
    if given.steps is not None and given.steps < 1:
        raise UserError(f"--steps {given.steps}: at least 1 is needed")
    if not 0 < given.most < float("inf"):
        raise UserError(f"--most {given.most:g}: it must be above 0")
    from jdd.runs.settings import PRECISIONS

    if given.precision not in PRECISIONS:
        raise unknown("--precision", given.precision, PRECISIONS)
    if given.peer is not None and given.peer not in PEERS:
        raise UserError(f"--peer {given.peer}: it is {', '.join(PEERS)} or nothing")
    if given.peer == "torch" and importlib.util.find_spec("torch") is None:
        raise UserError("--peer torch: PyTorch is not installed: pip install 'jdd[bench]'")


def _chosen(text: str, known: Mapping[str, Any]) -> list[str]:
    if text == "all":
        return list(known)
    names = [name for name in text.split(",") if name]
    if not names or len(set(names)) < len(names):
        raise UserError(f"--case '{text}': name each case once, or all")
    return names


def _list_of_cases() -> str:
    from jdd.benchmarks.cases import CASES

    return "\n".join(["cases:", *(f"  {name:22}{case.words()}" for name, case in CASES.items())])


def _rows(found: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    head = ["case", "s a step", "compiling, s", "peak, MiB", "GFLOP", "GFLOP/s", "of matmul, %"]
    has_peer = any("peer" in row for row in found.values())
    rows = []
    for name, row in found.items():
        rows.append(
            [
                name,
                f"{row['seconds_per_step']:.3g}",
                f"{row['compile_seconds']:.1f}",
                f"{row['peak_bytes'] / 2**20:.0f}",
                f"{row['flops'] / 1e9:.4g}",
                f"{row['flops_per_second'] / 1e9:.3g}",
                f"{100 * row['share_of_matmul_rate']:.0f}",
            ]
        )
        if has_peer:
            peer = row["peer"]
            rows[-1] += [f"{peer['seconds_per_step']:.3g}", f"{peer['ratio']:.2f}"]
    return head + ["PyTorch, s", "PyTorch / ours"] * has_peer, rows
