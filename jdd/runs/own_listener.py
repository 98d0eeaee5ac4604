"""A listener from a user's own file, whose errors are told as the user's."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jdd import plugins
from jdd.errors import UserError, shortened
from jdd.events import Listener, Outcome, Saved
from jdd.synthetic import SyntheticSet

if TYPE_CHECKING:
    from jdd.runs.settings import RunSettings
    from jdd.runs.updating import MakeListener


def from_file(path: str) -> "MakeListener":
    """What makes the listener that a file's `listener(settings, out)` returns.

    Raises:
      UserError: there is no such file, it raises, or defines no `listener`; when it is called,
        what comes is no `Listener`; and, from the listener itself, whatever it raises, with the
        line of the file.
    """
    make = plugins.function(path, "listener")

    def made(settings: "RunSettings", out: Path) -> Listener:
        with plugins.code_of(path):
            listener = make(settings, out)
        if not isinstance(listener, Listener):
            raise UserError(
                f"`listener`: {path}: its listener(settings, out) returned {shortened(listener)}, "
                "no jdd.distillation.Listener"
            )
        return _OwnListener(listener, path)

    return made


class _OwnListener(Listener):
    """Tells another listener, and says in which file it failed."""

    def __init__(self, inner: Listener, path: str) -> None:
        self._inner = inner
        self._path = path

    def restore(self, like: Any) -> Saved | None:
        with plugins.code_of(self._path):
            return self._inner.restore(like)

    def began(self, iteration: int, iterations: int) -> None:
        with plugins.code_of(self._path):
            self._inner.began(iteration, iterations)

    def updated(self, iteration: int, iterations: int, rows: list[dict[str, float]]) -> None:
        with plugins.code_of(self._path):
            self._inner.updated(iteration, iterations, rows)

    def evaluated(
        self, iteration: int, synthetic: SyntheticSet, accuracy: float, is_best: bool
    ) -> None:
        with plugins.code_of(self._path):
            self._inner.evaluated(iteration, synthetic, accuracy, is_best)

    def save(self, state: Saved) -> None:
        with plugins.code_of(self._path):
            self._inner.save(state)

    def ended(self, outcome: Outcome | None) -> None:
        with plugins.code_of(self._path):
            self._inner.ended(outcome)
