"""Compiled programs read and counted, against counts by hand; the model of time; bad input."""

import contextlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdd import data
from jdd.benchmarks.forecast import forecast, hlo, machines, targets
from jdd.benchmarks.forecast.count import Exchange, Kernel, Work, count
from jdd.benchmarks.forecast.forecast import does_not_fit, problem_for
from jdd.cli import forecast as script
from jdd.data.stand_in import has_stand_in, stand_in
from jdd.errors import SettingError, UserError
from jdd.ops.target import compiling_for, platform
from jdd.report.forecast import page
from jdd.runs.programs import Program, programs
from jdd.runs.settings import Selection, build
from jdd.sharding import models_per_device

TEXTS = Path(__file__).parents[1] / "fixtures" / "forecast"
# Of one of two devices, by hand: 2 · outputs · kernel · channels; 2 · rows · inner · columns.
CONVOLUTION = 2 * (2 * 16 * 16 * 8) * (3 * 3 * 8)
BRANCH = 2 * (2 * 16 * 16 * 8) * 8
SQUARE = 2 * 16 * 32 * 32


def read(name):
    return hlo.parse((TEXTS / f"{name}.hlo.txt").read_text())


def test_a_program_for_a_gpu():
    work = count(read("gpu"), "gpu", turns=5)
    assert work.flops == 7 * (CONVOLUTION + BRANCH) + 5 * SQUARE
    assert work.library_calls == 7  # cuDNN's convolution, once a turn
    # The host looks at each turn's condition, and before each of the turns that it cannot count.
    assert work.host_round_trips == 7 + (5 + 1)
    gathered = 32 * 32 * 4
    assert work.collectives == {
        "all-reduce": Exchange(2 * 7, 2 * 7 * 4),  # of each turn's sum, and in a branch of its mean
        "all-gather": Exchange(5 + 1, (5 + 1) * gathered),
    }
    by_turns = {loop.turns: loop.body for loop in work.loops}
    assert {turns: body.flops for turns, body in by_turns.items()} == {
        7: CONVOLUTION + BRANCH,
        5: SQUARE,
    }
    assert count(read("gpu"), "gpu", turns=6).flops - work.flops == SQUARE


