"""Which steps' parameters are checkpointed, and in which order the others are recomputed.

Griewank and Walther, "Algorithm 799: revolve", ACM TOMS 2000.
"""

from functools import cache
from typing import NamedTuple

import numpy as np


class Move(NamedTuple):
    """The moves of the backward pass, one an entry; the place after the last is for discarding."""

    loads: np.ndarray  # (moves,) bool: whether parameters are loaded from a place first
    load: np.ndarray  # (moves,) int32, which
    store: np.ndarray  # (moves,) int32, the place that the parameters are put into then
    step: np.ndarray  # (moves,) int32, t: the parameters are θ_t
    returns: np.ndarray  # (moves,) bool: back over step t; else on to θ_{t+1}


@cache
def _best_split(steps: int, free: int) -> tuple[int, int]:
    """(steps recomputed, where the next checkpoint is) for the least of the former.

    To return over `steps` steps from a checkpoint, with `free` further places: advance to some m,
    store θ_m, return over the rest from there, then over the first m.
    """
    if steps == 1:
        return 0, 0
    if free == 0:
        return steps * (steps - 1) // 2, 0
    return min(
        (m + _best_split(steps - m, free - 1)[0] + _best_split(m, free)[0], m)
        for m in range(1, steps)
    )


def forward_plan(steps: int, checkpoints: int) -> np.ndarray:
    """The place that the forward pass puts each step's parameters into, int32 `(steps,)`."""
    places = np.full(steps, checkpoints, np.int32)
    at, left, place = 0, steps, 0
    while True:
        places[at] = place
        free = checkpoints - 1 - place
        if left == 1 or free == 0:
            return places
        _, ahead = _best_split(left, free)
        at, left, place = at + ahead, left - ahead, place + 1


@cache
def backward_plan(steps: int, checkpoints: int) -> Move:
    """The moves back over all steps, from the checkpoints of `forward_plan`."""
    moves: list[tuple[bool, int, int, int, bool]] = []
    places = forward_plan(steps, checkpoints)

    def advance(place: int, first: int, last: int) -> None:
        """Advances from θ_first, which is in `place`, to θ_last."""
        moves.extend((t == first, place, checkpoints, t, False) for t in range(first, last))

    def go_back(first: int, last: int, place: int) -> None:
        """Returns from θ_last to θ_first, which is in `place`; later places are free."""
        size, free = last - first, checkpoints - 1 - place
        if size == 1 or free == 0:
            for t in range(last - 1, first - 1, -1):
                advance(place, first, t)
                moves.append((first == t, place, checkpoints, t, True))
            return
        middle = first + _best_split(size, free)[1]
        if places[middle] != place + 1:
            advance(place, first, middle)
            begin = len(moves)
            go_back(middle, last, place + 1)
            loads, load, _, t, returns = moves[begin]
            # What the first move after it would load is what the parameters are.
            moves[begin] = (False, load, place + 1, t, returns)
            assert loads and load == place + 1
        else:
            go_back(middle, last, place + 1)
        places[middle] = -1  # its place is taken by others from here on
        go_back(first, middle, place)

    go_back(0, steps, 0)
    loads, load, store, step, returns = (np.array(column) for column in zip(*moves, strict=True))
    return Move(
        loads, load.astype(np.int32), store.astype(np.int32), step.astype(np.int32), returns
    )
