"""Every task of two course projects: which steps there are, and how they are run one by one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jdd import files
from jdd.errors import SettingError, UserError, nearest
from jdd.methods.presets import check_name
from jdd.tasks.processes import run_as_process

DATASETS = ("digits", "mnist", "cifar10", "mhist")
_LARGE = ("mnist", "cifar10")  # of more real images than two cores train large networks on
_RESNET = {"digits": "ResNet18BN_AP"}  # the one that fits 8×8 images; elsewhere ResNet18
# What two cores train in minutes on those: a large network on a part of the real images, by
# `cross_architecture`'s quick recipe for it; candidates on a part; fewer passes.
_QUICK: Mapping[str, Mapping[str, Any]] = {
    "cost-resnet": {
        "real_images": 6000,
        "real_epochs": 3,
        "epochs": 25,
        "batch_size": 25,
        "augmentation": "none",
    },
    "search": {"real_images": 2000},
    "continual-finetune": {"epochs": 3},
    "continual-gdumb": {"memory_epochs": 300},
}


@dataclass(frozen=True)
class Step:
    """One command of a reproduction."""

    name: str
    """also its directory"""
    title: str
    script: str
    sets: tuple[Path, ...] = ()
    """runs whose sets it takes"""
    settings: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    """steps whose results it takes"""


@dataclass(frozen=True)
class Job:
    """A step on one dataset."""

    dataset: str
    step: Step
    directory: Path
    command: tuple[str, ...]
    """its script's name, then the arguments; what makes it the same job again"""

    @property
    def title(self) -> str:
        """In words."""
        return f"{self.dataset}: {self.step.title}"

    def is_done(self) -> bool:
        """Whether this very command has left its result in the directory."""
        try:
            return bool(files.read_json(self._record) == list(self.command))
        except UserError:
            return False

    def record(self) -> None:
        """Makes `is_done` true."""
        self.directory.mkdir(parents=True, exist_ok=True)
        files.write_json(self._record, list(self.command))

    @property
    def _record(self) -> Path:
        return self.directory / "command.json"


def steps(
    dataset: str, place: Path, preset: str | None = None, quick: bool = False
) -> tuple[Step, ...]:
    """The tasks on one dataset, in order.

    Args:
      dataset: one of `DATASETS`.
      place: where the dataset's steps have their directories.
      preset: of the distilling; None for the machine's own.
      quick: for two cores: ResNet-18 and the search on a part of the real images, fewer epochs.
    """
    ipc = 50 if dataset == "mhist" else 10
    common: dict[str, Any] = {"dataset": dataset}
    common |= {"image_size": 128} if dataset == "mhist" else {}
    common |= {"preset": preset} if preset else {}
    starts = "from real images and from noise"
    uses = _uses(dataset, place)
    return (
        Step(
            "matching",
            f"Gradient and attention matching, {ipc} per class, {starts}",
            "compare_starts",
            settings={**common, "methods": "dc,datadam", "ipc": ipc},
        ),
        Step(
            "trajectories",
            f"Trajectory matching and PAD, 1 per class, {starts}",
            "compare_starts",
            settings={**common, "methods": "mtt,pad", "ipc": 1},
        ),
        *(_shorter(step) if quick and dataset in _LARGE else step for step in uses),
    )


def _shorter(step: Step) -> Step:
    """A step in its time on two cores."""
    short = _QUICK.get(step.name, {})
    part = ""
    if "real_images" in short:
        epochs = f", {short['real_epochs']} epochs" if "real_epochs" in short else ""
        part = f" ({short['real_images']:,} real images{epochs})"
    return replace(step, title=step.title + part, settings={**step.settings, **short})


def _uses(dataset: str, place: Path) -> tuple[Step, ...]:
    """What is done with the sets."""
    resnet = _RESNET.get(dataset, "ResNet18")
    real, noise = (place / "matching" / f"dc-{start}" for start in ("real", "noise"))
    attention = place / "matching" / "datadam-real"
    trajectories = place / "trajectories" / "mtt-real"
    networks: dict[str, Any] = {"networks": f"ConvNet,AlexNet,{resnet}"}
    if dataset == "digits":  # all of it within half an hour
        networks["epochs"] = 150
    title = "All real images compared with the distilled set"
    learning = "Continual learning, trained on"
    need = ("matching",)
    return (
        Step("cost", title, "cost", (real,), {}, need),
        Step("cost-resnet", f"{title}, {resnet}", "cost", (real,), {"network": resnet}, need),
        Step(
            "architectures",
            "Other networks on the sets",
            "cross_architecture",
            (real, noise, trajectories),
            networks,
            ("matching", "trajectories"),
        ),
        Step(
            "continual-finetune",
            f"{learning} part after part and then on the memory",
            "continual",
            (attention,),
            {"protocol": "finetune"},
            need,
        ),
        Step(
            "continual-gdumb",
            f"{learning} the memory alone",
            "continual",
            (attention,),
            {"protocol": "gdumb"},
            need,
        ),
        Step(
            "search", "Architecture search on the set", "nas", (attention,), {"resume": True}, need
        ),
    )


def plan(
    datasets: Sequence[str],
    out: Path,
    preset: str | None,
    settings: Mapping[str, Any],
    arguments: Callable[[Mapping[str, Any]], Sequence[str]],
    quick: bool = False,
) -> list[Job]:
    """The steps on all datasets, one dataset after another.

    Args:
      datasets: their names.
      out: each has a directory of its name there, and each step one below that.
      preset: see `steps`.
      settings: further ones of all steps.
      arguments: settings → a script's arguments.
      quick: see `steps`.

    Raises:
      UserError: the course projects do not have a dataset; or an unknown preset.
    """
    if preset is not None:
        check_name(preset)
    for name in datasets:
        if name not in DATASETS:
            raise SettingError("dataset", f"'{name}'", nearest(name, DATASETS))
    jobs = []
    for name in datasets:
        for step in steps(name, out / name, preset, quick):
            place = out / name / step.name
            of_step = arguments({**step.settings, **settings, "out": place})
            command = (step.script, *map(str, step.sets), *of_step)
            jobs.append(Job(name, step, place, command))
    return jobs


def by_dataset(jobs: Sequence[Job], outcomes: Sequence[str]) -> dict[str, dict[str, str]]:
    """What has become of each step, see `run_all`, by dataset and the step's name."""
    values: dict[str, dict[str, str]] = {}
    for job, outcome in zip(jobs, outcomes, strict=True):
        values.setdefault(job.dataset, {})[job.step.name] = outcome
    return values


def run_all(
    jobs: Sequence[Job],
    should_stop: Callable[[], bool],
    say: Callable[[str], None],
) -> list[str]:
    """Runs the jobs one after another, each in a process of its own.

    Args:
      jobs: those of a dataset in the order of `steps`.
      should_stop: asked again and again; once it is true the job at work is told to end, and no
        other begins.
      say: told which job begins.

    Returns:
      For each job "done" (now, or by an earlier command), "left" where it was stopped or what it
      needs is not done, or "failed".
    """
    outcomes: dict[tuple[str, str], str] = {}
    for position, job in enumerate(jobs, start=1):
        title = f"[{position}/{len(jobs)}] {job.title}"
        ready = all(outcomes[job.dataset, name] == "done" for name in job.step.needs)
        outcome = "left"
        if ready and job.is_done():
            say(f"{title}: done before")
            outcome = "done"
        elif ready and not should_stop():
            say(title)
            outcome = run_as_process(job.step.script, job.command[1:], should_stop)
            if outcome == "done":
                job.record()
        outcomes[job.dataset, job.step.name] = outcome
    return list(outcomes.values())
