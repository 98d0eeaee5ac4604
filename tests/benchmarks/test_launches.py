"""Kernels and launches, counted in profiles as GPUs and TPUs leave them."""

import jax
import pytest

from jdd.benchmarks.launches import Launches, counted, profiled

EVENTS = {1: "fusion.1", 2: "cuLaunchKernel", 3: "cuGraphLaunch", 4: "cuStreamSynchronize"}


def planes(**lines_of):
    """A profile: the events of each line, by plane and line."""
    text = ""
    for plane, lines in lines_of.items():
        name = "/" + plane.replace("_", ":", 1) + (":0" if plane.startswith("device") else "")
        named = " ".join(
            f'event_metadata {{ key: {i} value {{ id: {i} name: "{n}" }} }}'
            for i, n in EVENTS.items()
        )
        inner = " ".join(
            f'lines {{ name: "{line}" '
            + " ".join(f"events {{ metadata_id: {i} duration_ps: 1 }}" for i in events)
            + " }"
            for line, events in lines.items()
        )
        text += f'planes {{ name: "{name}" {named} {inner} }} '
    return jax.profiler.ProfileData.from_text_proto(text).planes


def test_a_gpu_s_kernels_and_the_host_s_launches():
    of = planes(
        device_GPU={
            "Stream #13(Compute)": [1, 1, 1],
            "Stream #14(MemcpyD2D)": [1],
            "XLA Ops": [1, 1],
        },
        host_CUPTI={"thread": [2, 2, 3, 4]},
    )
    assert counted(of) == Launches(kernels=4, launches=3)


def test_a_tpu_s_operations():
    of = planes(device_TPU={"XLA Ops": [1, 1], "XLA Modules": [1], "Steps": [1]})
    assert counted(of) == Launches(kernels=2, launches=0)


def test_a_cpu_has_none():
    assert counted(planes(host_CPU={"python": [4]})) is None
    assert profiled(lambda: pytest.fail("there is nothing to profile")) is None
