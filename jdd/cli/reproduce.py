"""`reproduce.py`: every task that two course projects set themselves, one after another."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jdd
from jdd.cli.arguments import Parser, number, seed, tune_xla
from jdd.cli.common import add_data_dir, add_json
from jdd.cli.program import Stopper, print_json, run_script
from jdd.errors import Interrupted, UserError, unknown

DESCRIPTION = (
    "Runs every task of the two course projects that this library grew out of, in order, on the "
    "data sets asked for: both starts of gradient and attention matching, trajectory matching and "
    "PAD, cost beside training on all real images, other architectures, architecture search, "
    "continual learning. What is done is not done again, what was stopped goes on. Ends in "
    "RESULTS.md and a picture for each task."
)
DATASETS = ("digits", "mnist", "cifar10", "mhist")
_RESNET = {"digits": "ResNet18BN_AP"}  # the one that fits 8×8 images; elsewhere ResNet18
_POLL = 0.2  # seconds

# What the course projects measured, %, by data set: (task, figure there, how to find ours).
_THERE: dict[str, tuple[tuple[str, str, str, tuple[str, ...]], ...]] = {
    "mnist": (
        ("ConvNet on all real images", "99.41", "cost", ("real", "accuracy")),
        ("ResNet-18 on all real images", "99.58", "cost-resnet", ("real", "accuracy")),
        (
            "gradient matching, 10 per class, from real images",
            "83.3",
            "matching",
            ("methods", "dc", "real", "mean"),
        ),
        (
            "gradient matching, 10 per class, from noise",
            "82.0",
            "matching",
            ("methods", "dc", "noise", "mean"),
        ),
        (
            "ResNet-18 on the set from real images",
            "60.0",
            "architectures",
            ("sets", "0", "networks", "ResNet18", "mean"),
        ),
        (
            "ResNet-18 on the set from noise",
            "54.7",
            "architectures",
            ("sets", "1", "networks", "ResNet18", "mean"),
        ),
        (
            "continual learning in halves, without a memory",
            "48.3",
            "continual-seed",
            ("methods", "none", "-1"),
        ),
        (
            "continual learning in halves, then the distilled set",
            "76.3",
            "continual-seed",
            ("methods", "distilled", "-1"),
        ),
    ),
    "cifar10": (
        ("ConvNet on all real images", "80.61", "cost", ("real", "accuracy")),
        ("ResNet-18 on all real images", "82.16", "cost-resnet", ("real", "accuracy")),
        (
            "gradient matching, 10 per class, from real images",
            "35.9",
            "matching",
            ("methods", "dc", "real", "mean"),
        ),
        (
            "gradient matching, 10 per class, from noise",
            "34.7",
            "matching",
            ("methods", "dc", "noise", "mean"),
        ),
        (
            "trajectory matching, 1 per class",
            "21.9",
            "trajectories",
            ("methods", "mtt", "real", "mean"),
        ),
        (
            "ResNet-18 on that set",
            "14.7",
            "architectures",
            ("sets", "2", "networks", "ResNet18", "mean"),
        ),
    ),
}


@dataclass(frozen=True)
class Step:
    """One command of a reproduction."""

    name: str
    """also its directory"""
    title: str
    script: str
    arguments: tuple[str, ...]
    needs: tuple[str, ...] = ()
    """steps whose results it takes"""


def steps(dataset: str, place: Path, preset: str | None = None) -> tuple[Step, ...]:
    """The tasks on one data set, in order.

    Args:
      dataset: one of `DATASETS`.
      place: where the data set's steps have their directories.
      preset: of the distilling; None for the machine's own.
    """
    ipc = "50" if dataset == "mhist" else "10"
    resnet = _RESNET.get(dataset, "ResNet18")
    shape = ("--image-size", "128") if dataset == "mhist" else ()
    common = ("--dataset", dataset, *shape, *(("--preset", preset) if preset else ()))
    short = ("--epochs", "150") if dataset == "digits" else ()  # all of it within half an hour
    real, noise = (str(place / "matching" / f"dc-{start}") for start in ("real", "noise"))
    attention = str(place / "matching" / "datadam-real")
    trajectories = str(place / "trajectories" / "mtt-real")
    return (
        Step(
            "matching",
            f"Gradient and attention matching, {ipc} per class, from real images and from noise",
            "compare_starts",
            (*common, "--methods", "dc,datadam", "--ipc", ipc),
        ),
        Step(
            "trajectories",
            "Trajectory matching and PAD, 1 per class, from real images and from noise",
            "compare_starts",
            (*common, "--methods", "mtt,pad", "--ipc", "1"),
        ),
        Step("cost", "All real images beside the distilled set", "cost", (real,), ("matching",)),
        Step(
            "cost-resnet",
            f"The same with {resnet}",
            "cost",
            (real, "--network", resnet),
            ("matching",),
        ),
        Step(
            "architectures",
            "Other networks on the sets",
            "cross_architecture",
            (real, noise, trajectories, "--networks", f"ConvNet,AlexNet,{resnet}", *short),
            ("matching", "trajectories"),
        ),
        Step(
            "search",
            "Architecture search on the set",
            "nas",
            (attention, "--resume"),
            ("matching",),
        ),
        Step(
            "continual-seed",
            "Continual learning, trained on part after part and then on the memory",
            "continual",
            (attention, "--protocol", "seed"),
            ("matching",),
        ),
        Step(
            "continual-papers",
            "Continual learning, trained on the memory alone",
            "continual",
            (attention, "--protocol", "papers"),
            ("matching",),
        ),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the script and returns its exit code."""
    tune_xla()
    return run_script(lambda stopper: _work(arguments, stopper), "the same command")


