"""Compiled programs are kept from one command to the next."""

import os
import shlex
import subprocess
import sys

import pytest

from tests.cli.running import ROOT

SMALL = shlex.split(
    "--method dm --dataset digits --preset quick --width 8 --iterations 1 --eval-every 1 "
    "--eval-epochs 1 --eval-networks 1 --full-data-epochs 0 --no-eval-random --overwrite"
)


def programs(tmp_path, *arguments):
    """What lies in the store after the command."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "JDD_"))}
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


@pytest.mark.slow
def test_a_second_command_compiles_nothing_anew(tmp_path):
    first = programs(tmp_path)
    assert len(first) > 10
    assert programs(tmp_path) == first


def test_a_program_that_was_cut_off_goes_before_jax_starts(tmp_path):
    """JAX could add no program next to one whose time of use is missing."""
    kept = tmp_path / "jdd" / "compiled"
    kept.mkdir(parents=True)
    for name in ("jit_f-0-cache", "jit_g-1-cache", "jit_g-1-atime"):
        (kept / name).write_bytes(b"a program, or half of one")
    others = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "JDD_"))}
    subprocess.run(
        [sys.executable, "-c", "from jdd.cli.platform import tune_xla; tune_xla()"],
        env={**others, "XDG_CACHE_HOME": str(tmp_path)},
        cwd=ROOT,
        check=True,
    )
    assert {path.name for path in kept.iterdir()} == {"jit_g-1-cache", "jit_g-1-atime"}


@pytest.mark.slow
def test_a_flag_turns_it_off(tmp_path):
    assert not programs(tmp_path, "--no-compilation-cache")
    assert not (tmp_path / "jdd").exists()


def test_what_libraries_write_to_standard_output_goes_to_standard_error():
    program = (
        "import os, sys\n"
        "from jdd.cli.program import keep_standard_output\n"
        "print('before'); keep_standard_output(); os.write(1, b'[Gloo] connected\\n')\n"
        "print('{}'); keep_standard_output(); print('{}')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("before\n{}\n{}\n", "[Gloo] connected\n")
