"""Damaged files for every reader: `python -m tests.fuzz [READER …] [--inputs N] [--seed N]`.

Each reader has a process of its own, so that one that ends its process is a fault like another.
The input that a reader fell over is kept in tests/fixtures/fuzz, where `make test` reads it again.
"""

import argparse
import collections
import hashlib
import importlib.util
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.mutations import Change, changed, changes, files_of, put
from tests.fuzz.one import attempt, limited
from tests.fuzz.readers import READERS

CORPUS = Path(__file__).resolve().parents[1] / "fixtures" / "fuzz"
_HANGS = 60  # seconds after which a process is ended


def main() -> int:
    """Runs the readers one after another; 1 where one has a fault."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help=", ".join(READERS))
    parser.add_argument("--inputs", type=int, help="of each reader; default: its own number")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**32))
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return _fuzz(args.readers[0], args.inputs, args.seed, args.inside)
    print(f"seed {args.seed}", flush=True)
    faults = 0
    for name in args.readers or READERS:
        package = READERS[name].package
        if package and importlib.util.find_spec(package) is None:
            print(f"{name}: passed over, {package} is not installed", flush=True)
            continue
        with tempfile.TemporaryDirectory() as temporary:
            faults += _child(name, args.inputs or READERS[name].inputs, args.seed, Path(temporary))
    return 1 if faults else 0


def _child(name: str, inputs: int, seed: int, place: Path) -> int:
    """Runs one reader in a process; 1 where it ends in another way than it should."""
    command = [sys.executable, "-m", "tests.fuzz", name, f"--inputs={inputs}", f"--seed={seed}"]
    began = time.monotonic()
    done = subprocess.run([*command, f"--inside={place}"], capture_output=True, text=True)
    if done.returncode == 0:
        print(f"{done.stdout.strip()}, {time.monotonic() - began:.0f} s", flush=True)
        return 0
    print(f"{name}: FAULT (exit code {done.returncode})\n{done.stdout}{done.stderr[-3000:]}")
    whole = files_of(place / "original")
    for path, content in files_of(place / "input").items():
        if whole.get(path) != content:
            kept = CORPUS / name / hashlib.sha256(content).hexdigest()[:8] / path
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(content)
            print(f"kept in {kept}", flush=True)
    return 1


def _fuzz(name: str, inputs: int, seed: int, temporary: Path) -> int:
    import hypothesis

    from jdd import files as jdd_files

    jdd_files.flush = lambda path: None  # ten milliseconds each, and no power fails here
    reader, place = READERS[name], temporary / "input"
    place.mkdir()
    reader.make(place)
    original = reader.read(place)
    shutil.copytree(place, temporary / "original")
    contents = files_of(place)
    outcomes: collections.Counter[str] = collections.Counter()
    change: Change = ("", b"")

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        suppress_health_check=list(hypothesis.HealthCheck),
        print_blob=False,
    )
    @hypothesis.given(changes(contents))
    def reads_or_refuses(drawn: Change) -> None:
        nonlocal change
        change = drawn
        signal.alarm(_HANGS)  # what waits in a library's own code hears of nothing else
        with changed(place, change, contents):
            outcomes[attempt(reader, place, original)] += 1

    try:
        with limited():
            reads_or_refuses()
    except Exception:  # a fault, or Hypothesis's group of several
        put(place / change[0], change[1], contents)  # for the parent, who keeps it
        raise
    total = sum(outcomes.values())
    print(f"{name}: {total:,} inputs, {outcomes['refused']:,} refused, {outcomes['read']:,} read")
    return 0


if __name__ == "__main__":
    sys.exit(main())
