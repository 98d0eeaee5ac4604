"""Processes that run as one: what a process that runs alone answers, without starting a device."""

import os
import subprocess
import sys

from jdd import distributed


def test_a_process_alone_is_the_primary_one_and_decides_by_itself():
    assert distributed.is_primary()
    assert not distributed.any_process(False) and distributed.any_process(True)
    assert distributed.broadcast(0.1) == 0.1
    distributed.barrier("nobody else has to come")


def test_a_cluster_that_the_environment_does_not_name_is_said_in_one_line():
    """In a process of its own, as the attempt leaves its marks on JAX."""
    program = (
        "from jdd import distributed; from jdd.errors import UserError\n"
        "try: distributed.connect()\n"
        "except UserError as error: print(error)\n"
    )
    done = run_python(program, JAX_NUM_PROCESSES="2", JAX_PROCESS_ID="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith("`distributed`: ")
    assert "set JAX_COORDINATOR_ADDRESS (host:port)" in done.stdout


def test_writing_and_saying_start_no_device(tmp_path):
    """A process that only starts others leaves the devices to them."""
    program = (
        "import sys; from pathlib import Path; from jdd import checkpoints, files; "
        "from jdd.report.console import say; path = Path(sys.argv[1]); "
        "say('begun'); files.write_json(path, [1]); files.append_line(path, {'a': 1})"
    )
    # Starting one would complain of this platform.
    done = run_python(program, tmp_path / "file.json", JAX_PLATFORMS="none_such")
    assert done.returncode == 0 and done.stderr == "begun\n", done.stderr
    assert (tmp_path / "file.json").read_text() == '[\n  1\n]\n{"a": 1}\n'


def run_python(program, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
