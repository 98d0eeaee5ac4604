"""What a task leaves: its result as JSON, its tables as a page, its picture."""

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tabulate import tabulate

import jdd
from jdd import files
from jdd.errors import SettingError
from jdd.report import plots
from jdd.synthetic import SetInfo


def stamp(task: str, info: SetInfo | None = None) -> dict[str, Any]:
    """What a task's result begins with: its name, version and date, and which set it is about."""
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    value: dict[str, Any] = {"task": task, "version": jdd.__version__, "date": date}
    if info is not None:
        value |= {"dataset": info.dataset, "method": info.method, "ipc": info.ipc}
    return value


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table, which is readable in a terminal too; numbers and words are taken as they
    are.
    """
    return str(tabulate(rows, headers=head, tablefmt="github", disable_numparse=True))


def percent(mean: float, std: float | None = None) -> str:
    """A fraction of 1 as "98.3 ± 0.2"."""
    return f"{100 * mean:.1f}" + (f" ± {100 * std:.1f}" if std is not None else "")


def save(
    directory: Path, name: str, result: Mapping[str, Any], page: str, picture: Figure
) -> list[Path]:
    """Writes `name`.md, `name`.png and, last, `name`.json; those there are replaced.

    Returns:
      The three files, the JSON first.

    Raises:
      UserError: the place cannot be written.
    """
    paths = [directory / f"{name}.{kind}" for kind in ("json", "md", "png")]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        files.write_text(paths[1], page.rstrip() + "\n")
        plots.save(paths[2], picture)
        files.write_json(paths[0], result)
    except OSError as error:
        raise SettingError(
            "out", directory, f"it cannot be written ({error.strerror}), name another directory"
        ) from None
    return paths
