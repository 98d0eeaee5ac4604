"""Settings for data that nobody has published any for: whose are borrowed, and what is changed.

Chosen by the size of the images, then their channels, then the number of classes; changed where
the images are fewer or larger than those that the settings were found on.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from jdd.data.shapes import SHAPES, Shape, Traits

_FEWEST = 16  # examples in an expert's batch
_FULL_DATA = 40_000  # images seen in all by the network on all real images, where there are fewer
_MOST_EPOCHS = 60  # of that network
_USED = 0.9  # of the training images: the rest is held out
_SMALL = 16  # pixels of a side below which an image holds no smaller ones
_NARROW = {"width": 16}  # of quick settings from five poolings on, as MHIST's
_NARROW_FROM = 5


def depth_for(side: int) -> int:
    """Blocks of a ConvNet, each of which halves its images: 3 at 32 pixels, 4 at 64, 5 at 128."""
    return max(min(2, int(math.log2(max(side, 1)))), round(math.log2(max(side, 1))) - 2, 1)


def nearest(sources: Iterable[str], traits: Traits, fallback: str) -> str | None:
    """Of the datasets with settings, that whose images are most like these; None: none is known."""

    def distance(name: str) -> tuple[int, bool, float, bool]:
        shape = SHAPES[name]
        size = abs(depth_for(shape.side) - depth_for(traits.side))
        classes = abs(math.log(shape.classes / traits.classes))
        return size, shape.channels != traits.channels, classes, name != fallback

    return min((name for name in sources if name in SHAPES), key=distance, default=None)


def changes(
    values: Mapping[str, Any],
    defaults: Mapping[str, Any],
    traits: Traits,
    source: str,
    *,
    quick: bool,
    of_all_classes: bool,
) -> dict[str, Any]:
    """What borrowed settings are changed to.

    Args:
      values: the borrowed settings.
      defaults: of the settings that they say nothing of.
      traits: the images at hand.
      source: the dataset that the settings are of.
      quick: whether they are to suit a CPU.
      of_all_classes: whether a batch of real images is of all classes, not of one.
    """
    shape, before = SHAPES.get(source), {**defaults, **values}
    changed: dict[str, Any] = {"depth": depth_for(traits.side)}
    if quick and changed["depth"] >= _NARROW_FROM:
        changed |= _NARROW
    count = traits.images if of_all_classes else traits.smallest
    limits = {
        "batch_real": max(1, int(_USED * count)),
        "classes_syn": traits.classes,
    }
    for name, limit in limits.items():
        if before.get(name, 0) > limit:
            changed[name] = limit
    if before.get("real_images", 0) >= _USED * traits.images:
        changed["real_images"] = 0
    if shape is not None and "train_epochs" in before:
        changed |= _expert_batch(before, traits, shape)
    # The gradient to a pixel falls about as images grow: measured from 32 to 128 pixels.
    is_larger = shape is not None and depth_for(traits.side) != depth_for(shape.side)
    if shape is not None and is_larger and "mom_img" in before:
        changed["lr_img"] = float(f"{before['lr_img'] * traits.side / shape.side:.3g}")
    if traits.side < _SMALL and before.get("factor", 1) > 1:
        changed["factor"] = 1
    if shape is not None and before.get("coefficients"):  # the same share of the pixels
        share = before["coefficients"] / shape.side**2
        changed["coefficients"] = max(1, round(share * traits.side**2))
    epochs = min(_MOST_EPOCHS, math.ceil(_FULL_DATA / max(1, traits.images)))
    if quick and before["full_data_epochs"] and epochs > before["full_data_epochs"]:
        changed["full_data_epochs"] = epochs
    return {name: value for name, value in changed.items() if before.get(name) != value}


def _expert_batch(before: Mapping[str, Any], traits: Traits, shape: Shape) -> dict[str, Any]:
    """A batch of experts of which a pass has about as many steps as one had for the source, and the
    steps of the same part of a pass."""
    theirs = min(before["real_images"] or shape.train, int(_USED * shape.train))
    ours = min(before["real_images"] or traits.images, int(_USED * traits.images))
    steps = max(1, theirs // before["batch_train"])
    batch = min(before["batch_train"], max(_FEWEST, ours // steps))
    changed: dict[str, Any] = {"batch_train": batch}
    if before.get("epoch_steps"):  # the same part of a pass
        part = before["epoch_steps"] / (theirs / before["batch_train"])
        changed["epoch_steps"] = max(1, int(part * ours / batch))
    return changed
