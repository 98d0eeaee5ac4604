"""Progress on standard error: a bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

from jdd.distributed import is_primary
from jdd.errors import Interrupted

LINE_SECONDS = 10.0


def say(text: str) -> None:
    """One line, above a bar that is there; of several processes of a run, the first says it."""
    if not is_primary():
        return
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()


class ProgressBar:
    """A stretch of work of known length."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: tqdm | None = None
        self._said = time.monotonic()

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def at(self, done: int, total: int, text: str = "") -> None:
        """`done` of `total` are done; `text` says how it goes."""
        if not is_primary():
            return
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = tqdm(
                    total=total, initial=done, desc=self._title, leave=False, file=sys.stderr
                )
            self._bar.n = done
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.refresh()
        elif time.monotonic() - self._said > LINE_SECONDS:
            self._said = time.monotonic()
            say(f"  {self._title} {done}/{total} {text}".rstrip())

    def callback(self, should_stop: Callable[[], bool]) -> Callable[[int, int], None]:
        """For work that reports (done, total): shows it, and ends it where it should stop.

        The callable raises `Interrupted` once `should_stop()` is true.
        """

        def progress(done: int, total: int) -> None:
            self.at(done, total)
            if should_stop():
                raise Interrupted

        return progress
