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
from jdd.ops import WHOLE, Part
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
    "batches": (1, 2, 4, 8),
    "divided data": (1, 2, 8),
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


def test_real_data_lies_on_two_devices_and_is_traced_for_them():
    """What every run on several devices does first; the slow tests below begin there."""
    words = (
        "import jax, numpy as np; from jdd import sharding; rows = np.zeros((5, 2), np.uint8)\n"
        "for divided in (False, True):\n"
        "    with sharding.devices(2, divide_data=divided):\n"
        "        placed, traced = sharding.placed(rows), jax.eval_shape(sharding.placed, rows)\n"
        "        assert isinstance(placed, jax.Array) != divided\n"
        "        assert placed.shape == traced.shape == rows.shape"
    )
    command, env = [sys.executable, "-c", words], environment(2)
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "count"), DIVIDED)
def test_the_same_numbers_on_any_number_of_devices(results, case, count):
    alone, divided = results[f"{case} on 1"], results[f"{case} on {count}"]
    ends = np.cumsum(results[f"{case} leaves"])[:-1]
    assert np.isfinite(alone).all() and np.ptp(alone) > 0
    for a, b in zip(np.split(divided, ends), np.split(alone, ends), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
    assert (results[f"{case} in 1"], results[f"{case} in {count}"]) == (1, count), "not divided"


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    path = tmp_path_factory.mktemp("programs") / "found.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.divided_programs", path],
        env=environment(8),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(path.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["student", "student, nothing kept", "expert"])
def test_a_divided_batch_is_as_much_less_work(programs, name):
    """Its images are divided over 2, 4 and 8 devices, and nothing is computed twice."""
    flops = {int(count): value for count, value in programs[name]["flops"].items()}
    for count in (2, 4, 8):
        assert flops[count] * count == pytest.approx(flops[1], rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count"), [("student", 3), ("student, nothing kept", 3), ("expert", 1)]
)
def test_a_divided_batch_has_one_sum_a_step(programs, name, count):
    """Of a student one on the way there, one on the way back, and one for the images' gradient.

    Programs hold a loop's body once.
    """
    assert programs[name]["collectives"] == ["all-reduce"] * count


@pytest.mark.slow
def test_divided_rows_are_read_in_any_way(programs):
    assert programs["rows"] == {"map": True, "vmap": True, "vmap of vmap": True}


@pytest.mark.slow
def test_of_divided_data_only_batches_are_exchanged(programs):
    """Not the 300 images that there are: a class's six for each device, or a batch of thirty."""
    assert programs["exchanged"] == {
        "dm": [["reduce-scatter", "1,6,8,8,1"]],
        "frepo": [["all-reduce", "30,8,8,1"]],
        "bptt": [["all-reduce", "30,8,8,1"]],
    }


def test_a_mesh_has_an_axis_for_each_prime_factor():
    shapes = {n: tuple(sharding.mesh_of(np.arange(n)).shape.values()) for n in (1, 2, 6, 7, 8)}
    assert shapes == {1: (1,), 2: (2,), 6: (2, 3), 7: (7,), 8: (2, 2, 2)}


def test_entries_come_first_and_batches_take_the_rest():
    axes = (("a", 2), ("b", 2), ("c", 2))
    taken = {
        (8, (100, 1024)): 3,  # as many entries as devices
        (2, (100, 1024)): 1,
        (1, (100, 1024)): 0,  # divided over four of the eight, as 100 images are
        (10, (256, 1024)): 1,  # five classes each, and a quarter of their images
        (10, (20, 1024)): 2,  # three classes on a pair, some of them twice, ten images each
        (10, (10, 1024)): 3,  # too few images: two classes on a device
        (3, None): 3,
    }
    for (entries, batch), count in taken.items():
        assert sharding._axes_for(axes, entries, batch) == count, (entries, batch)
    assert sharding._part(axes, (100, 1024)) == Part(("a", "b"), 4)
    assert sharding._part(axes, (10, 1024)) == WHOLE
    assert sharding._part(axes, (10, 128 * 128)) == Part(("a",), 2)


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
