"""Parts of a split, stratified by class."""

import numpy as np

from jdd.data.dataset import Split
from jdd.errors import SettingError, UserError


def hold_out(
    split: Split,
    fraction_or_count: float | int,
    seed: int,
    *,
    whose: str = "`held_out`",
    otherwise: str = "",
) -> tuple[Split, Split]:
    """(train, validation): a part of the split held out, stratified by class.

    Args:
      split: what is divided; both parts keep its order.
      fraction_or_count: a fraction in (0, 1), or a whole number of images.
      seed: the same one gives the same division.
      whose: what an error names: the setting, or the file.
      otherwise: what else an error says to do.

    Raises:
      UserError: nothing, or every image of a class, would be held out.
    """
    if isinstance(fraction_or_count, float):
        if not 0.0 < fraction_or_count < 1.0:
            raise UserError(f"validation fraction {fraction_or_count}: give one between 0 and 1")
        count = max(1, round(fraction_or_count * len(split)))
    else:
        count = fraction_or_count
    present = np.bincount(split.labels)
    most = int(np.maximum(present - 1, 0).sum())
    if not 1 <= count <= most:
        raise UserError(
            f"{whose}: cannot hold out {count} of {len(split)} images, as "
            + (f"at most {most} leave" if most else "none leaves")
            + " one of each class"
            + (f": {otherwise}" if otherwise else "")
        )
    chosen = _stratified(split.labels, count, seed, keep=1)
    return _part(split, ~chosen), _part(split, chosen)


def subset(split: Split, count: int, seed: int) -> Split:
    """`count` images of a split, stratified by class, in its order.

    Raises:
      UserError: fewer than one, or more than there are.
    """
    if not 1 <= count <= len(split):
        raise SettingError("real_images", count, f"from 1 to {len(split)}, as many as there are")
    return _part(split, _stratified(split.labels, count, seed, keep=0))


def _part(split: Split, mask: np.ndarray) -> Split:
    return Split(split.images[mask], split.labels[mask])


def _stratified(labels: np.ndarray, count: int, seed: int, keep: int) -> np.ndarray:
    """A mask (n,) over `count` images, distributed over the classes as all are.

    At least `keep` of each class stay out and, where `count` allows, at least one comes in.
    """
    sizes = np.bincount(labels)
    most = np.maximum(sizes - keep, 0)
    least = np.minimum(most, 1) if count >= np.count_nonzero(most) else np.zeros_like(sizes)
    quota = count * sizes / sizes.sum()
    take = np.clip(np.floor(quota).astype(np.int64), least, most)
    # Rounding down leaves some over, the limits can add some: settle them one by one where a
    # class is furthest from its quota.
    while (difference := count - int(take.sum())) != 0:
        step = 1 if difference > 0 else -1
        movable = take < most if step > 0 else take > least
        take[np.argmax(np.where(movable, step * (quota - take), -np.inf))] += step
    generator = np.random.default_rng(seed)
    mask = np.zeros(len(labels), bool)
    for label, count_of_class in enumerate(take):
        mask[generator.permutation(np.flatnonzero(labels == label))[:count_of_class]] = True
    return mask
