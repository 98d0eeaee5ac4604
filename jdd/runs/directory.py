"""A run's directory: whose it is, and whether this run may write there."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jdd import storage
from jdd.errors import UserError

# In the order they are taken away: what says that the rest is a run's comes last.
ENTRIES = (
    *("synthetic", "state", "metrics.jsonl", "images", "tasks", "result.json"),
    "settings.json",
)


def check(
    directory: Path, settings: Mapping[str, Any], *, resume: bool, overwrite: bool
) -> dict[str, Any] | None:
    """Whether this run may write into the directory; changes nothing.

    Returns:
      The result of the same run, where it has been finished and `resume` is set; else None.

    Raises:
      UserError: it holds a run and neither `resume` nor `overwrite` is set; or `resume` is and the
        run there is another one, which the message tells apart; or what is there is no run's.
    """
    there = [name for name in ENTRIES if (directory / name).exists()]
    if not there:
        return None
    if "settings.json" not in there:
        raise UserError(
            f"{directory} holds {', '.join(there)} but no settings.json of a run: choose another "
            "--out, or move them away"
        )
    if overwrite:
        _read(directory / "settings.json", "method_settings")
        return None
    if not resume:
        raise UserError(
            f"{directory} holds a run already: add --resume to go on with it, --overwrite to "
            "replace it, or choose another --out"
        )
    stored = _read(directory / "settings.json", "method_settings")
    found = differences(stored, settings)
    if found:
        raise UserError(
            f"{directory} holds another run: {'; '.join(found[:4])}"
            f"{' …' if len(found) > 4 else ''}; choose another --out, or --overwrite it"
        )
    if "result.json" in there:
        result = _read(directory / "result.json", "iterations")
        wanted = settings["method_settings"].get("iterations", 0)
        if result["iterations"] == wanted:
            return dict(result)
        if result["iterations"] > wanted:
            raise UserError(
                f"{directory} holds this run with {result['iterations']} iterations already: "
                "choose another --out for fewer"
            )
    return None


def claim(directory: Path, settings: Mapping[str, Any], *, overwrite: bool) -> None:
    """Makes a directory that `check` has passed this run's."""
    storage.wait_for_all(f"checked {directory}")
    if storage.writes():
        if overwrite:
            remove(directory)
        # A result speaks of the set that lies there, and that one is about to change.
        (directory / "result.json").unlink(missing_ok=True)
        shutil.rmtree(directory / "tasks", ignore_errors=True)
        storage.write_json(directory / "settings.json", settings)
    storage.wait_for_all(f"claimed {directory}")


def remove(directory: Path) -> None:
    """Takes what runs write out of the directory, and nothing else."""
    for name in ENTRIES:
        path = directory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def differences(stored: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """In words, where two runs' settings differ; more iterations are no difference."""
    a, b = _flat(stored), _flat(asked)
    return [
        f"{name} is {a.get(name)} there, {b.get(name)} here"
        for name in sorted({*a, *b})
        if a.get(name) != b.get(name) and name != "iterations"
    ]


def _read(path: Path, needed: str) -> Mapping[str, Any]:
    value = storage.read_json(path)
    if not isinstance(value, Mapping) or needed not in value:
        raise UserError(f"{path} is not a run's: choose another --out, or move it away")
    return value


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found.update(_flat(value) if isinstance(value, Mapping) else {name: value})
    return found