def test_a_program_for_a_tpu():
    work = count(read("tpu"), "tpu", turns=5)
    # The compiler cuts 2 images of 16 rows into 3 pieces a row, a third of them filled up.
    assert work.flops == 7 * (CONVOLUTION * 3 // 2 + BRANCH) + 5 * SQUARE
    assert work.host_round_trips == work.library_calls == 0
    # One of the gathers goes on while the loop turns: in pieces, each of which shows it whole.
    assert {kind: e.count for kind, e in work.collectives.items()} == {
        "all-reduce": 14,
        "all-gather": 6,
    }
    assert work.cycles > 0


@pytest.mark.parametrize(
    ("text", "entries", "size"),
    [
        ("f32[10,32,32,128]{3,2,1,0}", 10 * 32 * 32 * 128, 4 * 10 * 32 * 32 * 128),
        ("f32[10,28,28,3]{3,2,1,0:T(8,128)}", 10 * 28 * 28 * 3, 4 * 10 * 28 * 32 * 128),
        ("bf16[10,128]{0,1:T(8,128)(2,1)S(1)}", 1280, 2 * 128 * 128),
        ("pred[]", 1, 1),
        ("f32[7]{0:T(128)}", 7, 4 * 128),
    ],
)
def test_what_an_array_takes_in_memory(text, entries, size):
    (array,) = hlo.arrays(text)
    assert array.size == entries and array.bytes == size
    assert array.space == ("S(1)" in text)


FUSED = """HloModule m

%fused (p0: f32[20,1000], p1: s32[], p2: f32[1000]) -> f32[20,1000] {
  %p0 = f32[20,1000]{1,0} parameter(0)
  %p2 = f32[1000]{0} parameter(2)
  %row = f32[1,1000]{1,0} bitcast(%p2)
  %p1 = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %put = f32[20,1000]{1,0} dynamic-update-slice(%p0, %row, %p1, %zero)
}

%sliced (q0: f32[20,1000], q1: s32[]) -> f32[1,1000] {
  %q0 = f32[20,1000]{1,0} parameter(0)
  %q1 = s32[] parameter(1)
  %none = s32[] constant(0)
  ROOT %row.1 = f32[1,1000]{1,0} dynamic-slice(%q0, %q1, %none), dynamic_slice_sizes={1,1000}
}

ENTRY %main (a: f32[20,1000], i: s32[], b: f32[1000]) -> f32[1,1000] {
  %a = f32[20,1000]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %b = f32[1000]{0} parameter(2)
  %stored = f32[20,1000]{1,0} fusion(%a, %i, %b), kind=kLoop, calls=%fused
  ROOT %read = f32[1,1000]{1,0} fusion(%stored, %i), kind=kLoop, calls=%sliced
}
"""


def test_a_row_of_a_table_is_read_and_written_not_the_table():
    work = count(hlo.parse(FUSED), "gpu")
    assert [kernel.bytes for kernel, _ in work.kernels] == [2 * 4000 + 4, 2 * 4000 + 4]
    assert work.launches == 2


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no entry computation"):
        hlo.parse("HloModule m\n")


def test_each_kernel_takes_as_long_as_the_slowest_of_its_three():
    machine = machines.MACHINES["h200"]
    kernels = (
        (Kernel("product", {"f32 high": 494 * 10**9}, 1), 2),  # a thousandth of a second
        (Kernel("copy", {}, 4_800_000_000), 1),  # another
        (Kernel("small", {}, 8), 1000),
        (Kernel("sum", {}, 0, kind="exchange", collective="all-reduce", exchanged=45 * 10**7), 1),
    )
    seconds = machines.seconds(Work(kernels, host_round_trips=10), machine)
    assert seconds.arithmetic == pytest.approx(2e-3)
    assert seconds.memory == pytest.approx(1e-3, rel=1e-3)
    assert seconds.launches == pytest.approx(1003 * 3e-6)
    assert seconds.exchanges == pytest.approx(1e-3 + 3e-6)
    assert seconds.model == pytest.approx(2e-3 + 1e-3 + 3e-3 + 1e-3 + 3e-6 + 200e-6)


@pytest.mark.parametrize("name", ["v5e:2x2", "v6e:4x8", "h100", "h200x8"])
def test_a_target_is_called_what_it_is_read_from(name):
    target = machines.target(name)
    assert target.name == name
    assert target.chips == {"v5e:2x2": 4, "v6e:4x8": 32, "h100": 1, "h200x8": 8}[name]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("h300", "did you mean 'h"),
        ("v5e", "v5e:2x2"),
        ("v5e:3x3", "slices of v5e: 1x1, 2x2, 2x4"),
        ("v9e:2x2", "choose from v5e, v6e"),
        ("h200:2x2", "choose from v5e, v6e"),
        ("h200x9", "h200x2 to h200x8"),
        ("h200x", "h200x2 to h200x8"),
    ],
)
def test_a_target_that_does_not_exist_is_an_error_that_names_those_that_do(name, words):
    with pytest.raises(SettingError, match="`target`") as error:
        machines.target(name)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (18.64G) exceeds available HBM (15.75G).",
            "needs 18.6 GiB of the 16.0 that v5e has: v6e, h100, h200 would hold it",
        ),
        (
            "Ran out of memory in memory space hbm. Used 140.5G of 15.75G hbm.",
            "needs 140.5 GiB of the 16.0 that v5e has: no chip known here would",
        ),
        ("INTERNAL: lost\nits way", "v5e:1x1 cannot compile the program 'update': INTERNAL: lost"),
    ],
)
def test_a_program_that_does_not_fit_names_the_chips_that_would_hold_it(message, words):
    program = Program("update", lambda place: None, "update", 1, 1, 1.0)
    error = str(does_not_fit(program, machines.target("v5e:1x1"), message))
    assert words in error and "\n" not in error


