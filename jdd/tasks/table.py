"""The table of all methods: which runs there are, and how they are made one after another."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jdd import files
from jdd.data import check_name
from jdd.errors import UserError, unknown_value
from jdd.methods import registry
from jdd.runs.result import RunResult
from jdd.tasks.processes import run_as_process

DRAWS = 5
"""of random real images: which are drawn matters more than which network"""
SEEDS = 3
"""of a method whose first run takes less than `FAST`"""
FAST = 600.0  # seconds
FOR_ACCELERATORS = {("cifar10", 10): frozenset({"datm", "pad"})}
"""Cells that two cores take many hours for."""


class Cell(NamedTuple):
    """One run of the table."""

    dataset: str
    method: str
    ipc: int
    seed: int
    preset: str = "quick"

    @property
    def place(self) -> Path:
        """Its directory, below that of the whole table."""
        preset = f"-{self.preset}" if self.preset != "quick" else ""
        return Path(self.dataset) / f"{self.method}-ipc{self.ipc}{preset}-seed{self.seed}"


def cells(
    datasets: Sequence[str],
    methods: Sequence[str],
    counts: Sequence[int],
    seeds: int = SEEDS,
    preset: str = "quick",
) -> list[Cell]:
    """The runs in order: seed 0 and all random draws of everything, then the further seeds.

    Args:
      datasets: their names.
      methods: their names.
      counts: of images per class.
      seeds: of each method but `random`.
      preset: of all runs.

    Raises:
      UserError: an unknown dataset or method.
    """
    for dataset in datasets:
        check_name(dataset)
    for method in methods:
        if method not in registry.METHODS:
            raise unknown_value("methods", method, registry.METHODS)

    def of(seed: int) -> Iterator[Cell]:
        for dataset in datasets:
            for ipc in counts:
                for method in methods:
                    draws = range(DRAWS) if method == "random" and seed == 0 else [seed]
                    if method != "random" or seed == 0:
                        yield from (Cell(dataset, method, ipc, draw, preset) for draw in draws)

    return [cell for seed in range(seeds) for cell in of(seed)]


def is_for_accelerators(cell: Cell) -> bool:
    """Whether two cores would take many hours."""
    return cell.method in FOR_ACCELERATORS.get((cell.dataset, cell.ipc), ())


def arguments(cell: Cell, preset: str) -> list[str]:
    """Of `distill.py`, but for where things are."""
    words = ["--method", cell.method, "--dataset", cell.dataset, "--ipc", str(cell.ipc)]
    words += ["--seed", str(cell.seed), "--preset", preset, "--eval-plain"]
    if cell.method == "random":
        words.append("--no-eval-random")  # it is that itself
        if cell.seed == 0:
            return words  # and says what all real images give
    return [*words, "--full-data-epochs", "0"]


def expected(results: Sequence[RunResult], preset: str) -> dict[tuple[str, str, int], float]:
    """(dataset, method, images per class) → seconds of the longest run of the preset."""
    seconds: dict[tuple[str, str, int], float] = {}
    for result in results:
        if result.preset == preset and result.init == "real":
            key = (result.dataset, result.method, result.ipc)
            seconds[key] = max(seconds.get(key, 0.0), _took(result))
    return seconds


def run_all(
    wanted: Sequence[Cell],
    out: Path,
    keep: Path,
    preset: str,
    places: Sequence[str],
    should_stop: Callable[[], bool],
    say: Callable[[str], None],
) -> list[str]:
    """Makes the runs one after another, each in a process of its own.

    Args:
      wanted: from `cells`.
      out: where the runs are; those that are finished are not made again.
      keep: where a copy of each `result.json` goes.
      preset: of all runs.
      places: arguments of `distill.py` that say where data are.
      should_stop: asked again and again; once it is true the run at work is told to end.
      say: told which run begins.

    Returns:
      For each run "done", "left", "slow" (a further seed of a method that takes `FAST` or longer)
      or "failed".
    """
    outcomes = []
    for position, cell in enumerate(wanted, start=1):
        title = f"[{position}/{len(wanted)}] {cell.place}"
        first = cell._replace(seed=0)
        if cell.seed and cell.method != "random":
            seconds = _seconds(out / first.place)
            if seconds is None or seconds >= FAST:
                outcomes.append("left" if seconds is None else "slow")
                continue
        outcome = "left"
        if not should_stop():
            say(title)
            words = [*arguments(cell, preset), "--out", str(out / cell.place), "--resume", *places]
            outcome = run_as_process("distill", words, should_stop)
        if outcome == "done":
            result = RunResult.load(out / cell.place / "result.json")
            (keep / cell.place).mkdir(parents=True, exist_ok=True)
            files.write_json(keep / cell.place / "result.json", {**result.to_json(), "out": ""})
        outcomes.append(outcome)
    return outcomes


def _seconds(run: Path) -> float | None:
    """That a finished run took; None where it is not finished."""
    try:
        return _took(RunResult.load(run / "result.json"))
    except UserError:
        return None


def _took(result: RunResult) -> float:
    """Seconds; a run that was resumed has those of its last command alone."""
    return max(result.seconds, 60 * result.minutes)
