"""Compiled programs are kept from one command to the next."""

import os
import shlex
import subprocess
import sys

from tests.cli.running import ROOT

SMALL = shlex.split(
    "--method dm --dataset digits --preset quick --width 8 --iterations 1 --eval-every 1 "
    "--eval-epochs 1 --eval-networks 1 --whole-epochs 0 --no-eval-random --overwrite"
)


def programs(tmp_path, *arguments):
    """What lies in the store after the command."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    subprocess.run(
        [
            sys.executable,
            ROOT / "bin" / "distill.py",
            *SMALL,
            "--out",
            tmp_path / "run",
            *arguments,
        ],
        env={**kept, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        check=True,
    )
    return {path.name for path in (tmp_path / "jdd" / "compiled").glob("*-cache")}


def test_a_second_command_compiles_nothing_anew(tmp_path):
    first = programs(tmp_path)
    assert len(first) > 10
    assert programs(tmp_path) == first


def test_a_program_that_was_cut_off_does_not_keep_others_out(tmp_path):
    kept = tmp_path / "jdd" / "compiled"
    kept.mkdir(parents=True)
    (kept / "jit_f-0-cache").write_bytes(b"half a program")
    there = programs(tmp_path)
    assert "jit_f-0-cache" not in there and len(there) > 10


def test_a_flag_turns_it_off(tmp_path):
    assert not programs(tmp_path, "--no-compilation-cache")
    assert not (tmp_path / "jdd").exists()
