"""Progress on standard error: a bar on a terminal, a line every few seconds elsewhere."""

import functools
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from tqdm import tqdm

from jdd.distributed import is_primary
from jdd.errors import Interrupted

LINE_SECONDS = 10.0
COMPILING_SECONDS = 2.0
"""a program that takes longer to compile is said"""
_COMPILING = "/jax/core/compile/backend_compile_duration"
_is_quiet = False


def is_quiet() -> bool:
    """Whether warnings, errors and results alone are shown."""
    return _is_quiet


def set_quiet(is_quiet: bool) -> None:
    """Whether warnings alone are shown, until it is set again."""
    global _is_quiet
    _is_quiet = is_quiet


def say(text: str) -> None:
    """One line, above a bar that is there; of several processes of a run, the first says it."""
    if not _is_quiet:
        warn(text)


def warn(text: str) -> None:
    """The same for what is to be known even where all else is quiet."""
    if not is_primary():
        return
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()


@functools.cache
def say_compiling() -> None:
    """From now on, says that a program is being compiled where that takes long; how long it took,
    where that was more than from one line of progress to the next."""
    import jax

    timers: dict[int, threading.Timer] = {}  # by thread

    def begins(event: str, value: float, **_: Any) -> None:
        if event == _COMPILING:
            timer = threading.Timer(COMPILING_SECONDS, say, ["  compiling …"])
            timer.daemon = True
            timers[threading.get_ident()] = timer
            timer.start()

    def ends(event: str, duration_secs: float, **_: Any) -> None:
        if event == _COMPILING:
            if timer := timers.pop(threading.get_ident(), None):
                timer.cancel()
            if duration_secs > max(COMPILING_SECONDS, LINE_SECONDS):
                say(f"  compiled in {duration(duration_secs)}")

    jax.monitoring.register_scalar_listener(begins)
    jax.monitoring.register_event_duration_secs_listener(ends)


def duration(seconds: float) -> str:
    """Such as "5 s", "12.3 min" or "3.1 hours"."""
    for unit, length in (("days", 86400), ("hours", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.0f} s"


class ProgressBar:
    """A stretch of work of known length."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: tqdm | None = None
        self._printed_at = time.monotonic()
        self._first: tuple[int, float] | None = None  # what was done when work was first heard of
        self._last = 0

    def __enter__(self) -> "ProgressBar":
        say_compiling()
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
        if _is_quiet or not is_primary():
            return
        now = time.monotonic()
        if self._first is None or done < self._last:  # another stretch of work begins
            self._first = (done, now)
            if self._bar is not None:
                self._bar.reset(total)
        self._last = done
        if sys.stderr.isatty():
            if self._bar is None:
                self._bar = tqdm(
                    total=total, initial=done, desc=self._title, leave=False, file=sys.stderr
                )
            self._bar.n = done
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.refresh()
        elif now - self._printed_at > LINE_SECONDS:
            self._printed_at = now
            say("  " + ", ".join(filter(None, [self._rate(done, total, now), text])))

    def _rate(self, done: int, total: int, now: float) -> str:
        """Such as "updates 40/600, 0.12 s each, 67 s left"; a first step has no rate yet."""
        first, since = self._first or (done, now)
        words = f"{self._title} {done}/{total}"
        if done <= first:
            return words
        each = (now - since) / (done - first)
        return f"{words}, {each:.3g} s each, {duration(each * (total - done))} left"

    def callback(
        self, should_stop: Callable[[], bool], text: str = ""
    ) -> Callable[[int, int], None]:
        """For work that reports (done, total): shows it with a text, and ends it where it should
        stop.

        The callable raises `Interrupted` once `should_stop()` is true.
        """

        def progress(done: int, total: int) -> None:
            self.at(done, total, text)
            if should_stop():
                raise Interrupted

        return progress