def test_tracing_asks_for_the_target_and_forgets_nothing():
    traced = jax.jit(lambda x: x + models_per_device(4))
    assert traced(0) == (1 if platform() == "cpu" else 4)
    with compiling_for("tpu"):
        assert platform() == "tpu" and traced(0) == 4
    with compiling_for("cpu"):
        assert traced(0) == 1
    assert platform() == jax.default_backend()


def test_a_stand_in_has_the_shape_of_the_dataset():
    real, ours = data.load("digits"), stand_in("digits")
    assert real.image_shape == ours.image_shape and real.num_classes == ours.num_classes
    for split in ("train", "test"):
        theirs, stands_in = getattr(real, split), getattr(ours, split)
        assert theirs.images.shape == stands_in.images.shape
        assert len(set(stands_in.labels)) == real.num_classes
    small = stand_in("folder:x#imagenette", 16, "zca")
    assert small.image_shape == (16, 16, 3) and small.preprocess.zca is not None
    assert not has_stand_in("folder:pets")


def test_a_runs_programs_are_traced_from_shapes_with_the_runs_own_functions():
    selection = Selection("mtt", "digits", preset="quick")
    chosen = {"width": 4, "depth": 2, "syn_steps": 3, "iterations": 20, "chunk": 5}
    problem = problem_for(build(selection, chosen))
    by_name = {program.name: program for program in programs(problem)}
    assert set(by_name) == {"expert epoch", "update", "evaluation", "test"}
    update = by_name["update"]
    assert (update.units, update.calls) == (15, 4)
    lowered = update.lower(lambda shapes: shapes)
    (first, *_), _ = lowered.args_info
    assert first.storage.shape == (10, 8, 8, 1)
    assert first.storage.donated  # as the run gives its arrays' memory away
    tested = by_name["test"]
    assert tested.units == 1 and 10 * tested.calls == by_name["evaluation"].calls
    assert jnp.issubdtype(tested.lower(lambda shapes: shapes).out_info.dtype, np.floating)


def test_a_forecast_in_words():
    result = {
        "target": "h200", "devices": 1, "memory": 141 * 10**9, "method": "dm", "dataset": "mnist",
        "ipc": 10, "preset": "paper", "seconds": 59.0,
        "programs": [{
            "program": "update", "compile_seconds": 3.2,
            "compile_processor_seconds": 4.1, "unit": "batch", "units": 2, "calls": 7.5,
            "bytes": {"temporary": 2**21, "arguments": 2**20, "peak": 3 * 2**20},
            "flops": 10**12, "memory_traffic": 10**9,
            "per_unit": {"kernels": 103.2, "library_calls": 9.0, "host_round_trips": 0.5},
            "collectives": {"all-reduce": {"count": 14, "bytes": 2**20}},
            "seconds": {"arithmetic": 0.1, "memory": 0.2, "launches": 0.3, "model": 0.4,
                        "compiler": 0},
        }],
    }  # fmt: skip
    words = page(result)
    assert "compiled for h200: 1 of 134,468 MiB" in words and "14 all-reduce, 1 MiB" in words
    assert "2 batches" in words and "103.2" in words and "by the compiler" not in words


def test_what_cannot_be_forecast_is_said_in_a_line(capsys, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # `main` sets both
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "true")
    assert script.main(["--target", "h300", "--dataset", "digits"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: --target h300: did you mean 'h") and error.count("\n") == 1


def test_a_program_that_the_run_has_not_is_refused(monkeypatch):
    monkeypatch.setattr(targets, "compiling", lambda *_: contextlib.nullcontext(None))
    settings = build(Selection("dm", "digits", preset="quick"))
    with pytest.raises(UserError, match="`programs` 'updat': did you mean 'update'"):
        forecast(settings, machines.target("h200"), only=["updat"])
