"""Work divided over devices: the same numbers on 1, 2 and 8 of them, in one process and in two."""

import json
import os
import shlex
import socket
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from jdd import sharding
from jdd.errors import UserError
from jdd.synthetic import SyntheticSet
from tests.cli.running import ROOT, SMALL

HOST_DEVICES = "--xla_force_host_platform_device_count="
COUNTS = {
    "dc": (1, 8),
    "dm": (1, 2, 8),
    "mtt": (1, 8),
    "experts": (1, 8),
    "networks": (1, 2, 8),
    "predict": (1, 8),
}
DIVIDED = [(case, count) for case, counts in COUNTS.items() for count in counts[1:]]


def environment(devices, **more):
    flags = f"{os.environ.get('XLA_FLAGS', '')} {HOST_DEVICES}{devices}".strip()
    return {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(ROOT), **more}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Each case's numbers on 1, 2 and 8 host devices, as `tests/on_devices.py` leaves them."""
    path = tmp_path_factory.mktemp("devices") / "results.npz"
    cases = [f"{case}={','.join(map(str, counts))}" for case, counts in COUNTS.items()]
    done = subprocess.run(
        [sys.executable, "-m", "tests.on_devices", path, *cases],
        env=environment(8),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return np.load(path)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "count"), DIVIDED)
def test_the_same_numbers_on_any_number_of_devices(results, case, count):
    alone, divided = results[f"{case} on 1"], results[f"{case} on {count}"]
    assert np.isfinite(alone).all() and np.ptp(alone) > 0
    np.testing.assert_allclose(divided, alone, rtol=1e-5, atol=1e-5 * np.abs(alone).max())
    assert (results[f"{case} in 1"], results[f"{case} in {count}"]) == (1, count), "not divided"


def test_more_devices_than_there_are_is_said():
    with pytest.raises(UserError, match="`devices` 2: JAX finds 1 here"):
        sharding.mesh(2)
    with pytest.raises(UserError, match="`devices` -1: 1 or more, or 0 for all"):
        sharding.mesh(-1)


def test_without_a_mesh_nothing_is_divided():
    seen = []
    sharding.sharded_map(lambda _, x: seen.append(x.shape) or x, None, jnp.zeros((5, 2)))
    assert seen == [(5, 2)]


@pytest.mark.slow
def test_two_processes_are_one_run(tmp_path):
    """Two processes of two devices each, stopped half-way, leave what one leaves."""
    alone = finish([start(tmp_path / "alone", environment(1))])
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]

    def both(*more):
        cluster = {"JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2"}
        return [
            start(
                tmp_path / "both",
                environment(2, JAX_PROCESS_ID=str(i), **cluster),
                "--distributed",
                *map(str, more),
            )
            for i in range(2)
        ]

    half = finish(both("--iterations", 20))
    assert (half[0]["devices"], half[1]) == (4, None), "the second process has nothing to say"
    together = finish(both("--resume"))
    assert (together[0]["resumed_from"], together[0]["iterations"]) == (20, 40)
    assert together[0]["accuracies"] == alone[0]["accuracies"]
    sets = [SyntheticSet.load(tmp_path / name) for name in ("alone", "both")]
    a, b = (np.asarray(one.images) for one in sets)
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(a).max())
    lines = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("alone", "both")]
    assert lines[0].count("\n") == lines[1].count("\n")


def start(out, env, *more):
    return subprocess.Popen(
        [sys.executable, ROOT / "bin" / "distill.py", *SMALL, *shlex.split("--num-experts 2"),
         "--json", "--out", out, *more],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def finish(processes):
    """Each process's result, None where it printed nothing at all."""
    results = []
    for process in processes:
        out, err = process.communicate(timeout=900)
        assert process.returncode == 0, err[-2000:]
        results.append(json.loads(out.splitlines()[-1]) if out else None)
    return results
