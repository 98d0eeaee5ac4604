"""The commands of a run's page: what can be done with the run, as it is typed."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jdd
from jdd.runs.result import RunResult

_BEGIN = "python bin/distill.py "  # of every stored command


def commands(result: RunResult, places: Mapping[str, Any], out: Path) -> Iterator[tuple[str, str]]:
    """What each command is for, and the command, for the current directory.

    Args:
      result: of the run.
      places: the directories of its data (`data_dir`) and experts (`experts`), where it names them;
        the command in the result leaves them out, as it is to hold on other machines.
      out: the run's directory.
    """
    place, flags = shlex.quote(str(out)), {"data_dir": "", "experts": ""}
    for name in flags:
        if isinstance(value := places.get(name), str):
            flags[name] = f" --{name.replace('_', '-')} {shlex.quote(value)}"
    if result.command.startswith(_BEGIN):
        whole = out if out.name.strip(".") else out.resolve()
        words = f"{result.command.removeprefix(_BEGIN)}{flags['data_dir']}{flags['experts']}"
        again = shlex.quote(f"{whole}-again")
        yield "The same run again:", f"{_script('distill')} {words} --out {again}"
    yield (
        "Evaluate the set with ten fresh networks:",
        f"{_script('evaluate')} {place} --networks 10{flags['data_dir']}",
    )
    yield (
        "Hand it to other programs:",
        f"{_script('export')} {place} --to set.npz{flags['data_dir']}",
    )
    yield "Load it in Python:", f"import jdd\n\nsynthetic = jdd.SyntheticSet.load({str(out)!r})"


def _script(name: str) -> str:
    """What runs a script from the current directory."""
    path = Path(jdd.__file__).resolve().parents[1] / "bin" / f"{name}.py"
    if not path.is_file():  # installed from a wheel
        return f"jdd-{name}"
    here = Path.cwd()
    return f"python {shlex.quote(str(path.relative_to(here) if here in path.parents else path))}"
