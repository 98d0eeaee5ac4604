"""Finished sets that are kept in the repository, by name."""

import difflib
import re
from pathlib import Path

from jdd import data
from jdd.errors import UserError

SETS = Path(__file__).resolve().parents[2] / "checkpoints" / "sets"
_NAME = re.compile(r"([a-z0-9_]+)/([a-z0-9_-]+)")


def names() -> tuple[str, ...]:
    """Such as `mnist/dm-ipc1`; none in a jdd that was installed from a wheel."""
    folders = (path.parent for path in SETS.glob("*/*/synthetic"))
    return tuple(sorted(f"{path.parent.name}/{path.name}" for path in folders))


def resolve(path: str | Path) -> Path:
    """The directory that a ready set's name stands for; any other path as it is.

    Raises:
      UserError: it is a name by its form, and there is no such set.
    """
    path = Path(path)
    if path.name == "last" and str(path.parent) in names() and not path.exists():
        raise UserError(f"{path}: a ready set has its best alone, not its last")
    name = re.fullmatch(_NAME, str(path))
    if name is None or path.exists() or not _dataset(name[1]):
        return path
    if not SETS.is_dir():
        raise UserError(
            f"{path}: no such directory, and a jdd installed from a wheel has no ready sets: they "
            "are in checkpoints/sets/ of its repository"
        )
    if str(path) not in names():
        first, *more = nearest(str(path))
        raise UserError(
            f"{path}: no such directory, and no ready set: did you mean '{first}'? others near are "
            f"{', '.join(more)}; docs/index.md lists all"
        )
    return SETS / str(path)


def nearest(name: str) -> list[str]:
    """The three ready sets nearest to a name: of its dataset first, of these of its method."""
    dataset, _, rest = name.partition("/")
    begins = f"{_dataset(dataset)}/"
    method = begins + rest.partition("-")[0] + "-"
    near = difflib.get_close_matches(begins + rest, names(), n=len(names()), cutoff=0.0)
    ranked = sorted(near, key=lambda each: (not each.startswith(begins), method not in each))
    return ranked[:3]


def _dataset(name: str) -> str:
    """The dataset that a name is of, or nearly; empty where it is near to none."""
    return next(iter(difflib.get_close_matches(name, data.names(), n=1, cutoff=0.75)), "")
