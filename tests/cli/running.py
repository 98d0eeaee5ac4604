"""Runs the scripts: in this process where that will do, in one of their own for signals."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
OLD_RUN = ROOT / "tests" / "fixtures" / "run-0.1"  # MTT on the digits, made by jdd 0.1.0

# A whole run on real digits in a second or two; experts and updates enough to be interrupted.
SMALL = shlex.split(
    "--method mtt --dataset digits --preset quick --width 8 --num-experts 1 --train-epochs 40 "
    "--iterations 40 --syn-steps 5 --max-start-epoch 4 --eval-every 20 --eval-epochs 20 "
    "--eval-networks 2 --full-data-epochs 1"
)

PROMISED = {
    *("method", "dataset", "ipc", "seed", "iterations", "resumed_from", "devices"),
    *("accuracy_mean", "accuracy_std", "accuracies", "seconds"),
}


def call(main, capfd, *arguments):
    """Exit code, last line of standard output as JSON (None where there is none), error lines."""
    capfd.readouterr()
    code = main([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    lines = out.splitlines()
    result = json.loads(lines[-1]) if lines and "--json" in arguments else None
    return code, result, err.splitlines()


def json_lines(path):
    """The objects of a file that has one on each line."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def image_size(path):
    """Width and height of a picture."""
    with Image.open(path) as picture:
        return picture.size


def content(directory):
    """What lies in a directory, hidden files too: hashes by name."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(directory).rglob("*")
        if path.is_file()
    }


def start(script, *arguments, env=None):
    """A script in a process of its own, with this environment or ours."""
    return subprocess.Popen(
        [sys.executable, ROOT / "bin" / script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env or {**os.environ, "PYTHONPATH": ""},
    )
