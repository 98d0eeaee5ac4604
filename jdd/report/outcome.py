"""What a task leaves: its result as JSON, its tables as a page, its picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tabulate import tabulate

from jdd import storage
from jdd.errors import UserError
from jdd.report import plots


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
    files = [directory / f"{name}.{kind}" for kind in ("json", "md", "png")]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        storage.write_text(files[1], page.rstrip() + "\n")
        plots.save(files[2], picture)
        storage.write_json(files[0], result)
    except OSError as error:
        raise UserError(
            f"{directory} cannot be written ({error.strerror}): choose another --out"
        ) from None
    return files
