"""What a run shows on its way."""

import time
from pathlib import Path

from jdd.distillation import Listener
from jdd.evaluation import evaluated_on
from jdd.report import pictures
from jdd.report.console import ProgressBar, duration, say, warn
from jdd.runs.problem import Problem
from jdd.synthetic import SyntheticSet


class Watch(Listener):
    """Shows a run's events: lines, a bar, pictures."""

    def __init__(self, out: Path, problem: Problem, bar: ProgressBar | None, several: bool) -> None:
        self._bar = bar  # that of the first run, where there are several
        self._whose = f"seed {problem.settings.seed}, " * several
        self._images, self._preprocess = out / "images", problem.dataset.preprocess
        self._dropped, self._iterations = 0, problem.settings.iterations
        self._loss, self._best = "", ""
        self._began = time.monotonic()
        self._evaluated_on = evaluated_on(problem.settings.evaluation.choose)

    def updated(self, iteration: int, iterations: int, rows: list[dict[str, float]]) -> None:
        """Shows loss and, where there are any, step size and dropped updates."""
        text = self._loss = f"loss {rows[-1]['loss']:.4f}"
        if "learning_rate" in rows[-1]:
            text += f", step size {rows[-1]['learning_rate']:.4f}"
        if dropped := sum(row["dropped"] > 0 for row in rows):
            self._dropped += dropped
            warn(f"{self._whose}iteration {iteration}: {self._dropped} updates dropped so far")
        if self._bar is not None:
            self._bar.at(iteration, iterations, text)

    def evaluated(
        self, iteration: int, synthetic: SyntheticSet, accuracy: float, is_best: bool
    ) -> None:
        """Makes the picture, and sums up in a line how far the run is."""
        words, split = f"iteration {iteration}", self._evaluated_on
        if accuracy == accuracy:  # NaN where sets are not evaluated
            words += f": {100 * accuracy:.1f} % on {split}"
            best = "the best so far" if is_best else self._best
            self._best = f"best {100 * accuracy:.1f} % at {iteration}" if is_best else self._best
            spent = duration(time.monotonic() - self._began)
            of = f"iteration {iteration} of {self._iterations}: {100 * accuracy:.1f} % on {split}"
            say(self._whose + ", ".join(filter(None, (of, best, self._loss, spent))))
        path = self._images / f"{iteration:06d}.png"
        pictures.save_picture(path, synthetic, self._preprocess, words)
