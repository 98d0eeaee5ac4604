"""Runs programs in processes of their own, so that their memory goes when they end."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import jdd
from jdd.report import console

_POLL = 0.2  # seconds


def run_as_process(
    name: str,
    arguments: Sequence[str],
    should_stop: Callable[[], bool],
    output: IO[str] | None = None,
    patience: float = float("inf"),
) -> str:
    """Runs `bin/name.py` with arguments; see `run_program`.

    Args:
      name: of the script, without its ending.
      arguments: its own.
      should_stop, output, patience: as there.
    """
    program = f"import sys; from jdd.cli.{name} import main; sys.exit(main())"
    # -P: no library from the current directory
    words = [sys.executable, "-P", "-c", program, *arguments, *["--quiet"] * console.is_quiet()]
    return run_program(words, should_stop, output, patience)


def run_program(
    words: Sequence[str],
    should_stop: Callable[[], bool],
    output: IO[str] | None = None,
    patience: float = float("inf"),
    environment: Mapping[str, str] | None = None,
) -> str:
    """Runs a program that finds this jdd.

    Args:
      words: its command line.
      should_stop: asked again and again; once it is true the program is told to end.
      output: a file for what it prints; None: that goes to standard error.
      patience: seconds after which one that was told to end is ended.
      environment: variables in addition to this process's own.

    Returns:
      "done", "left" where it was told to end, or "failed".
    """
    root = str(Path(jdd.__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    child = subprocess.Popen(
        words,
        stdout=sys.stderr.fileno() if output is None else output,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(environment or {})},
        start_new_session=True,  # a Ctrl-C reaches it through us, once
    )
    told_at: float | None = None
    try:
        while child.poll() is None:
            if told_at is None and should_stop():
                child.terminate()
                told_at = time.monotonic()
            if told_at is not None and time.monotonic() - told_at > patience:
                child.kill()
            time.sleep(_POLL)
    except KeyboardInterrupt:
        child.kill()
        raise
    if child.returncode == 0:
        return "done"
    return "failed" if told_at is None else "left"