def _work(arguments: Sequence[str] | None, stopper: Stopper) -> None:
    began = time.monotonic()
    parser = Parser(prog="reproduce.py", description=DESCRIPTION)
    parser.add_argument(
        "--dataset",
        default="digits",
        metavar="NAME,NAME",
        help=f"one or several of {', '.join(DATASETS)} (default: digits)",
    )
    parser.add_argument(
        "--minutes",
        type=number,
        metavar="X",
        help="stop after so many; the same command goes on from there (default: no limit)",
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--preset", metavar="quick|paper", help="default: quick on a CPU, else paper"
    )
    parser.add_argument(
        "--out",
        default="checkpoints/reproduction",
        metavar="DIR",
        help="default: checkpoints/reproduction",
    )
    parser.add_argument("--list", action="store_true", help="print the commands, run nothing")
    add_data_dir(parser)
    add_json(parser)
    given = parser.parse_args(arguments)

    from jdd import storage
    from jdd.methods import presets
    from jdd.report.console import say

    names = [name for name in given.dataset.split(",") if name]
    for name in names:
        if name not in DATASETS:
            raise unknown("data set", name, DATASETS)
    if not names or len(set(names)) < len(names):
        raise UserError(f"--dataset '{given.dataset}': name each data set once")
    if given.minutes is not None and not given.minutes > 0:
        raise UserError(f"--minutes {given.minutes:g}: it must be above 0")
    if given.preset is not None and given.preset not in presets.NAMES:
        raise unknown("preset", given.preset, presets.NAMES)
    out = Path(given.out)
    ends = None if given.minutes is None else began + 60 * given.minutes
    further = ["--seed", str(given.seed)]
    if given.data_dir:
        further += ["--data-dir", given.data_dir]
    plan = [(name, step) for name in names for step in steps(name, out / name, given.preset)]

    def command(name: str, step: Step) -> list[str]:
        return [*step.arguments, *further, "--out", str(out / name / step.name)]

    if given.list:
        for name, step in plan:
            print(shlex.join(["python", f"bin/{step.script}.py", *command(name, step)]))
        return
    outcomes: dict[tuple[str, str], str] = {}
    with storage.locked(out):
        for position, (name, step) in enumerate(plan, start=1):
            title = f"[{position}/{len(plan)}] {name}: {step.title}"
            if (
                stopper()
                or (ends is not None and time.monotonic() > ends)
                or any(outcomes[name, needed] != "done" for needed in step.needs)
            ):
                outcomes[name, step.name] = "left"
            elif _is_done(out / name / step.name, step, command(name, step)):
                say(f"{title}: done before")
                outcomes[name, step.name] = "done"
            else:
                say(title)
                outcomes[name, step.name] = _run(
                    out / name / step.name, step, command(name, step), stopper, ends
                )
        storage.write_text(out / "RESULTS.md", page(out, names, plan, outcomes))
    if stopper():
        raise Interrupted
    count = {kind: list(outcomes.values()).count(kind) for kind in ("done", "left", "failed")}
    seconds = round(time.monotonic() - began, 2)
    print(
        f"{count['done']} of {len(plan)} tasks done, {count['left']} left, {count['failed']} "
        f"failed: {out / 'RESULTS.md'}, {seconds:.0f} s"
    )
    if given.json:
        print_json(
            {
                "task": "reproduce",
                "datasets": names,
                "seed": given.seed,
                "tasks": {
                    name: {step.name: outcomes[name, step.name] for of, step in plan if of == name}
                    for name in names
                },
                "results": str(out / "RESULTS.md"),
                "seconds": seconds,
            }
        )
    if count["failed"]:
        failed = [step.name for name, step in plan if outcomes[name, step.name] == "failed"]
        raise UserError(f"{', '.join(failed)} failed: what they said is above")


