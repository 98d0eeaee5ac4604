"""Segments of expert trajectories, drawn ahead of their use."""

import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from jdd.errors import SettingError
from jdd.experts.store import ExpertStore


class Segment(NamedTuple):
    """Pieces of expert trajectories: where the student starts, and where it should arrive.

    Both are parameter pytrees in Flax layout whose leaves have a leading axis of segments.
    """

    start: Any
    target: Any


@dataclass(frozen=True)
class SegmentWindow:
    """What a method asks of its segments.

    They start from an epoch of the window from `min_start_epoch` up to, but not including, an end.
    DATM's window grows: its end is `initial_max_start_epoch` at the first iteration and has grown
    evenly to `max_start_epoch` by iteration `expansion_end`.
    """

    expert_epochs: int
    """from a segment's start to its target"""
    max_start_epoch: int
    min_start_epoch: int = 0
    initial_max_start_epoch: int = 0
    """0: as at last"""
    expansion_end: int = 0
    segments: int = 1
    """an update"""

    def check(self, train_epochs: int) -> None:
        """Raises `SettingError` where a segment would reach past the end of its expert."""
        most = train_epochs - self.expert_epochs + 1
        if most < 1:
            raise SettingError(
                "expert_epochs",
                self.expert_epochs,
                f"more than the experts' `train_epochs` {train_epochs}",
            )
        if self.max_start_epoch > most:
            raise SettingError(
                "max_start_epoch",
                self.max_start_epoch,
                f"with `expert_epochs` {self.expert_epochs} it reaches past the experts' "
                f"{train_epochs} epochs: at most {most} here, or more `train_epochs`",
            )

    def max_start_at(self, iteration: int) -> int:
        """The epoch that segments of this iteration start before."""
        if iteration >= self.expansion_end:
            return self.max_start_epoch
        first = self.initial_max_start_epoch or self.max_start_epoch
        return first + (self.max_start_epoch - first) * iteration // self.expansion_end


class SegmentSampler:
    """Draws segments for each iteration, in a thread of its own, ahead of their use."""

    def __init__(
        self, store: ExpertStore, window: SegmentWindow, *, experts: int, seed: int
    ) -> None:
        """Raises `SettingError` where the window reaches past the end of the experts."""
        window.check(store.spec.settings.train_epochs)
        self._store, self._window = store, window
        self._experts, self._seed = experts, seed

    def draw(self, iteration: int) -> Segment:
        """The segments of `iteration`: a function of it and the seed, so a resumed run agrees."""
        window, rng = (
            self._window,
            np.random.default_rng([self._seed, zlib.crc32(b"segments"), iteration]),
        )
        pairs = []
        for _ in range(window.segments):
            expert = int(rng.integers(self._experts))
            start = int(rng.integers(window.min_start_epoch, window.max_start_at(iteration)))
            pairs.append((expert, start))
        starts = [self._store.read(e, s) for e, s in pairs]
        targets = [self._store.read(e, s + window.expert_epochs) for e, s in pairs]
        return Segment(_stack(starts), _stack(targets))

    def chunks(self, first: int, last: int, size: int) -> Iterator[Segment]:
        """Segments of iterations `first` … `last` − 1, `size` of them stacked on a leading axis."""

        def load(at: int) -> Segment:
            stacked: Segment = _stack([self.draw(i) for i in range(at, min(at + size, last))])
            return stacked

        with ThreadPoolExecutor(1) as pool:
            starts = range(first, last, size)
            ahead = [pool.submit(load, at) for at in starts[:2]]
            for at in starts[2:]:
                yield ahead.pop(0).result()
                ahead.append(pool.submit(load, at))
            for future in ahead:
                yield future.result()


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
