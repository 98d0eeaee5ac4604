"""What `score_difficulty.py` says and leaves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jdd import files
from jdd.data import Split
from jdd.report import pictures

PICTURE = "easiest-and-hardest.png"


def save(out: Path, result: Mapping[str, Any], images: Split, ranks: np.ndarray) -> None:
    """Writes a picture of the easiest and hardest images of each class, and `difficulty.json`.

    Args:
      out: the directory.
      result: as `jdd.runs.difficulty.Scored.to_json` gives it.
      images: those that have a score.
      ranks: `jdd.difficulty.ranks` of them.
    """
    pictures.save_extremes(out / PICTURE, images, ranks, int(images.labels.max()) + 1)
    files.write_json(out / "difficulty.json", result)


def summary(result: Mapping[str, Any]) -> str:
    """The same in words."""
    means, out = result["mean_of_class"], Path(result["out"])
    classes = sorted(means, key=lambda name: means[name])
    low, _, middle, _, high = result["quantiles"]
    return (
        f"{result['score']} of {result['images']} images of {result['dataset']}\n"
        f"  from {low:.3f} to {high:.3f}, median {middle:.3f}\n"
        f"  class {classes[0]} is the easiest, {classes[-1]} the hardest\n"
        f"scores: {out / 'scores'}\npicture: {out / PICTURE}"
    )
