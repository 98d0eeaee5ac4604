"""Part after part, each saved as it goes, and a table of all of them."""

import datetime
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jdd
from jdd import files, locks
from jdd.benchmarks.accelerator.parts import NAMES, PARTS, further_commands
from jdd.benchmarks.accelerator.plan import Clock, Plan
from jdd.errors import SettingError, UserError
from jdd.report.accelerator import page
from jdd.tasks.processes import run_program

TABLE = "table.md"
_SAME = ("machine", "dataset", "trial")  # what all parts of a directory agree in
_DESCRIBE = """
from jdd.cli.platform import tune_xla
tune_xla()
import json, jax
from jdd.runs.result import machine
device = jax.devices()[0]
print(json.dumps({"machine": machine(), "device": device.device_kind,
                  "platform": device.platform, "devices": jax.device_count()}))
"""


def has_torch() -> bool:
    """Whether there is a PyTorch to compare with."""
    return importlib.util.find_spec("torch") is not None


def run_parts(
    names: Sequence[str],
    plan: Plan,
    minutes: float,
    stopper: Callable[[], bool],
    say: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """Makes the parts in order; those whose result is complete are not made again.

    This process starts no accelerator, which has to be free for the programs that it runs.

    Args:
      names: of parts.
      plan: what with.
      minutes: that each part may take.
      stopper: asked again and again; once it is true the part at work is ended, and no other made.
      say: told which part begins, and what it came to.

    Returns:
      All parts that the directory then has, by name, as they are stored.

    Raises:
      UserError: JAX does not start, or the directory holds results of another machine.
    """
    if plan.out.exists() and not plan.out.is_dir():
        raise SettingError("out", plan.out, "it is a file, name a directory")
    plan.out.mkdir(parents=True, exist_ok=True)
    with locks.locked(plan.work, "work"):
        described = {**_device(stopper, plan.trial), "dataset": plan.dataset, "trial": plan.trial}
        stored = {name: _stored(plan.out / f"{name}.json", described) for name in NAMES}
        for name in names:
            if stored[name].get("complete"):
                say(f"{name}: complete in {plan.out}")
            elif not stopper():
                say(f"{name}: {(PARTS[name].__doc__ or '').splitlines()[0]}")
                stored[name] = _make(name, plan, minutes, stopper, stored[name], described)
                parts = {each: value for each, value in stored.items() if value}
                files.write_text(plan.out / TABLE, page(parts, further_commands(plan)))
    return {name: value for name, value in stored.items() if value}


def _make(
    name: str,
    plan: Plan,
    minutes: float,
    stopper: Callable[[], bool],
    before: Mapping[str, Any],
    described: Mapping[str, Any],
) -> dict[str, Any]:
    began, spent = time.monotonic(), before.get("seconds", 0.0)
    clock = Clock.of(60 * minutes, stopper)
    last: dict[str, Any] = {}

    def save(result: Mapping[str, Any], ended: bool = False) -> None:
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        last.clear()
        last.update(
            {"part": name, "version": jdd.__version__, "date": today, **described},
            complete=ended and not result["left_out"] and not result["failed"],
            seconds=round(spent + time.monotonic() - began, 1),
            **result,
        )
        files.write_json(plan.out / f"{name}.json", last)

    save(PARTS[name](plan, clock, dict(before), save), ended=True)
    return dict(last)


def _device(stopper: Callable[[], bool], trial: bool) -> dict[str, Any]:
    """What JAX sees, asked in a process of its own."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        outcome = run_program([sys.executable, "-c", _DESCRIBE], stopper, output, patience=5.0)
        output.seek(0)
        lines = output.read().splitlines()
    if outcome != "done" or not lines:
        raise UserError("JAX does not start here: what it said is above")
    described: dict[str, Any] = json.loads(lines[-1])
    if described["platform"] == "cpu" and not trial:
        raise UserError(
            "JAX sees a CPU alone, no accelerator: what it said is above; a `trial` may take a CPU"
        )
    return described


def _stored(path: Path, described: Mapping[str, Any]) -> dict[str, Any]:
    """A part's result, empty where there is none."""
    if not path.exists():
        return {}
    value: dict[str, Any] = files.read_json(path)
    for name in _SAME:
        if value.get(name) != described[name]:
            raise UserError(
                f"{path} was measured with {name} {value.get(name)}, this is {described[name]}: "
                "choose another `out`"
            )
    return value
