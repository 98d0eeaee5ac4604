"""Runs a script of jdd in a process of its own, so that its memory goes when it ends."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jdd

_POLL = 0.2  # seconds


def run_as_process(name: str, arguments: Sequence[str], should_stop: Callable[[], bool]) -> str:
    """Runs `bin/name.py` with arguments; what it prints goes to standard error.

    Args:
      name: of the script, without its ending.
      arguments: its own.
      should_stop: asked again and again; once it is true the script is told to end.

    Returns:
      "done", "left" where it was told to end, or "failed".
    """
    program = f"import sys; from jdd.cli.{name} import main; sys.exit(main())"
    root = str(Path(jdd.__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", program, *arguments],  # no library from the current directory
        stdout=sys.stderr.fileno(),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,  # a Ctrl-C reaches it through us, once
    )
    is_told = False
    try:
        while child.poll() is None:
            if not is_told and should_stop():
                child.terminate()
                is_told = True
            time.sleep(_POLL)
    except KeyboardInterrupt:
        child.kill()
        raise
    if child.returncode == 0:
        return "done"
    return "left" if is_told else "failed"
