"""Do methods need real images to start from? Each is run from real images and from noise."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jdd.data import Traits
from jdd.errors import SettingError, unknown_value
from jdd.methods import registry
from jdd.runs import RunResult, RunSettings, Selection, build, run

STARTS = ("real", "noise")
Key = tuple[str, str]
"""a method and what it starts from"""


def methods_of(names: Sequence[str]) -> list[str]:
    """The methods asked for, "all" being every one that makes images.

    Raises:
      UserError: one is not known, or chooses real images, whatever the start.
    """
    if list(names) == ["all"]:
        return [name for name in registry.METHODS if not registry.entry(name).is_coreset]
    for name in names:
        if name not in registry.METHODS:
            raise unknown_value("methods", name, ["all", *registry.METHODS])
        if registry.entry(name).is_coreset:
            raise SettingError("methods", name, "it chooses real images, whatever the start")
    return list(names)


def plan(
    methods: Sequence[str],
    selection: Selection,
    overrides: Mapping[str, Any],
    traits: Traits | None = None,
) -> dict[Key, RunSettings]:
    """The runs, in order.

    Args:
      methods: see `methods_of`.
      selection: what is distilled; its method and init are not read.
      overrides: settings of all runs.
      traits: of a dataset of the user's; see `jdd.runs.build`.

    Raises:
      UserError: a name that is not known, or a value out of range.
    """
    runs = {}
    for method in methods:
        of_method = selection._replace(method=method)
        for init in STARTS:
            runs[method, init] = build(of_method._replace(init=init), overrides, traits)
    return runs


def directory_of(key: Key, out: Path) -> Path:
    """Where a run is."""
    return out / "-".join(key)


def run_all(
    runs: Mapping[Key, RunSettings],
    out: Path,
    data_dir: str | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    wait: bool = False,
    command: Callable[[RunSettings], str] = lambda settings: "",
) -> dict[Key, RunResult]:
    """Makes the runs, each in its directory below `out`; a finished one is not made again.

    Args:
      runs, out: by method and start, and where they go.
      data_dir, should_stop, wait: see `jdd.runs.run`.
      command: of a run's settings, what makes it again by itself; kept in its result.

    Raises:
      UserError, Interrupted: as `jdd.runs.run` does; the same call resumes.
    """
    return {
        key: run(
            settings,
            directory_of(key, out),
            data_dir=data_dir,
            resume=True,
            wait=wait,
            should_stop=should_stop,
            command=command(settings),
        )
        for key, settings in runs.items()
    }


def summary(results: Mapping[Key, RunResult], out: Path) -> dict[str, dict[str, Any]]:
    """By method and start, as plain JSON: the accuracy of the run's best set, and what it took."""
    methods: dict[str, dict[str, Any]] = {}
    for (method, init), result in results.items():
        accuracy = result.best.accuracy
        methods.setdefault(method, {})[init] = {
            "mean": accuracy.mean,
            "std": accuracy.std,
            "accuracies": list(accuracy.values),
            "best_iteration": result.best.iteration,
            "iterations": result.iterations,
            "seconds": result.seconds,
            "set": str(directory_of((method, init), out)),
        }
    return methods
