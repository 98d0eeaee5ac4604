"""What is measured with, and until when."""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jdd.benchmarks import cases
from jdd.tasks.processes import run_as_process

# What an accelerator is most in question for comes first: nobody knows how far the time will reach.
CASES = tuple(
    sorted(cases.CASES, key=lambda n: (cases.CASES[n].kind != "mtt", cases.CASES[n].dataset))
)
_GRACE = 30.0  # seconds that a program has to store its state


@dataclass(frozen=True)
class Clock:
    """Says when to stop: once its time is up, or its caller wants to."""

    ends: float
    """by `time.monotonic()`; programs are told to end then"""
    grace: float
    """seconds after that, at whose end they are ended"""
    stopper: Callable[[], bool]

    @classmethod
    def of(cls, seconds: float, stopper: Callable[[], bool]) -> "Clock":
        """One whose last program has ended in so many seconds."""
        grace = min(_GRACE, seconds / 10)
        return cls(time.monotonic() + seconds - grace, grace, stopper)

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.stopper() or self.left <= 0

    @property
    def left(self) -> float:
        """Seconds until programs are told to end."""
        return self.ends - time.monotonic()

    def share(self, fraction: float) -> "Clock":
        """One that stops after this fraction of what is left."""
        return Clock(time.monotonic() + fraction * self.left, self.grace, self.stopper)


class Ran(NamedTuple):
    """A script that has ended."""

    outcome: str
    """"done", "left" where its time was up, or "failed"""
    value: Any
    """its result; None where it gave none"""
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What is measured, and where things are."""

    out: Path
    """results"""
    work: Path
    """experts and runs, to resume from"""
    dataset: str = "cifar10"
    """of the runs"""
    data_dir: str = ""
    """of the dataset's files; empty: where `jdd.data.load` looks by itself"""
    cases: tuple[str, ...] = CASES
    """of the benchmark, in this order"""
    peer: str = "torch"
    """what they are compared with; none: nothing"""
    trial: bool = False
    """whether everything is as small as it can be: to see that all parts run"""

    def script(self, name: str, arguments: Sequence[str], clock: Clock) -> Ran:
        """Runs `bin/name.py --json` until it ends or the clock says so."""
        began = time.monotonic()
        if clock():
            return Ran("left", None, 0.0)
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
            outcome = run_as_process(name, [*arguments, "--json"], clock, output, clock.grace)
            output.seek(0)
            lines = output.read().splitlines()
        value = None
        if lines and lines[-1].startswith("{"):
            value = json.loads(lines[-1])
        return Ran(outcome, value, time.monotonic() - began)

    def places(self) -> list[str]:
        """Arguments of scripts that say where data are."""
        return ["--data-dir", self.data_dir] if self.data_dir else []
