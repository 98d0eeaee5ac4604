"""`nas.jsonl`: a search's finished trainings, a line each, from which it is resumed."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jdd import files, locks, records
from jdd.errors import Interrupted, UserError
from jdd.runs.directory import differences
from jdd.synthetic import SyntheticSet
from jdd.tasks.nas.settings import NasSettings, Training


class SearchStore:
    """The file: a header that says which search it is of, then its trainings."""

    def __init__(
        self, path: Path, settings: NasSettings, synthetic: SyntheticSet, seed: int
    ) -> None:
        self.path = path
        self._header = {"search": settings.identity(), "set": _digest(synthetic), "seed": seed}

    @contextlib.contextmanager
    def opened(
        self, *, resume: bool, overwrite: bool, wait_until: Callable[[], bool] | None = None
    ) -> Iterator[list[Training]]:
        """Gives the trainings that an earlier command has stored, and is ready to `add` more.

        Args:
          resume: whether there may be some.
          overwrite: whether they are deleted.
          wait_until: see `jdd.locks.locked`.

        Raises:
          UserError: the file holds trainings, and neither is set; or it is of another search, which
            the message says; or another process is writing it. Nothing has been changed then.
          Interrupted: as from within, but says so where nothing is stored yet.
        """
        self._read(resume, overwrite)
        with locks.locked(self.path.parent, wait_until=wait_until):
            # Again, as another process may have been here between the first look and the lock.
            stored = self._read(resume, overwrite)
            if overwrite:
                self.path.unlink(missing_ok=True)
            files.filter_lines(
                self.path, lambda line: line == self._header or _training(line) is not None
            )
            try:
                yield stored
            except Interrupted:
                if self.path.exists():
                    raise
                raise Interrupted("nothing is stored, no training had ended") from None

    def add(self, training: Training) -> None:
        """Stores a training."""
        if not self.path.exists():
            files.append_line(self.path, self._header)
        files.append_line(self.path, training._asdict())

    def _read(self, resume: bool, overwrite: bool) -> list[Training]:
        """The trainings there that may be taken over; a line that was cut off is left out."""
        if overwrite or not self.path.exists():
            return []
        lines = [value for _, value in files.read_lines(self.path)]
        try:
            header = {name: lines[0][name] for name in self._header}
        except (KeyError, IndexError, TypeError):
            raise UserError(
                f"{self.path} is not of a search: `overwrite` it, or choose another `out`"
            ) from None
        if differing := differences(header, self._header):
            raise UserError(
                f"{self.path} is of another search: {'; '.join(differing[:4])}; `overwrite` it, or "
                "choose another `out`"
            )
        if not resume:
            raise UserError(
                f"{self.path} holds {len(lines) - 1} trainings already: add `resume` to resume "
                "from them, `overwrite` to delete existing ones, or choose another `out`"
            )
        return [training for line in lines[1:] if (training := _training(line)) is not None]


def _training(line: Any) -> Training | None:
    """What a line tells of, None where it is damaged."""
    try:
        return records.parse(line, Training, "a line")
    except UserError:
        return None


def _digest(synthetic: SyntheticSet) -> str:
    digest = hashlib.sha256()
    for leaf in (synthetic.images, synthetic.labels):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]
