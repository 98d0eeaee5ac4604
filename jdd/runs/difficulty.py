"""The difficulty of a dataset's real training images, as a run of its own."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jdd import data, difficulty, locks
from jdd.data import Dataset, Split
from jdd.difficulty import DifficultySpec
from jdd.errors import SettingError, UserError
from jdd.runs.experts import Stop, difficulty_of
from jdd.runs.problem import create_network
from jdd.runs.settings import RunSettings


class Scored(NamedTuple):
    """Images with their scores."""

    spec: DifficultySpec
    dataset: Dataset
    images: Split
    """those that have a score"""
    scores: np.ndarray
    """float32 `(n,)`, the larger the harder"""
    out: Path

    def ranks(self) -> np.ndarray:
        """See `jdd.difficulty.ranks`."""
        return difficulty.ranks(self.scores, self.images.labels)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON: what was scored, how, and the scores in a few numbers."""
        of_class = {
            name: float(np.mean(self.scores[self.images.labels == label]))
            for label, name in enumerate(self.dataset.class_names)
            if np.any(self.images.labels == label)
        }
        return {
            "dataset": self.spec.dataset,
            "score": self.spec.settings.score,
            "images": len(self.images),
            "mean": float(self.scores.mean()),
            "quantiles": np.quantile(self.scores, [0, 0.25, 0.5, 0.75, 1]).tolist(),
            "mean_of_class": of_class,
            "out": str(self.out),
            **self.spec.to_json(),
        }


def score_images(
    settings: RunSettings,
    out: Path | None,
    data_dir: str | None,
    should_stop: Stop,
    *,
    wait: bool = False,
) -> Scored:
    """Scores the training images that a run with these settings may use; stored in `out`/scores.

    Args:
      settings: of these, dataset, network, `difficulty`, `held_out` and `real_images` matter.
      out: where to; by default a directory for each way of scoring under checkpoints/.
      data_dir: where the dataset's files are.
      should_stop: asked often; once it is true `Interrupted` is raised, and nothing is stored.
      wait: wait for another process that writes to `out`, instead of refusing.

    Raises:
      UserError: something in the settings, the data or the directory that the user can mend.
    """
    loop, held_out = settings.loop, settings.evaluation.held_out
    dataset = data.load(settings.dataset, data_dir, loop.image_size or None, loop.preprocessing)
    images, _ = data.hold_out(dataset.train, held_out, seed=0)
    count = settings.experts.real_images
    if count > len(images):
        raise SettingError("real_images", count, f"the training split has {len(images)} here")
    if count:
        images = data.subset(images, count, seed=0)
    network = create_network(settings.network, dataset, **settings.options)
    spec = DifficultySpec(
        dataset=settings.dataset,
        preprocessing=dataset.preprocess.spec(),
        network=settings.network,
        options=settings.options,
        held_out=held_out,
        real_images=count,
        settings=settings.difficulty,
        fingerprint=dataset.fingerprint,
    )
    name = f"{spec.settings.score}-{spec.mark()}"
    if out is None:
        out = Path("checkpoints") / data.short_name(settings.dataset) / "difficulty" / name
    for held, what in (("settings.json", "a run"), ("store.json", "experts")):
        if (out / held).exists():
            raise UserError(f"`out` {out}: it holds {what}, name another directory")
    with locks.locked(out, wait_until=should_stop if wait else None):
        scores = difficulty_of(out / "scores", spec, network, dataset, images, should_stop)
    return Scored(spec, dataset, images, scores, out)
