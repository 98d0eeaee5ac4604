"""Kills runs and the training of experts at random moments, and compares what they end in.

`make kill`, or `python -m tests.kill --kills N --seed N`: each of `JOBS` is made once in one go,
and once by a chain of commands of which every one but the last is killed (SIGKILL) at a moment
drawn from the seed. Both are to end in the same bytes, with nothing half-written left.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jdd.cli.platform import tune_xla

# One of each family of methods, at the smallest sizes on which there is something to interrupt.
_SMALL = (
    "--width 4 --depth 1 --eval-networks 1 --eval-epochs 10 --full-data-epochs 0 --no-eval-random"
)
_EXPERTS = "--num-experts 2 --train-epochs 6 --expert-epochs 1 --syn-steps 3 --max-start-epoch 2"
_RUNS = {
    "dm": "--batch-real 5 --iterations 60 --eval-every 20 --chunk 2",
    "dc": "--batch-real 5 --iterations 20 --eval-every 10 --chunk 1 --outer-loop 2",
    "idc": "--batch-real 5 --iterations 20 --eval-every 10 --chunk 1 --outer-loop 2",
    "ncfm": "--batch-real 5 --iterations 20 --eval-every 10 --chunk 1 --num-experts 2 "
    "--train-epochs 6 --expert-epochs 1",
    "frepo": "--batch-real 20 --iterations 40 --eval-every 20 --chunk 2 --pool 2",
    "bptt": "--batch-real 20 --iterations 20 --eval-every 10 --chunk 1 --syn-steps 4 --window 2",
    "mtt": f"{_EXPERTS} --iterations 20 --eval-every 10 --chunk 1",
    "datm": f"{_EXPERTS} --iterations 20 --eval-every 10 --chunk 1",
    "k_center": "",
}
JOBS = {
    **{
        method: ("distill", f"--method {method} --dataset digits --preset quick {_SMALL} {words}")
        for method, words in _RUNS.items()
    },
    "experts": (
        "train_experts",
        "--method mtt --dataset digits --preset quick --width 4 --depth 1 --num-experts 3 "
        "--train-epochs 12 --max-start-epoch 2 --expert-epochs 1",
    ),
}
# What tells of the clock and the place, not of the outcome.
_FREE = {
    "seconds",
    "distilling_seconds",
    "expert_seconds",
    "date",
    "out",
    "resumed_from",
    "command",
}
# What commands import; the processes that are killed have it loaded when they begin.
_PRELOADED = ("jdd.runs", "jdd.report.run", "jdd.cli.selection", "jdd._orbax")


def _command(script: str, words: list[str], log: Path) -> None:
    """One command in a process of its own; what it says goes to a file."""
    import importlib

    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.exit(importlib.import_module(f"jdd.cli.{script}").main(words))


def _run(context: Any, name: str, place: Path, limit: float | None) -> tuple[int | None, float]:
    """Runs a job's command, killed after `limit` seconds; its exit code (None: killed), seconds."""
    script, words = JOBS[name]
    arguments = [*shlex.split(words), "--experts", str(place / "experts")]
    if script == "distill":
        arguments += ["--out", str(place / "run"), "--resume"]
    began = time.monotonic()
    process = context.Process(target=_command, args=(script, arguments, place / "log"))
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        process.join()
        return None, time.monotonic() - began
    return process.exitcode, time.monotonic() - began


def outcome(place: Path) -> dict[str, Any]:
    """What lies there, by name: bytes of sets, pictures, lines and experts, a result's figures."""
    from jdd import SyntheticSet

    result: dict[str, Any] = {}
    run, experts = place / "run", place / "experts"
    for path in sorted([*run.rglob("*.png"), *(experts / "parameters").rglob("*")]):
        if path.is_file():
            result[str(path.relative_to(place))] = path.read_bytes()
    if experts.exists():
        progress = json.loads((experts / "progress.json").read_text())
        result["experts' accuracies"] = progress["accuracies"]
    if run.exists():
        result["metrics.jsonl"] = (run / "metrics.jsonl").read_bytes()
        result["result"] = _without_clock(json.loads((run / "result.json").read_text()))
        for folder in (run, run / "last"):
            stored = SyntheticSet.load(folder)
            for part in ("storage", "labels", "learning_rate"):
                value = getattr(stored, part)
                result[f"{folder.name}/{part}"] = None if value is None else value.tobytes()
    result["left over"] = sorted(
        str(path.relative_to(place))
        for path in place.rglob("*")
        if path.name.startswith(".") and path.name != ".lock"
    )
    return result


def _without_clock(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {n: _without_clock(each) for n, each in value.items() if n not in _FREE}
    return [_without_clock(each) for each in value] if isinstance(value, list) else value


def kill_often(jobs: list[str], kills: int, seed: int, base: Path) -> int:
    """Kills as often as asked, over the jobs in turn; says how it went, and counts what differs."""
    rng, context = random.Random(seed), multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_PRELOADED))
    shares = [kills // len(jobs) + (i < kills % len(jobs)) for i in range(len(jobs))]
    differing = total = 0
    for name, share in zip(jobs, shares, strict=True):
        whole, parts = base / name / "whole", base / name / "parts"
        whole.mkdir(parents=True)
        parts.mkdir()
        code, warm = _run(context, name, whole, None)
        assert code == 0, (whole / "log").read_text()[-2000:]
        print(f"{name}: {warm:.1f} s in one go", flush=True)
        made = 0
        while made < share:
            code, seconds = _run(context, name, parts, warm * rng.uniform(0.05, 0.8))
            made += code is None
            if code == 0:  # it was done before its moment came: from the start again, and sooner
                _begin_again(parts)
                warm = min(warm, seconds)
            assert code in (None, 0), (parts / "log").read_text()[-2000:]
            print(f"  {name}: {'killed' if code is None else 'done'} after {seconds:.2f} s")
        code, _ = _run(context, name, parts, None)
        assert code == 0, (parts / "log").read_text()[-2000:]
        expected, actual = outcome(whole), outcome(parts)
        wrong = [key for key in {*expected, *actual} if expected.get(key) != actual.get(key)]
        wrong += [f"left: {path}" for path in actual["left over"]]
        differing += bool(wrong)
        total += made
        words = f"differs in {', '.join(sorted(wrong))}" if wrong else "the same bytes"
        print(f"{name}: {made} kills, {len(actual)} things compared: {words}", flush=True)
    print(f"{total} kills, seed {seed}: {len(jobs) - differing} of {len(jobs)} the same")
    return differing


def _begin_again(place: Path) -> None:
    import shutil

    for folder in ("run", "experts"):
        shutil.rmtree(place / folder, ignore_errors=True)


def main() -> int:
    """Runs it; the exit code is 1 where anything differed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="default: 50")
    parser.add_argument("--seed", type=int, help="default: drawn, and printed")
    parser.add_argument("--jobs", default=",".join(JOBS), help="default: %(default)s")
    parser.add_argument("--keep", help="where everything is kept (default: nowhere)")
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if args.seed is None else args.seed
    print(f"{args.kills} kills, seed {seed}", flush=True)
    tune_xla()
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        base = args.keep or stack.enter_context(tempfile.TemporaryDirectory())
        differing = kill_often(args.jobs.split(","), args.kills, seed, Path(base))
    print(f"{time.monotonic() - began:.0f} s")
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
