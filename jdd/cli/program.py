"""What every script's `main` does around its work: signals, errors, exit codes, JSON."""

import contextlib
import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from jdd.cli.parser import in_flags
from jdd.errors import Interrupted, UserError

USER_ERROR = 2
_STANDARD_OUTPUT, _STANDARD_ERROR = 1, 2  # file descriptors
_MENDABLE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO),
)


class Stopper:
    """Turns Ctrl-C or SIGTERM into a request to stop, or stops at once.

    At once, by `KeyboardInterrupt`, as long as nobody has asked whether to stop: until then there
    is nothing to store, and it would be long before somebody does. And where it is the second one.
    """

    def __init__(self, keeps_state: bool = True) -> None:
        self.signal = 0
        self.asked = False
        self._note = "the state will be stored (again: at once, unstored)" if keeps_state else ""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stopper":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Whether to stop; who asks for the first time has changed nothing so far."""
        self.asked = True
        return self.signal != 0

    def words_at_once(self, again: str) -> str:
        """What to say where it stops at once; `again` is the command that resumes."""
        if self._note and not self.asked:
            return "stopped: nothing was begun"
        return "stopped at once" + (
            f": {again} resumes from the last stored state" if again else ""
        )

    def _received(self, number: int, frame: FrameType | None) -> None:
        at_once = self.signal or not self.asked
        self.signal = self.signal or number
        if at_once:
            if _is_importing(frame):  # where an exception takes some libraries' C code down
                print(self.words_at_once(""), file=sys.stderr, flush=True)
                os._exit(128 + self.signal)
            raise KeyboardInterrupt
        text = ", ".join(filter(None, ("stopping after this step", self._note)))
        print(f"\n{text}", file=sys.stderr, flush=True)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def say_error(error: UserError) -> None:
    """The error as one line (a few, where the message has them) on standard error."""
    print(f"error: {in_flags(str(error))}", file=sys.stderr)


def run_script(work: Callable[[Stopper], Any], again: str = "") -> int:
    """Runs a script's work and returns its exit code.

    0: done. 2: something the user can mend, said in one line on standard error. 130 or 143: stopped
    by Ctrl-C or SIGTERM, with the state stored where there is one.

    Args:
      work: given a `Stopper`, which it asks whether to stop.
      again: the command that resumes from the stored state, in words; empty where none is stored.
    """
    with Stopper(keeps_state=bool(again)) as stopper:
        try:
            work(stopper)
            return 0
        except UserError as error:
            say_error(error)
            _end_all_processes()
            return USER_ERROR
        except Interrupted as stop:
            text = f"the state is stored, {again} resumes from it" if again else "nothing is stored"
            print(f"stopped: {str(stop) or text}", file=sys.stderr)
        except KeyboardInterrupt:
            print(stopper.words_at_once(again), file=sys.stderr)
            # An orderly exit would take XLA's threads down in the middle of a step: a crash.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(128 + (stopper.signal or signal.SIGINT))
        except BrokenPipeError:  # the reader of our output went away
            return 1
        except OSError as error:
            if error.errno not in _MENDABLE:
                raise
            say_error(UserError(f"{error.filename or 'a file'}: {error.strerror}"))
            _end_all_processes()
            return USER_ERROR
        finally:
            if (console := sys.modules.get("jdd.report.console")) is not None:
                console.set_quiet(False)  # `--quiet` is of one command
    return 128 + (stopper.signal or signal.SIGINT)


def _end_all_processes() -> None:
    """Ends this one of several that run as one at once: an orderly exit would wait for the others.

    They wait for this one, and end when JAX sees that it is gone.
    """
    jax = sys.modules.get("jax")
    if jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1:
        sys.stderr.flush()
        os._exit(USER_ERROR)


def keep_standard_output() -> None:
    """Keeps standard output for what Python prints; what libraries write there goes to stderr.

    Gloo, which joins processes on CPUs, says so from several threads at once, straight to the file
    descriptor, where its words would stand inside or behind the result. For the process's lifetime;
    where Python prints elsewhere already, that stays.
    """
    with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or no file at all
        if sys.stdout.fileno() != _STANDARD_OUTPUT:
            return
        sys.stdout.flush()
        kept = os.dup(_STANDARD_OUTPUT)
        os.dup2(_STANDARD_ERROR, _STANDARD_OUTPUT)
        sys.stdout = os.fdopen(
            kept, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors, buffering=1
        )


def print_json(value: Any) -> None:
    """A result as one JSON object: the last line of standard output."""
    print(json.dumps(value), flush=True)
