"""What one damaged input comes to: read as it should be, refused in one line, or a fault."""

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jdd.errors import UserError
from tests.fuzz.reader import Reader

SECONDS = 2.0  # of CPU time, for one input
BYTES = 512 * 2**20  # of memory, beyond what the process has before
_LONGEST = 700  # letters of a message; paths of a test are long


class Fault(AssertionError):
    """A reader did something else than to read or to refuse."""


def attempt(reader: Reader, place: Path, original: Any) -> str:
    """Reads what lies in `place`; "read" or "refused".

    Raises:
      Fault: another exception, a message of several lines, an input read as something that it is
        not, or too much time; within `limited`, too much memory is a `MemoryError`, which is one.
    """
    began = time.perf_counter()
    outcome = _attempt(reader, place, original)
    if time.perf_counter() - began > SECONDS:  # others may have had the processor
        began = time.process_time()
        _attempt(reader, place, original)
        if (seconds := time.process_time() - began) > SECONDS:
            raise Fault(f"{seconds:.1f} s")
    return outcome


def _attempt(reader: Reader, place: Path, original: Any) -> str:
    try:
        value = reader.read(place)
    except UserError as error:
        message = str(error)
        if not message or len(message) > _LONGEST or not message.isprintable():
            raise Fault(f"a message that is not one line: {message!r:.900}") from error
        return "refused"
    except (Exception, MemoryError) as error:
        raise Fault(f"{type(error).__name__}: {error}") from error
    if reader.is_exact and value is not None and repr(value) != repr(original):
        raise Fault("read as something else, unnoticed")
    return "read"


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """No more than `BYTES` of memory on top of what there is."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGESIZE") + BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
