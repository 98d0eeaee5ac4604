"""`distill.py`: turns a data set into a few synthetic images, and says how good they are."""

import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jdd.cli.arguments import Parser, tune_xla
from jdd.cli.program import Stopper, print_json, run_script

DESCRIPTION = (
    "Distils a data set: makes a few synthetic images on which a fresh network trains almost as "
    "well as on all real ones. Leaves the set, its pictures and its accuracy in --out."
)


# Flags that say how a run goes, not what it makes.
_SAME_RUN = ("--json", "--resume", "--overwrite", "--distributed", "--no-compilation-cache")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper), "the same command with --resume")


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    from jdd.cli import common

    parser = Parser(prog="distill.py", description=DESCRIPTION)
    common.add_run_flags(parser)
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="the run's directory (default: checkpoints/<dataset>/<method>-ipc<n>-seed<s>/)",
    )
    there = parser.add_mutually_exclusive_group()
    there.add_argument(
        "--resume", action="store_true", help="go on with the run in --out, if one is there"
    )
    there.add_argument(
        "--overwrite", action="store_true", help="replace the run in --out, if one is there"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print what the run will take: parameters, memory, time; write nothing",
    )
    given, said = common.parse(parser, arguments)

    from jdd import storage
    from jdd.runs import run

    settings = common.settings_of(given, said)
    if given.dry_run:
        from jdd.runs.estimate import estimate

        with common.on_devices(given, stopper):
            found = estimate(settings, given.data_dir)
        if storage.writes():
            print(expected(found))
            if given.json:
                print_json(found)
        return
    out = Path(given.out or common.default_out(given.dataset, given.method, given.ipc, given.seed))
    with common.on_devices(given, stopper) as should_stop:
        result = run(
            settings,
            out,
            data_dir=given.data_dir,
            experts_dir=Path(given.experts) if given.experts else None,
            resume=given.resume,
            overwrite=given.overwrite,
            should_stop=should_stop,
            began=began,
            command=command(sys.argv[1:] if arguments is None else arguments, given.preset),
        )
    if not storage.writes():
        return
    print(summary(result, out))
    if given.json:
        print_json(result)


def command(arguments: Sequence[str], preset: str) -> str:
    """What makes the same run on another machine: without the flags that say where things lie."""
    kept, places = [], {"--out", "--data-dir", "--experts", "--devices"}
    left = iter(arguments)
    for argument in left:
        name, assigned, _ = argument.partition("=")
        if name in places:
            if not assigned:
                next(left)
        elif name not in _SAME_RUN:
            kept.append(argument)
    if not any(argument.partition("=")[0] == "--preset" for argument in kept):
        kept += ["--preset", preset]  # the default depends on the machine
    return shlex.join(["python", "bin/distill.py", *kept])


def expected(found: dict[str, Any]) -> str:
    """What a run will take, for a reader."""
    seconds = found["seconds"]
    rows = [
        ("parameters of the network", f"{found['parameters']:,}"),
        ("numbers learned in the set", f"{found['learned']:,}"),
    ]
    if "peak_bytes" in found:
        rows += [
            ("memory of an update", f"{found['peak_bytes'] / 2**20:,.0f} MiB"),
            ("time of an update", f"{found['seconds_per_update']:.3g} s"),
            (f"{found['iterations']} updates", _duration(seconds["distilling"])),
        ]
    if "experts_bytes" in found:
        rows += [
            ("experts, where none are there", _duration(seconds["experts"])),
            ("  on disk", f"{found['experts_bytes'] / 2**20:,.0f} MiB"),
        ]
    rows += [
        ("evaluating", _duration(seconds["evaluating"])),
        ("in all, without compiling", _duration(seconds["total"])),
    ]
    width = max(len(name) for name, _ in rows)
    title = f"{found['method']} on {found['dataset']}, {found['ipc']} per class, on "
    return "\n".join(
        [f"{title}{found['machine']}", *(f"  {name:<{width}}  {value}" for name, value in rows)]
    )


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.0f} s"


def summary(result: dict[str, Any], out: Path) -> str:
    """The result for a reader."""
    from jdd.evaluation import shown

    images = result["ipc"] * result["classes"]
    kind = (
        f"real images that {result['method']} chose" if result.get("chosen") else "distilled images"
    )
    rows = [(f"{images} {kind}", shown(result["best"]))]
    if result["final"]["iteration"] != result["best"]["iteration"]:
        rows.append(("  at the last iteration", shown(result["final"])))
    if "random" in result["baselines"]:
        rows.append((f"{images} random real images", shown(result["baselines"]["random"])))
    if "whole" in result["baselines"]:
        whole = result["baselines"]["whole"]
        rows.append((f"all {whole['images']} real images", shown(whole, several=False)))
    width = max(len(name) for name, _ in rows)
    lines = [f"test accuracy of fresh {result['network']}s trained on"]
    lines += [f"  {name:<{width}}  {value}" for name, value in rows]
    lines += [
        f"pictures: {out / 'images'}",
        f"set: {out / 'synthetic'}",
        f"{result['seconds']:.0f} s in all",
    ]
    return "\n".join(lines)
