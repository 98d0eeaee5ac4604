"""Figures of merit of several networks on one set of test images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdd import records


@dataclass(frozen=True)
class Accuracy:
    """Test accuracies of several fresh networks, fractions of 1.

    Data of two classes, where one may be much larger than the other as in MHIST, have two figures
    more: balanced accuracy, the mean of the two classes' own accuracies, and the area under the ROC
    curve for the second class, ranked by the difference of its logit and the first's.
    """

    values: tuple[float, ...]
    balanced: tuple[float, ...] = ()
    """balanced accuracies; none but for two classes"""
    auc: tuple[float, ...] = ()
    """areas under the ROC curve; none but for two classes"""
    diverged: int = 0
    """how many of the networks give no finite number, which makes their figures those of a guess"""

    @property
    def mean(self) -> float:
        """Their mean."""
        return float(np.mean(self.values))

    @property
    def std(self) -> float:
        """Their standard deviation, as the papers give it (divided by n, 0 for one network)."""
        return float(np.std(self.values))

    @property
    def criterion(self) -> float:
        """What sets are chosen by: balanced accuracy where there is one, else accuracy; the mean.

        Plain accuracy would take a set that only ever teaches the larger class for a good one.
        """
        return float(np.mean(self.balanced or self.values))

    def __str__(self) -> str:
        return in_words(self.to_json(), several=len(self.values) > 1)

    def to_json(self) -> dict[str, Any]:
        """Fields of a `result.json`."""
        figures = {
            "accuracy_mean": self.mean,
            "accuracy_std": self.std,
            "accuracies": list(self.values),
        }
        for name, values in (("balanced_accuracy", self.balanced), ("auc", self.auc)):
            if values:
                figures[f"{name}_mean"] = float(np.mean(values))
                figures[f"{name}_std"] = float(np.std(values))
                figures[f"{name}_values"] = list(values)
        if self.diverged:
            figures["diverged"] = self.diverged
        return figures

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Accuracy":
        """The inverse of `to_json`; raises `ValueError` for what it would not give."""
        fields = {"values": value.get("accuracies", ()), "diverged": value.get("diverged", 0)}
        for name, key in (("balanced", "balanced_accuracy"), ("auc", "auc")):
            if f"{key}_mean" in value:
                fields[name] = value.get(f"{key}_values", [value[f"{key}_mean"]])
        made = records.build(cls, fields, "accuracies.")
        if not made.values or not all(0 <= each <= 1 for each in made.values):
            raise ValueError("'accuracies' are not fractions of 1, one or more")
        if not 0 <= made.diverged <= len(made.values):
            raise ValueError("'diverged' is not how many of the networks did")
        return made


def in_words(figures: Mapping[str, Any], several: bool = True) -> str:
    """The fields that `Accuracy.to_json` gives, for a reader: "98.3 ± 0.2 %".

    Data of two classes: "68.1 ± 0.9 %, balanced accuracy 64.0 ± 1.1 %, AUC 0.712 ± 0.010". Where
    networks diverged, that is the end of it: "9.8 ± 0.0 %, 5 of 5 networks diverged".

    Args:
      figures: the fields.
      several: whether they are of several networks, and the deviation worth a mention.
    """

    def figure(name: str, scale: int, digits: int) -> str:
        deviation = f" ± {scale * figures[f'{name}_std']:.{digits}f}" if several else ""
        return f"{scale * figures[f'{name}_mean']:.{digits}f}{deviation}"

    parts = [figure("accuracy", 100, 1) + " %"]
    if "auc_mean" in figures:
        parts += [f"balanced accuracy {figure('balanced_accuracy', 100, 1)} %"]
        parts += [f"AUC {figure('auc', 1, 3)}"]
    if figures.get("diverged"):
        parts += [f"{figures['diverged']} of {len(figures['accuracies'])} networks diverged"]
    return ", ".join(parts)


def measure(logits: Sequence[jax.Array], labels: jax.Array) -> Accuracy:
    """The figures of several networks.

    Args:
      logits: of each network, `(n, classes)`.
      labels: int32 `(n,)`.
    """
    values = tuple(float(jnp.mean(jnp.argmax(one, axis=-1) == labels)) for one in logits)
    diverged = sum(not bool(jnp.isfinite(one).all()) for one in logits)
    truth = np.asarray(labels)
    if logits[0].shape[-1] != 2 or len(np.unique(truth)) != 2:
        return Accuracy(values, diverged=diverged)
    two = [_of_two_classes(np.asarray(one), truth) for one in logits]
    balanced, auc = (tuple(column) for column in zip(*two, strict=True))
    return Accuracy(values, balanced, auc, diverged)


def _of_two_classes(logits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    balanced = balanced_accuracy_score(labels, logits.argmax(-1))
    rank = logits[:, 1].astype(np.float64) - logits[:, 0]
    # A network that diverged ranks nothing.
    auc = roc_auc_score(labels, rank) if np.isfinite(rank).all() else 0.5
    return float(balanced), float(auc)