def _is_done(place: Path, step: Step, command: list[str]) -> bool:
    """Whether this very command has left its result there."""
    try:
        return bool(json.loads((place / "command.json").read_text()) == [step.script, *command])
    except (OSError, ValueError):
        return False


def _run(place: Path, step: Step, command: list[str], stopper: Stopper, ends: float | None) -> str:
    """Runs a step in a process of its own: "done", "left" where it was stopped, or "failed"."""
    from jdd import storage

    program = f"import sys; from jdd.cli.{step.script} import main; sys.exit(main())"
    root = str(Path(jdd.__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    child = subprocess.Popen(
        [sys.executable, "-c", program, *command],
        stdout=sys.stderr.fileno(),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,  # a Ctrl-C reaches it through us, once
    )
    told = False
    try:
        while child.poll() is None:
            if not told and (stopper() or (ends is not None and time.monotonic() > ends)):
                child.terminate()
                told = True
            time.sleep(_POLL)
    except KeyboardInterrupt:
        child.kill()
        raise
    if child.returncode == 0:
        place.mkdir(parents=True, exist_ok=True)
        storage.write_json(place / "command.json", [step.script, *command])
        return "done"
    return "left" if told else "failed"


def page(
    out: Path,
    names: Sequence[str],
    plan: Sequence[tuple[str, Step]],
    outcomes: dict[tuple[str, str], str],
) -> str:
    """RESULTS.md: for each data set the course projects' figures beside ours, then each task."""
    parts = [
        "# The tasks of two course projects",
        "",
        "Written by `python bin/reproduce.py`; not by hand. Each task's own page, table and "
        "picture lie in its directory.",
    ]
    for name in names:
        parts += ["", f"## {name}"]
        beside = _beside(out / name, name)
        if beside:
            parts += ["", "Test accuracy, %, there and here:", "", beside]
        for of, step in plan:
            if of != name:
                continue
            place = out / name / step.name
            parts += ["", f"### {step.title}", ""]
            if outcomes[name, step.name] != "done":
                words = {"left": "not reached yet: the same command goes on", "failed": "failed"}
                parts.append(f"*{words[outcomes[name, step.name]]}*")
                continue
            text = (place / f"{step.script}.md").read_text(encoding="utf-8")
            parts += [line for line in text.splitlines() if not line.startswith("# ")]
            for picture in sorted(place.glob("*.png")):
                parts += ["", f"![{step.title}]({picture.relative_to(out).as_posix()})"]
    return "\n".join(parts) + "\n"


def _beside(place: Path, dataset: str) -> str:
    from jdd.report import outcome

    scripts = {step.name: step.script for step in steps(dataset, place)}
    rows = []
    for words, there, step, way in _THERE.get(dataset, ()):
        here: Any = "–"
        path = place / step / f"{scripts[step]}.json"
        if path.exists():
            value: Any = json.loads(path.read_text())
            try:
                for part in way:
                    value = value[int(part)] if isinstance(value, list) else value[part]
                here = f"{100 * value:.1f}"
            except (KeyError, IndexError, TypeError):
                here = "–"
        rows.append([words, there, here])
    return outcome.table(["task", "there", "here"], rows) if rows else ""
