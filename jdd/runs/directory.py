"""A run's directory: whose it is, whether this run may write there, and what it writes."""

import contextlib
import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jdd import checkpoints, distributed, files, records
from jdd.data import fingerprint
from jdd.distillation import Listener, Outcome, Progress, Saved
from jdd.errors import UserError, shortened
from jdd.runs.result import RunResult
from jdd.synthetic import SyntheticSet

LAST = "last"  # the folder of the last set, where the best is in the run's own

# In the order they are taken away: what says that the rest is a run's comes last.
ENTRIES = (
    *("synthetic", LAST, "state", "metrics.jsonl", "images", "tasks", "result.json", "report.html"),
    *("tensorboard", "settings.json"),
)


def check(
    directory: Path,
    settings: Mapping[str, Any],
    *,
    resume: bool,
    overwrite: bool,
    fixed: Collection[str] = (),
) -> RunResult | None:
    """Whether this run may write into the directory; changes nothing.

    Args:
      directory: the run's.
      settings: as `settings.json` is to hold them.
      resume: the run there may be this one, begun before.
      overwrite: a run there may be replaced.
      fixed: settings that this run's method does not let change as it is resumed, where others do.

    Returns:
      The result of the same run, where it has been finished and `resume` is set; else None.

    Raises:
      UserError: it holds a run and neither `resume` nor `overwrite` is set; or `resume` is and the
        run there differs, which the message says; or what is there is no run's.
    """
    files.check_path(directory)
    if directory.exists() and not directory.is_dir():
        raise UserError(f"`out` {directory}: it is a file, name a directory")
    if (directory / "store.json").exists():
        raise UserError(f"`out` {directory}: it holds experts, name another directory")
    place = directory.resolve()
    for parent in place.parents:
        part = place.relative_to(parent).parts[0]
        if part in ENTRIES and (parent / "settings.json").is_file():
            raise UserError(
                f"`out` {directory}: it lies in {part} of the run in {parent}, which replaces "
                "that: name another directory"
            )
    present = [name for name in ENTRIES if (directory / name).exists()]
    if not present:
        return None
    if "settings.json" not in present:
        raise UserError(
            f"{directory} holds {', '.join(present)} but no settings.json of a run: choose another "
            "`out`, or move them away"
        )
    stored = read_settings(directory / "settings.json")
    if overwrite:
        return None
    if not resume:
        raise UserError(
            f"{directory} holds a run already: add `resume` to resume it, `overwrite` to replace "
            "it, or choose another `out`"
        )
    if "version" not in stored:
        raise UserError(
            f"{directory} holds a run of jdd 0.1, which can be evaluated and exported but not "
            "resumed: choose another `out`, or `overwrite` it"
        )
    differing = differences(stored, settings, _FREE - set(fixed))
    if differing:
        raise UserError(
            f"{directory} holds another run: {'; '.join(differing[:4])}"
            f"{' …' if len(differing) > 4 else ''}; give the same settings, or choose another `out`"
        )
    wanted = settings["method_settings"].get("iterations", 0)
    if "result.json" in present:
        result = RunResult.load(directory / "result.json")
        if result.iterations == wanted:
            return result
        if result.iterations > wanted:
            raise UserError(
                f"{directory} holds this run with {result.iterations} iterations already: "
                "choose another `out` for fewer"
            )
    states = checkpoints.StateCheckpoints(directory / "state").iterations()
    if states and states[-1] > wanted:
        raise UserError(
            f"{directory} has come to iteration {states[-1]} already: choose another `out` for "
            f"{wanted}"
        )
    return None


def claim(directory: Path, settings: Mapping[str, Any], *, overwrite: bool) -> None:
    """Makes a directory that `check` has passed this run's."""
    distributed.barrier(f"checked {directory}")
    if distributed.is_primary():
        if overwrite:
            with files.atomic_replace(directory / "settings.json") as trial:  # before any is lost
                trial.write_text(json.dumps(settings), encoding="utf-8")
            remove(directory)
        files.write_json(directory / "settings.json", settings)
    distributed.barrier(f"claimed {directory}")


def forget_result(directory: Path) -> None:
    """Takes away what speaks of the set that lies there, as that one is about to change."""
    if distributed.is_primary():
        (directory / "result.json").unlink(missing_ok=True)
        shutil.rmtree(directory / "tasks", ignore_errors=True)


def remove(directory: Path) -> None:
    """Takes what runs write out of the directory, and nothing else."""
    for name in ENTRIES:
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


_FREE = {"iterations", "version", "command", "places"}


