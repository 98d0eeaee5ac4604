"""Finished sets that are kept in the repository, by name."""

import re
from pathlib import Path

from jdd import data
from jdd.errors import UserError, nearest

SETS = Path(__file__).resolve().parents[2] / "checkpoints" / "sets"
_NAME = re.compile(r"([a-z0-9_]+)/([a-z0-9_-]+)")


def names() -> tuple[str, ...]:
    """Such as `mnist/dm-ipc1`; none in a jdd that was installed from a wheel."""
    found = (path.parent for path in SETS.glob("*/*/synthetic"))
    return tuple(sorted(f"{path.parent.name}/{path.name}" for path in found))


def resolve(path: str | Path) -> Path:
    """The directory that a ready set's name stands for; any other path as it is.

    Raises:
      UserError: it is a name by its form, and there is no such set.
    """
    name = re.fullmatch(_NAME, str(path))
    if name is None or Path(path).exists() or name[1] not in data.names():
        return Path(path)
    if not SETS.is_dir():
        raise UserError(
            f"{path}: no such directory, and a jdd installed from a wheel has no ready sets: they "
            "are in checkpoints/sets/ of its repository"
        )
    if str(path) not in names():
        raise UserError(
            f"{path}: no such directory, and no ready set: {nearest(str(path), names())}"
        )
    return SETS / str(path)
