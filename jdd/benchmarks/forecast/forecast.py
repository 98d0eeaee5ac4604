"""A run's programs, compiled for chips that are not there, and what the compiled text says."""

import dataclasses
import re
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jdd.benchmarks.forecast import hlo, machines, targets
from jdd.benchmarks.forecast.count import Work, count
from jdd.benchmarks.forecast.machines import Target
from jdd.data import DeviceData
from jdd.data.stand_in import has_stand_in, stand_in
from jdd.errors import UserError, unknown_value
from jdd.rows import divided_shapes
from jdd.runs.problem import Problem, prepare, problem_of
from jdd.runs.programs import Program, programs
from jdd.runs.settings import RunSettings
from jdd.sharding import is_divided

# Two ways in which libtpu says that a program is too large.
_NEEDED = re.compile(
    r"(?:Used |\()([0-9.]+)([KMGT]?)\)? (?:of [0-9.]+[KMGT]? hbm|exceeds available)"
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def forecast(
    settings: RunSettings,
    target: Target,
    data_dir: str | None = None,
    devices: int = 0,
    divide_data: bool = False,
    only: Iterable[str] = (),
    progress: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Compiles a run's programs for a target and counts what they do; nothing is run.

    Args:
      settings: of the run.
      target: what to compile for.
      data_dir: where the files of a dataset of the user's own are; for those that come with jdd
        none are read.
      devices: of the target's chips, the first so many; 0: all.
      divide_data: among them, however small it is.
      only: the names of the programs wanted; all where it is empty.
      progress: told each program's name before it is compiled.

    Returns:
      `target`, `devices`, `memory` of each (bytes), what is distilled, and `programs`, each as
      `described` gives it; `seconds` of the whole run by the model, over those programs.

    Raises:
      UserError: as for `jdd.runs.prepare`; the compiler is not installed; a program does not fit.
    """
    problem = problem_for(settings, data_dir)
    wanted = set(only)
    results = []
    with targets.compiling(target, devices) as mesh:
        place = partial(_placed, mesh=mesh, memory=target.machine.memory, divide_data=divide_data)
        made = programs(problem)
        for name in sorted(wanted - {program.name for program in made}):
            raise unknown_value("programs", name, [program.name for program in made])
        for program in made:
            if wanted and program.name not in wanted:
                continue
            progress(program.name)
            results.append(_compiled(program, target, place))
        used = mesh.devices.size
    return {
        "target": target.name,
        "devices": used,
        "memory": target.machine.memory,
        "method": settings.method,
        "dataset": settings.dataset,
        "ipc": settings.ipc,
        "preset": settings.preset,
        "network": settings.network,
        "options": dict(settings.options),
        "jax": jax.__version__,
        "programs": results,
        "seconds": sum(result["calls"] * result["seconds"]["model"] for result in results),
    }


def problem_for(settings: RunSettings, data_dir: str | None = None) -> Problem:
    """The run's problem, on black images where the dataset's shape is known without its files."""
    if not has_stand_in(settings.dataset):
        return prepare(settings, data_dir)
    loop = settings.loop
    dataset = stand_in(settings.dataset, loop.image_size or None, loop.preprocessing)
    return problem_of(settings, dataset)


def _placed(shapes: Any, mesh: Mesh, memory: int, divide_data: bool) -> Any:
    """Shapes with where their arrays lie: on every device in full, or real images divided."""
    replicated = NamedSharding(mesh, P())

    def in_full(shape: Any) -> Any:
        return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=replicated)

    def of(part: Any) -> Any:
        placed = jax.tree.map(in_full, part)
        # Synthetic images are floats, and on every device.
        if not isinstance(part, DeviceData) or part.images.dtype != jnp.uint8 or mesh.size == 1:
            return placed
        images: Any = part.images
        if not (divide_data or is_divided(images.size, memory)):
            return placed
        return dataclasses.replace(placed, images=divided_shapes(images, mesh))

    return jax.tree.map(of, shapes, is_leaf=lambda part: isinstance(part, DeviceData))


def _compiled(program: Program, target: Target, place: Callable[[Any], Any]) -> dict[str, Any]:
    lowered = program.lower(place)
    began, spent = time.monotonic(), time.process_time()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        raise does_not_fit(program, target, str(error)) from error
    seconds, spent = time.monotonic() - began, time.process_time() - spent
    memory = compiled.memory_analysis()
    described_memory = {
        "temporary": int(memory.temp_size_in_bytes),
        "arguments": int(memory.argument_size_in_bytes),
        "results": int(memory.output_size_in_bytes - memory.alias_size_in_bytes),
    }
    needed = sum(described_memory.values())
    if needed > target.machine.memory:
        raise _too_large(program, target, needed)
    work = count(hlo.parse(compiled.as_text()), target.machine.platform, program.turns)
    return {
        "program": program.name,
        "compile_seconds": round(seconds, 1),
        "compile_processor_seconds": round(spent, 1),
        "bytes": {**described_memory, "peak": needed},
        **described(program, work, target),
    }


def described(program: Program, work: Work, target: Target) -> dict[str, Any]:
    """What one call of a program does, as plain JSON; "loops" are a turn of each innermost loop."""
    return {
        "unit": program.unit,
        "units": program.units,
        "calls": round(program.calls, 3),
        **_totals(work),
        "per_unit": {
            name: round(value / program.units, 2)
            for name, value in (
                ("kernels", work.launches),
                ("library_calls", work.library_calls),
                ("host_round_trips", work.host_round_trips),
            )
        },
        "loops": [
            {"turns": loop.turns, "runs": loop.runs, **_totals(loop.body)} for loop in work.loops
        ],
        "seconds": machines.seconds(work, target.machine).to_json(),
    }


def _totals(work: Work) -> dict[str, Any]:
    return {
        "flops": work.flops,
        "memory_traffic": work.bytes,
        "kernels": work.launches,
        "library_calls": work.library_calls,
        "host_round_trips": work.host_round_trips,
        "collectives": {
            kind: {"count": exchange.count, "bytes": exchange.bytes}
            for kind, exchange in sorted(work.collectives.items())
        },
        "cycles": work.cycles,
    }


def does_not_fit(program: Program, target: Target, message: str) -> UserError:
    """The error for a program that a compiler refuses with this message: what would hold it."""
    if (match := _NEEDED.search(message)) is None:
        first = message.strip().splitlines()[0]
        return UserError(f"{target.name} cannot compile the program '{program.name}': {first}")
    return _too_large(program, target, int(float(match[1]) * _UNITS[match[2]]))


def _too_large(program: Program, target: Target, needed: int) -> UserError:
    others = machines.larger(needed)
    would = f"{others} would hold it" if others else "no chip known here would hold it"
    return UserError(
        f"the program '{program.name}' needs {needed / 2**30:.1f} GiB of the "
        f"{target.machine.memory / 2**30:.1f} that {target.machine.name} has: {would}; or fewer "
        "images a step (`batch_syn`, `batch_real`), or `memory` constant"
    )
