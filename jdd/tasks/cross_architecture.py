"""Does a set serve networks that it was not made with? Each is trained on it and tested.

Zhao et al., "Dataset Condensation with Gradient Matching" (ICLR 2021), table 2; every later paper
has such a table.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import flax.linen as nn
import jax

from jdd import evaluation, networks
from jdd.errors import UserError
from jdd.evaluation import Accuracy, Progress
from jdd.recipe import Recipe
from jdd.synthetic import SyntheticSet
from jdd.training import TrainingData


@dataclass(frozen=True)
class Row:
    """How good a set is for one network."""

    accuracy: Accuracy
    seconds: float
    """training and testing all fresh networks of the kind, compilation included"""


def choose(
    names: Sequence[str],
    recipe: Recipe,
    num_classes: int,
    image_shape: tuple[int, int, int],
) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """The networks of a comparison.

    Args:
      names: what the user asked for; empty for all that there are.
      recipe: its network gets its options, the others have their own defaults.
      num_classes: how many logits.
      image_shape: `(h, w, c)`.

    Returns:
      The networks by name, the recipe's own first; and why others are left out, by name.

    Raises:
      UserError: an unknown name, a name twice, or nothing left.
    """
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise UserError(f"--networks names {twice} twice")
    wanted = names or sorted(networks.names(), key=lambda name: (name != recipe.network, name))
    chosen: dict[str, nn.Module] = {}
    skipped: dict[str, str] = {}
    for name in wanted:
        options = recipe.options if name == recipe.network else {}
        network = networks.create(name, num_classes, **options)
        if network.fits(image_shape):
            chosen[name] = network
        else:
            skipped[name] = f"does not fit {image_shape[0]}×{image_shape[1]} images"
    if not chosen:
        raise UserError(
            f"none of {', '.join(skipped)} fits {image_shape[0]}×{image_shape[1]} images"
        )
    return chosen, skipped


def compare(
    chosen: dict[str, nn.Module],
    recipe: Recipe,
    synthetic: SyntheticSet,
    test: TrainingData,
    key: jax.Array,
    repeats: int,
    learning_rate: jax.Array | None,
    progress: Callable[[str], Progress],
) -> dict[str, Row]:
    """Trains `repeats` fresh networks of each kind on the set and tests them.

    Args:
      chosen: networks by name.
      recipe: how to train each of them.
      synthetic: the set.
      test: real images, read once for each network.
      key: random key; each kind of network draws its own from it.
      repeats: fresh networks of each kind.
      learning_rate: the step size that the set has learned, in place of the recipe's.
      progress: name of a network → who is told the epochs trained.

    Returns:
      A row for each network, in the order of `chosen`.
    """
    rows = {}
    shown = TrainingData(synthetic.images, synthetic.labels)
    for name, network in chosen.items():
        began = time.monotonic()
        accuracy = evaluation.evaluate(
            network,
            replace(recipe, network=name),
            shown,
            test,
            key,
            repeats,
            learning_rate,
            progress(name),
        )
        rows[name] = Row(accuracy, time.monotonic() - began)
    return rows
