"""Does a set serve networks that it was not made with? Each is trained on it and tested.

Zhao et al., "Dataset Condensation with Gradient Matching" (ICLR 2021), table 2; every later paper
has such a table.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax

from jdd import networks
from jdd.data import Dataset, DeviceData, fingerprint
from jdd.errors import UserError, unknown_value
from jdd.evaluation import Progress, train_and_test
from jdd.networks import NetworkLike
from jdd.runs.problem import read_set
from jdd.synthetic import SyntheticSet
from jdd.training import Accuracy, Recipe

QUICK = {
    "AlexNet": (True, 600),
    "AlexNetBN": (True, 240),
    "LeNet": (False, 1000),
    "MLP": (True, 600),
    "ResNet18": (False, 200),
    "ResNet18_AP": (False, 200),
    "ResNet18BN": (True, 100),
    "ResNet18BN_AP": (True, 100),
    "VGG11": (False, 400),
    "VGG11BN": (True, 160),
    "WideConvNet": (True, 400),
}
"""Whether a network learns with the set's augmentation, and in how many steps."""
_RATES = {"WideConvNet": 0.05}  # of SGD, for the set's: without a norm it learns slowly
_BATCH = 25  # images a step; of a hundred in one step such networks learn a few times as slowly


@dataclass(frozen=True)
class Row:
    """How good a set is for one network."""

    accuracy: Accuracy
    seconds: float
    """training and testing all fresh networks of the kind, compilation included"""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {
            "mean": self.accuracy.mean,
            "std": self.accuracy.std,
            "accuracies": list(self.accuracy.values),
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True)
class Plan:
    """What one set is tried with."""

    synthetic: SyntheticSet
    recipes: Mapping[str, Recipe]
    """how each network is trained, by name"""
    networks: Mapping[str, NetworkLike]
    """by name, the recipe's own first"""
    skipped: Mapping[str, str]
    """why others are left out, by name"""


def load_sets(
    places: Sequence[str], first: SyntheticSet, dataset: Dataset
) -> dict[str, SyntheticSet]:
    """The sets to compare, by their place.

    Args:
      places: of all of them.
      first: the first of them.
      dataset: that all of them are of, as `first` has it.

    Raises:
      UserError: one cannot be loaded, is of another dataset or preprocessing, or named twice.
    """
    loaded = {places[0]: first}
    for place in places[1:]:
        if place in loaded:
            raise UserError(f"{place} is named twice")
        other = read_set(place)
        same_images = fingerprint.is_same(other.info.fingerprint, dataset.fingerprint)
        if other.info.dataset != dataset.name and not same_images:
            raise UserError(
                f"{place} is a set of '{other.info.dataset}', {places[0]} one of "
                f"'{dataset.name}': sets of one dataset can be compared"
            )
        other.check_fits(dataset, place)
        loaded[place] = other
    return loaded


def quick(name: str, images: int, optimizer: str) -> dict[str, Any]:
    """Fields of a recipe by which a network learns from a set within seconds on two cores.

    Args:
      name: of the network; one that nothing was found for keeps the set's recipe.
      images: how many the set has.
      optimizer: that it learns with.
    """
    if name not in QUICK:
        return {}
    augmentation, steps = QUICK[name]
    epochs = -(-steps // -(-images // _BATCH))
    values: dict[str, Any] = {"batch_size": _BATCH, "epochs": epochs}
    if name in _RATES and optimizer == "sgd":
        values |= {"learning_rate": _RATES[name], "learned_rate": False}
    return values if augmentation else {**values, "augmentation": "none"}


def plan(
    names: Sequence[str],
    synthetic: SyntheticSet,
    recipe_of: Callable[[str], Recipe],
    image_shape: tuple[int, int, int],
) -> Plan:
    """The networks that a set is tried with.

    Args:
      names: what the user asked for; empty for all that there are.
      synthetic: the set.
      recipe_of: a network's name → its recipe. The network that is written on the set gets the
        options of its recipe, the others have their own defaults.
      image_shape: `(h, w, c)`.

    Raises:
      UserError: an unknown name, or none of them fits.
    """
    original = synthetic.info.recipe.network
    wanted = names or sorted(networks.names(), key=lambda name: (name != original, name))
    fitting: dict[str, NetworkLike] = {}
    skipped: dict[str, str] = {}
    for name in wanted:
        if name not in networks.names():
            raise unknown_value("networks", name, networks.names())
        options = recipe_of(name).options if name == original else {}
        network = networks.create(name, synthetic.num_classes, **options)
        fits = getattr(network, "fits", None)  # a network of the user's own may have none
        if fits is None or fits(image_shape):
            fitting[name] = network
        else:
            skipped[name] = f"does not fit {image_shape[0]}×{image_shape[1]} images"
    if not fitting:
        raise UserError(
            f"none of {', '.join(skipped)} fits {image_shape[0]}×{image_shape[1]} images"
        )
    recipes = {name: _for(name, recipe_of(name), original) for name in fitting}
    return Plan(synthetic, recipes, fitting, skipped)


def _for(name: str, recipe: Recipe, original: str) -> Recipe:
    """A recipe for a network: options are of the one that it was written for."""
    return replace(recipe, network=name, options=recipe.options if name == original else {})


def compare(
    plan: Plan, test: DeviceData, key: jax.Array, repeats: int, progress: Progress | None = None
) -> dict[str, Row]:
    """Trains `repeats` fresh networks of each kind on the set and tests them.

    Args:
      plan: the set, the recipe and the networks; a step size that the set has learned overrides
        the recipe's.
      test: real images, read once for each network.
      key: random key; each kind of network draws its own from it.
      repeats: fresh networks of each kind.
      progress: told the epochs trained so far, over all networks.

    Returns:
      A row for each network, in the order of the plan.
    """
    rows: dict[str, Row] = {}
    data, rate = plan.synthetic.data(), plan.synthetic.learning_rate
    for name, network in plan.networks.items():

        def of_all(done: int, total: int, before: int = len(rows)) -> None:
            if progress is not None:
                progress(before * total + done, len(plan.networks) * total)

        began, recipe = time.monotonic(), plan.recipes[name]
        accuracy = train_and_test(network, recipe, data, test, key, repeats, rate, of_all)
        rows[name] = Row(accuracy, time.monotonic() - began)
    return rows


def summary(
    plans: Mapping[str, Plan], rows: Mapping[str, Mapping[str, Row]], repeats: int
) -> dict[str, Any]:
    """The result's figures, as plain JSON: of the first set, and of each of them.

    Args:
      plans: by the set's place.
      rows: what `compare` gives for each of them.
      repeats: fresh networks of each kind.
    """
    tables = {
        place: {name: row.to_json() for name, row in of_set.items()}
        for place, of_set in rows.items()
    }
    first = next(iter(plans))
    return {
        "set": first,
        "networks": tables[first],
        "sets": [
            {
                "set": place,
                "method": plan.synthetic.info.method,
                "init": plan.synthetic.info.init,
                "ipc": plan.synthetic.info.ipc,
                "networks": tables[place],
                "recipes": {name: recipe.to_json() for name, recipe in plan.recipes.items()},
            }
            for place, plan in plans.items()
        ],
        "skipped": sorted({name for plan in plans.values() for name in plan.skipped}),
        "repeats": repeats,
    }
