"""Runs that end in time: by their last update, or where the clock stops them, and then tested."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jdd import files
from jdd.benchmarks.accelerator.plan import Clock, Plan
from jdd.errors import UserError
from jdd.experts import SegmentWindow
from jdd.runs.settings import Selection, build

Save = Callable[[Mapping[str, Any]], None]
_EXPERTS = 0.4  # of a part's time, at most
_TEST = 0.15  # of a run's time, for the test of a set whose run was stopped
_LOOKS = 10  # evaluations on the validation split

# As small as it can be, for a trial.
_SMALL = (
    *("--width", "8", "--iterations", "4", "--eval-epochs", "2", "--eval-networks", "1"),
    *("--validation-epochs", "1"),
)
_SMALL_OF = {
    "mtt": ("--syn-steps", "2", "--real-images", "100", "--batch-train", "50"),
    "dc": ("--batch-real", "4", "--outer-loop", "1", "--inner-loop", "1"),
    "dm": ("--batch-real", "4"),
}
_SMALL_OF |= {"dsa": _SMALL_OF["dc"], "datadam": _SMALL_OF["dm"]}
_TRIAL_EXPERTS, _PAPER_EXPERTS = 2, 100


def trajectories(plan: Plan, clock: Clock, before: dict[str, Any], save: Save) -> dict[str, Any]:
    """See `jdd.benchmarks.accelerator.parts.trajectories`."""
    window = build(Selection("mtt", plan.dataset, 1, preset="paper")).method_settings.needs.segments
    assert isinstance(window, SegmentWindow)
    epochs = window.max_start_epoch + window.expert_epochs - 1
    words = [*_words("mtt", 1, plan), "--train-epochs", str(epochs)]
    words += ["--experts", str(plan.work / "experts")]
    result: dict[str, Any] = {"rows": [], "left_out": [], "failed": [], "notes": []}
    count = before.get("experts", 0)
    if not count:  # a run that has begun keeps those that it began with
        wanted = _TRIAL_EXPERTS if plan.trial else _PAPER_EXPERTS
        asked = [*words, "--num-experts", str(wanted)]
        ran = plan.script("train_experts", asked, clock.share(_EXPERTS))
        count = _trained(plan.work / "experts")
        result["notes"] = [f"{count} experts of {epochs} epochs where the paper has 100 of 50"]
        if not count:
            result["failed" if ran.outcome == "failed" else "left_out"] += ["experts", "mtt-1"]
            return result
    result |= {"experts": count, "notes": before.get("notes", result["notes"])}
    rows = before.get("rows", [])
    save({**result, "rows": rows, "left_out": ["mtt-1"]})
    row, outcome = _run("mtt", 1, plan, clock, [*words, "--num-experts", str(count)])
    return _with(result, "mtt-1", _better(row, next(iter(rows), None)), outcome)


def one_after_another(
    cells: Sequence[tuple[str, int]],
    plan: Plan,
    clock: Clock,
    before: dict[str, Any],
    save: Save,
) -> dict[str, Any]:
    """Runs of (method, images per class), each with an equal share of the time that is left."""
    rows = {f"{row['method']}-{row['ipc']}": row for row in before.get("rows", ())}
    result: dict[str, Any] = {"rows": [], "left_out": [], "failed": [], "notes": []}
    for at, (method, ipc) in enumerate(cells):
        name = f"{method}-{ipc}"
        row = rows.get(name)
        if row is not None and row["iterations"] == row["of"] and "accuracy_mean" in row:
            result["rows"].append(row)
            continue
        share = clock.share(1 / (len(cells) - at))
        row, outcome = _run(method, ipc, plan, share, _words(method, ipc, plan))
        result = _with(result, name, _better(row, rows.get(name)), outcome)
        save(
            {**result, "left_out": [*result["left_out"], *(f"{m}-{i}" for m, i in cells[at + 1 :])]}
        )
    return result


def _words(method: str, ipc: int, plan: Plan) -> list[str]:
    small = [*_SMALL, *_SMALL_OF[method]] if plan.trial else []
    words = ["--method", method, "--dataset", plan.dataset, "--ipc", str(ipc), "--preset", "paper"]
    return [*words, *plan.places(), *small]


def _run(
    method: str, ipc: int, plan: Plan, clock: Clock, words: Sequence[str]
) -> tuple[dict[str, Any] | None, str]:
    """A run, and how it ended; its row, where there is anything to say of it."""
    out = plan.work / f"{method}-{ipc}"
    settings = build(Selection(method, plan.dataset, ipc, preset="paper"))
    updates = 4 if plan.trial else settings.iterations
    fixed = ["--eval-every", str(-(-updates // _LOOKS)), "--full-data-epochs", "0"]
    fixed += ["--no-eval-random", "--out", str(out), "--resume"]
    ran = plan.script("distill", [*words, *fixed], clock.share(1 - _TEST))
    row = {"method": method, "ipc": ipc, "of": updates, "seconds": round(ran.seconds, 1)}
    kept = ("accuracy_mean", "accuracy_std", "iterations", "distilling_seconds", "note")
    if ran.value is not None:
        row |= {name: ran.value[name] for name in kept} | {"tested": "the best set"}
        return row, "done"
    made = _updates_made(out)
    if ran.outcome == "failed" or made is None:
        return None, ran.outcome
    row["iterations"] = made
    networks = ["--networks", "1"] if plan.trial else []
    tested = plan.script("evaluate", [str(out), *networks, *plan.places()], clock)
    if tested.value is not None:
        row |= {name: tested.value[name] for name in kept[:2]} | {"tested": "the best set so far"}
        if made == updates:  # its time was up during its own test
            return row, "done"
    return row, "left"


def _better(row: dict[str, Any] | None, before: dict[str, Any] | None) -> dict[str, Any] | None:
    """A run's row; the one before where that has an accuracy and this has none."""
    if before is not None and "accuracy_mean" in before and "accuracy_mean" not in (row or {}):
        return before
    return row


def _with(
    result: dict[str, Any], name: str, row: dict[str, Any] | None, outcome: str
) -> dict[str, Any]:
    """The result with a run's row, or with what is missing of it."""
    rows = [*result["rows"], *([row] if row is not None else [])]
    result = {**result, "rows": rows}
    if outcome == "failed":
        return {**result, "failed": [*result["failed"], name]}
    if outcome == "done":
        return result
    missing = name
    if row is not None:
        missing = f"{name}: {row['of'] - row['iterations']} of {row['of']} updates"
        missing += "" if "accuracy_mean" in row else ", and its test"
    return {**result, "left_out": [*result["left_out"], missing]}


def _trained(experts: Path) -> int:
    """How many experts are complete in a store, 0 where there is none."""
    try:
        return len(files.read_json(experts / "progress.json")["accuracies"])
    except (UserError, KeyError, TypeError):
        return 0


def _updates_made(out: Path) -> int | None:
    """The newest update that a run's lines tell of; None where it has no set to test."""
    lines = out / "metrics.jsonl"
    if not (out / "synthetic").exists() or not lines.exists():
        return None
    numbers = re.findall(r'"iteration": (\d+)', lines.read_text(encoding="utf-8"))
    return max(map(int, numbers), default=0)
