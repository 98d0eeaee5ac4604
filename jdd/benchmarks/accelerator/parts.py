"""The parts: what each measures, as a JSON object that is saved again and again on the way."""

import shlex
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jdd
from jdd.benchmarks.accelerator import runs
from jdd.benchmarks.accelerator.plan import Clock, Plan
from jdd.methods import registry
from jdd.tasks.processes import run_program

Result = dict[str, Any]
Save = Callable[[Mapping[str, Any]], None]
Part = Callable[[Plan, Clock, Result, Save], Result]
"""`(plan, clock, what an earlier try left, save)` → the result; `left_out` and `failed` name what
is not in it"""

_PARITY = ("tests/losses/test_parity.py", "tests/networks/test_parity.py")
_TRIAL_TESTS = "mse"  # part of the names of those that a trial makes
_CELLS = {"gradients": ("dc", "dsa"), "features": ("dm", "datadam")}
_COUNTS = (1, 10)  # images per class


def parity(plan: Plan, clock: Clock, before: Result, save: Save) -> Result:
    """The tests against the published code's outputs, in float32."""
    del before, save
    root = Path(jdd.__file__).resolve().parents[1]
    missing = [name for name in _PARITY if not (root / name).exists()]
    if missing:
        return {"left_out": missing, "failed": [], "notes": ["the repository's tests are needed"]}
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.xml"
        words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        # A newer library's warning is no difference.
        words += ["-o", "filterwarnings=default", f"--junitxml={report}", "--rootdir", str(root)]
        words += [str(root / name) for name in _PARITY]
        words += ["-k", _TRIAL_TESTS] if plan.trial else []
        precise = {"JAX_DEFAULT_MATMUL_PRECISION": "float32"}
        run_program(words, clock, patience=clock.grace, environment=precise)
        if not report.exists():
            return {"left_out": [*_PARITY], "failed": [], "notes": []}
        outcomes = dict(_outcomes(report))
    failed = sorted(name for name, outcome in outcomes.items() if outcome == "failed")
    passed = sum(outcome == "passed" for outcome in outcomes.values())
    skipped = len(outcomes) - passed - len(failed)
    return {"passed": passed, "skipped": skipped, "left_out": [], "failed": failed, "notes": []}


def _outcomes(report: Path) -> Iterator[tuple[str, str]]:
    """Name and outcome of each test in a report of pytest's."""
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        name = f"{case.get('classname')}::{case.get('name')}"
        bad = kinds & {"failure", "error"}
        yield name, "failed" if bad else "skipped" if "skipped" in kinds else "passed"


def speed(plan: Plan, clock: Clock, before: Result, save: Save) -> Result:
    """Every case of the benchmark in TF32, alongside PyTorch in TF32."""
    peer = [] if plan.peer == "none" else ["--peer", plan.peer]
    notes = [] if peer else ["without a peer: PyTorch is not installed, or was not wanted"]
    return _cases(plan, clock, before, save, [*peer, "--precision", "tf32"], notes)


def precision(plan: Plan, clock: Clock, before: Result, save: Save) -> Result:
    """Every case of the benchmark in bfloat16, without a peer."""
    return _cases(plan, clock, before, save, ["--precision", "bfloat16"], [])


def _cases(
    plan: Plan, clock: Clock, before: Result, save: Save, words: list[str], notes: list[str]
) -> Result:
    """Each case in a process of its own: one that fails, or fills the memory, stops no other."""
    small = ["--width", "8", "--steps", "1"] if plan.trial else ["--most", "6"]
    cases = dict(before.get("cases", {}))
    result: Result = {"cases": cases, "left_out": [], "failed": [], "notes": notes}
    for name in plan.cases:
        if name in cases:
            continue
        ran = plan.script("benchmark", ["--case", name, "--profile", *words, *small], clock)
        if ran.value is not None and name in ran.value["cases"]:
            cases[name] = ran.value["cases"][name]
        else:
            result["failed" if ran.outcome == "failed" else "left_out"].append(name)
        save(result)
    return result


def trajectories(plan: Plan, clock: Clock, before: Result, save: Save) -> Result:
    """MTT at 1 image per class at the paper's settings, experts included.

    With as many experts as two fifths of the time suffice for, each only as long as the window of
    start epochs reaches; the set is tested at the end, also where updates are left out.
    """
    return runs.trajectories(plan, clock, before, save)


def gradients(plan: Plan, clock: Clock, before: Result, save: Save) -> Result:
    """DC and DSA at the papers' settings, at 1 and 10 images per class."""
    return _matching("gradients", plan, clock, before, save)


def features(plan: Plan, clock: Clock, before: Result, save: Save) -> Result:
    """DM and DataDAM at the papers' settings, at 1 and 10 images per class."""
    return _matching("features", plan, clock, before, save)


def _matching(name: str, plan: Plan, clock: Clock, before: Result, save: Save) -> Result:
    cells = [(method, ipc) for ipc in _COUNTS for method in _CELLS[name]]
    return runs.one_after_another(cells, plan, clock, before, save)


PARTS: dict[str, Part] = {
    "parity": parity,
    "speed": speed,
    "precision": precision,
    "trajectories": trajectories,
    "gradients": gradients,
    "features": features,
}
NAMES = tuple(PARTS)


def further_commands(plan: Plan) -> list[str]:
    """Commands of the runs that no part makes: the other methods, and MTT at 10 per class."""
    measured = {(method, ipc) for of in _CELLS.values() for method in of for ipc in _COUNTS}
    places = "".join(f" {word}" for word in map(shlex.quote, plan.places()))
    return [
        f"python bin/distill.py --method {method} --dataset {plan.dataset} --ipc {ipc} "
        f"--preset paper{places}"
        for method in registry.names()
        if not registry.entry(method).is_coreset
        for ipc in _COUNTS
        if (method, ipc) not in {*measured, ("mtt", 1)}
    ]
