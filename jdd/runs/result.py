"""What a run has come to: one type, written once as `result.json`, read by tables and tasks."""

import dataclasses
import datetime
import os
import platform
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax

import jdd
from jdd import files, records
from jdd.distillation import Look
from jdd.evaluation import CHOICES
from jdd.training import Accuracy, Recipe


@dataclass(frozen=True)
class Figure:
    """How good one set is on the test images."""

    accuracy: Accuracy
    iteration: int
    validation_accuracy: float | None = None
    """on the validation split, by which the best set was chosen"""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        chosen = {"validation_accuracy": self.validation_accuracy}
        return {
            "iteration": self.iteration,
            **(chosen if self.validation_accuracy is not None else {}),
            **self.accuracy.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Figure":
        """The inverse of `to_json`; raises `ValueError` for what it would not give."""
        kept = {n: value[n] for n in ("iteration", "validation_accuracy") if n in value}
        return records.build(cls, {"accuracy": value, **kept})


@dataclass(frozen=True)
class RunResult:
    """A finished run; accuracies are fractions of 1, of the test images."""

    method: str
    dataset: str
    ipc: int
    classes: int
    init: str
    seed: int
    preset: str
    network: str
    options: Mapping[str, Any]
    iterations: int
    resumed_from: int
    best: Figure
    """the set that is best on the validation split"""
    final: Figure
    """the set of the last iteration"""
    recipe: Recipe
    storage: Mapping[str, Any] = field(default_factory=dict)
    """`numbers` that are stored, how many of them are soft `labels`, `images` that they decode to,
    and the settings of the storage"""
    is_coreset: bool = False
    random: Accuracy | None = None
    """as many random real images, by the same recipe"""
    plain: Accuracy | None = None
    """the best set, trained on without augmentation and with hard labels"""
    full_data: Accuracy | None = None
    """one network trained on all real images"""
    full_data_images: int = 0
    full_data_epochs: int = 0
    choose: str = "validation"
    """which set is the best: on images held out; or, as published, the last, or the best on test"""
    dropped_updates: int = 0
    curve: tuple[Look, ...] = ()
    """the evaluations on the validation split, in order"""
    expert_seconds: float = 0.0
    """of training the experts, whenever that was; 0 where there are none, or it is not known"""
    distilling_seconds: float = 0.0
    seconds: float = 0.0
    """of the command that ended the run"""
    together: int = 1
    """runs that were made side by side, each with its share of the seconds"""
    devices: int = 1
    device_kind: str = ""
    machine: str = ""
    command: str = ""
    """what makes the same run again"""
    out: str = ""
    note: str = ""
    """from where the preset borrows the run's settings"""
    version: str = jdd.__version__
    date: str = field(
        default_factory=lambda: datetime.datetime.now(datetime.UTC).date().isoformat()
    )

    @property
    def images(self) -> int:
        """Synthetic images in all."""
        return self.ipc * self.classes

    def stored(self, what: str = "numbers") -> int | None:
        """How many `numbers` are stored, `labels` among them, or `images` they decode to; None
        where it is not known, or there are none."""
        count = self.storage.get(what)
        return count if isinstance(count, int) and count > 0 else None

    @property
    def label(self) -> str:
        """The method, and how its set stores more images than pixels would: "mtt, factor 2"."""
        factor, decoder = self.storage.get("factor", 1), self.storage.get("decoder", "pixels")
        more = [f"factor {factor}"] * (factor != 1) + [str(decoder)] * (decoder != "pixels")
        return ", ".join([self.method, *more])

    @property
    def full_data_words(self) -> str:
        """Such as "all 60,000 real images, 1 epoch"; the epochs are not known of older results."""
        count, epochs = self.full_data_images, self.full_data_epochs
        words = f", {epochs} epoch{'s' * (epochs > 1)}" if epochs else ""
        return f"all {count:,} real images{words}"

    @property
    def minutes(self) -> float:
        """Of distilling, compiling, training experts and evaluating on the validation split, none
        for a coreset; of the whole command where no more is known."""
        distilling = self.curve[-1].seconds if self.curve else self.distilling_seconds
        known = distilling or not self.iterations
        return (self.expert_seconds + distilling if known else self.seconds) / 60

    def to_json(self) -> dict[str, Any]:
        """As plain JSON; the best set's accuracies are at the top as well."""
        value = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        baselines: dict[str, Any] = {}
        if self.random is not None:
            baselines["random"] = self.random.to_json()
        if self.full_data is not None:
            figures = self.full_data.to_json()
            sizes = {"images": self.full_data_images, "epochs": self.full_data_epochs}
            baselines["full_data"] = {**figures, **sizes}
        if self.plain is not None:
            baselines["plain"] = self.plain.to_json()
        for name in ("random", "plain", "full_data", "full_data_images", "full_data_epochs"):
            del value[name]
        return {
            **value,
            **self.best.accuracy.to_json(),
            "options": dict(self.options),
            "best": self.best.to_json(),
            "final": self.final.to_json(),
            "recipe": self.recipe.to_json(),
            "curve": [look._asdict() for look in self.curve],
            "baselines": baselines,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "RunResult":
        """The inverse of `to_json`; results of jdd 0.1 are read too.

        Raises:
          ValueError: a field is wrong or missing; the message names it.
        """
        baselines = records.convert(Mapping[str, Any], value.get("baselines", {}), "baselines")
        full = baselines.get("full_data", baselines.get("whole"))
        names = {f.name for f in dataclasses.fields(cls)}
        older = {"version": "0.1", "date": "", "is_coreset": value.get("chosen", False)}
        fields = {
            **older,
            **{name: each for name, each in value.items() if name in names},
            "random": baselines.get("random"),
            "plain": baselines.get("plain"),
            "full_data": full,
        }
        if isinstance(full, Mapping):
            fields["full_data_images"] = full.get("images", 0)
            fields["full_data_epochs"] = full.get("epochs", 0)
        result = records.build(cls, fields)
        if result.choose not in CHOICES:
            raise ValueError(f"'choose' is {result.choose!r}")
        if not isinstance(result.storage.get("factor", 1), int):
            raise ValueError("'factor' is no whole number")
        try:
            shlex.split(result.command)
        except ValueError as error:
            raise ValueError(f"'command' is none ({error})") from None
        return result

    def save(self, path: Path) -> None:
        """Writes `result.json`."""
        files.write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> "RunResult":
        """Reads a `result.json`; raises `UserError` where it is missing, damaged or not a run's."""
        return records.load(path, cls)


def machine() -> str:
    """What it was measured on, such as "2 CPU cores, x86_64, JAX 0.10.2"."""
    device = jax.devices()[0]
    kind = device.device_kind
    if device.platform == "cpu":
        usable = getattr(os, "sched_getaffinity", None)
        count = len(usable(0)) if usable else os.cpu_count() or 1
        kind = f"{count} CPU core{'s' * (count > 1)}, {platform.machine()}"
    return f"{kind}, JAX {jax.__version__}"