def differences(
    stored: Mapping[str, Any], asked: Mapping[str, Any], free: Collection[str] = _FREE
) -> list[str]:
    """In words, where two runs' settings differ; more iterations, another jdd or place do not."""
    result = []
    for name in sorted({*stored, *asked} - set(free)):
        before, after = stored.get(name), asked.get(name)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            result += differences(before, after, free)
        elif name == "plugins":
            kept = [{plugin["sha256"] for plugin in each or ()} for each in (before, after)]
            if kept[0] != kept[1]:
                result.append("the plugins, or what is in them, differ")
        elif name == "fingerprint":
            result += fingerprint.differences(str(before or ""), str(after or ""))
        elif before != after:
            called = name if name == "set" else f"`{name}`"  # a search has no flag for its set
            if not name.isidentifier() or len(name) > 40:  # of a damaged file
                called = shortened(name)
            result.append(f"{called} is {shortened(before)} there, {shortened(after)} here")
    return result


class RunFiles(Listener):
    """Keeps a run in its directory.

    `state/` to resume from, `synthetic/` (the set that is best on the validation split so far) and
    `metrics.jsonl`. What is told to it is also told to another listener, which shows it.
    """

    def __init__(self, directory: Path, listener: Listener | None = None) -> None:
        self._directory, self._listener = directory, listener or Listener()
        self._states = checkpoints.StateCheckpoints(directory / "state")
        self._lines = directory / "metrics.jsonl"
        self._began = False

    def restore(self, like: Any) -> Saved | None:
        """The newest state that is whole; lines and set are brought back to it."""
        newest = self._states.newest(like)
        iteration = -1
        saved = None
        if newest is not None:
            arrays, header = newest
            iteration, progress = records.parse(header, _StateHeader, self._states.directory)[:2]
            saved = Saved(iteration, arrays, progress)
            arrays[2].save(self._directory)  # what is there may be newer than the state, or damaged
        evaluated = -1 if saved is None else saved.progress.evaluated

        def is_of_state(line: Any) -> bool:
            last = evaluated if "validation_accuracy" in line else iteration
            return bool(line["iteration"] <= last)

        files.filter_lines(self._lines, is_of_state)
        self._began = self._lines.exists()
        return saved

    def began(self, iteration: int, iterations: int) -> None:
        """Passes it on."""
        self._listener.began(iteration, iterations)

    def updated(self, iteration: int, iterations: int, rows: list[dict[str, float]]) -> None:
        """Adds a line for each update."""
        self._check_there()
        for i, row in enumerate(rows):
            number = iteration - len(rows) + i + 1
            files.append_line(self._lines, {**row, "iteration": number})
        self._listener.updated(iteration, iterations, rows)

    def evaluated(
        self, iteration: int, synthetic: SyntheticSet, accuracy: float, is_best: bool
    ) -> None:
        """Stores the best set, and adds a line."""
        self._check_there()
        if is_best:
            synthetic.save(self._directory, self._forget_result)
        line = {"iteration": iteration, "validation_accuracy": accuracy}
        files.append_line(self._lines, line)
        self._listener.evaluated(iteration, synthetic, accuracy, is_best)

    def save(self, state: Saved) -> None:
        """Stores the state."""
        self._check_there()
        header = {"progress": state.progress._asdict()}
        self._states.save(state.iteration, state.arrays, header)
        self._listener.save(state)

    def ended(self, outcome: Outcome | None) -> None:
        """Passes it on."""
        self._listener.ended(outcome)

    def _check_there(self) -> None:
        """Raises `UserError` where the directory went away; writing on would make half of one."""
        if distributed.is_primary() and self._began and not self._lines.exists():
            raise UserError(f"{self._directory} has gone: another process moved or removed it")
        self._began = self._began or self._lines.exists()

    def _forget_result(self) -> None:
        """Before the set that it speaks of changes."""
        forget_result(self._directory)


class _StateHeader(NamedTuple):
    """What is written on a state."""

    iteration: int
    progress: Progress
    format_version: int


class _Marks(NamedTuple):
    """What every `settings.json` has that this module reads by name; the rest is compared."""

    method_settings: Mapping[str, Any]
    plugins: tuple[Mapping[str, str], ...] = ()
    version: str = ""


def data_dir_of(place: Path) -> str | None:
    """Where the data were of the run in `place`, or of its set there; None: that is not known."""
    for run in (place, place.parent):
        with contextlib.suppress(UserError):
            places = read_settings(run / "settings.json").get("places")
            data_dir = places.get("data_dir") if isinstance(places, Mapping) else None
            if isinstance(data_dir, str) and Path(data_dir).is_dir():
                return data_dir
    return None


def read_settings(path: Path) -> Mapping[str, Any]:
    """A run's `settings.json`; raises `UserError` where it is damaged, or not a run's."""
    value = files.read_json(path)
    if not isinstance(value, Mapping) or "method_settings" not in value:
        raise UserError(f"{path} is not a run's: choose another `out`, or move it away")
    marks = {name: value[name] for name in _Marks._fields if name in value}
    records.parse(marks, _Marks, path)
    if not all("sha256" in plugin for plugin in marks.get("plugins", ())):
        raise UserError(f"{path} is damaged: a plugin has no 'sha256'")
    return value
