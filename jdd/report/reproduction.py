"""RESULTS.md of a reproduction: the course projects' figures with ours, then each task's page."""

from collections.abc import Sequence
from pathlib import Path

from jdd import files, records
from jdd.errors import UserError
from jdd.report.outcome import percent, table
from jdd.tasks.reproduction import Job

_MATCHING = "gradient matching, 10 per class, from"
_RESNET = "ResNet-18 on the set from"
_HALVES = "continual learning in halves"
# What the course projects measured, %, by dataset: task, figure there, step, way to our figure.
_PUBLISHED = {
    "mnist": (
        ("ConvNet on all real images", "99.41", "cost", "real.accuracy"),
        ("ResNet-18 on all real images", "99.58", "cost-resnet", "real.accuracy"),
        (f"{_MATCHING} real images", "83.3", "matching", "methods.dc.real.mean"),
        (f"{_MATCHING} noise", "82.0", "matching", "methods.dc.noise.mean"),
        (f"{_RESNET} real images", "60.0", "architectures", "sets.0.networks.ResNet18.mean"),
        (f"{_RESNET} noise", "54.7", "architectures", "sets.1.networks.ResNet18.mean"),
        (f"{_HALVES}, without a memory", "48.3", "continual-finetune", "final.none"),
        (f"{_HALVES}, then the distilled set", "76.3", "continual-finetune", "final.distilled"),
    ),
    "cifar10": (
        ("ConvNet on all real images", "80.61", "cost", "real.accuracy"),
        ("ResNet-18 on all real images", "82.16", "cost-resnet", "real.accuracy"),
        (f"{_MATCHING} real images", "35.9", "matching", "methods.dc.real.mean"),
        (f"{_MATCHING} noise", "34.7", "matching", "methods.dc.noise.mean"),
        ("trajectory matching, 1 per class", "21.9", "trajectories", "methods.mtt.real.mean"),
        ("ResNet-18 on that set", "14.7", "architectures", "sets.2.networks.ResNet18.mean"),
    ),
}
_UNDONE = {"left": "not reached yet: the same command resumes", "failed": "failed"}


def page(out: Path, jobs: Sequence[Job], outcomes: Sequence[str]) -> str:
    """All of it, as Markdown.

    Args:
      out: where the page will lie.
      jobs: those of a dataset one after another.
      outcomes: what has become of each, see `jdd.tasks.reproduction.run_all`.
    """
    parts = [
        "# The tasks of two course projects",
        "",
        "Written by `python bin/reproduce.py`; not by hand. Each task's own page, table and "
        "picture lie in its directory.",
    ]
    dataset = ""
    for job, outcome in zip(jobs, outcomes, strict=True):
        if job.dataset != dataset:
            dataset = job.dataset
            parts += ["", f"## {dataset}"]
            done = [job for job, of in zip(jobs, outcomes, strict=True) if of == "done"]
            if compared := _compared(dataset, [job for job in done if job.dataset == dataset]):
                parts += ["", "Test accuracy, %, there and here:", "", compared]
        parts += ["", f"### {job.step.title}", ""]
        parts += _results(out, job) if outcome == "done" else [f"*{_UNDONE[outcome]}*"]
    return "\n".join(parts) + "\n"


def _results(out: Path, job: Job) -> list[str]:
    """What a step's own page says, without its title, and its pictures."""
    content = files.read_bytes(job.directory / f"{job.step.script}.md")
    text = content.decode("utf-8", errors="replace")
    body = "\n".join(line for line in text.splitlines() if not line.startswith("# "))
    lines = body.strip().splitlines()
    for picture in sorted(job.directory.glob("*.png")):
        lines += ["", f"![{job.step.title}]({picture.relative_to(out).as_posix()})"]
    return lines


def _compared(dataset: str, jobs: Sequence[Job]) -> str:
    """The table of figures there and of these jobs; empty for a dataset that the projects did not
    have."""
    by_name = {job.step.name: job for job in jobs}
    rows = [
        [words, published, _figure(by_name[step], way) if step in by_name else "–"]
        for words, published, step, way in _PUBLISHED.get(dataset, ())
    ]
    return table(["task", "there", "here"], rows) if rows else ""


def _figure(job: Job, way: str) -> str:
    """A figure of a step's result, and of how many real images; a dash where there is none."""
    try:
        value = files.read_json(job.directory / f"{job.step.script}.json")
        for part in way.split("."):
            value = value[int(part)] if isinstance(value, list) else value[part]
        images = job.step.settings.get("real_images")
        words = f" ({images:,} images)" if images and way.startswith("real.") else ""
        return percent(records.convert(float, value, way)) + words
    except (UserError, KeyError, IndexError, TypeError, ValueError, OverflowError):
        return "–"
