"""Memories of one size compared: the distilled set, and real images chosen in two ways."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import jax
import numpy as np

from jdd import randomness, training
from jdd.data import Dataset, DeviceData, to_device
from jdd.errors import SettingError, UserError, nearest
from jdd.methods import CoresetSettings, registry
from jdd.networks import NetworkLike
from jdd.runs.problem import variable_shapes
from jdd.synthetic import SyntheticSet, from_real
from jdd.tasks.continual.classes import Memory, class_orders, parts_of, seen_after
from jdd.tasks.continual.learner import Learner, Progress
from jdd.tasks.continual.settings import METHODS, ContinualSettings
from jdd.training import Recipe


@dataclass(frozen=True)
class Outcome:
    """Accuracies on the test images of all classes seen, fractions of 1."""

    orders: list[tuple[int, ...]]
    values: Mapping[str, np.ndarray]
    """by method, `(orders · repeats, steps)`"""

    def seen(self, order: int = 0) -> list[list[int]]:
        """The classes seen after each step in one of the orders."""
        steps = next(iter(self.values.values())).shape[1]
        return [list(seen) for seen in seen_after(parts_of(self.orders[order], steps))]

    def mean(self) -> dict[str, list[float]]:
        """By method, one for each step."""
        return {name: np.mean(values, axis=0).tolist() for name, values in self.values.items()}

    def std(self) -> dict[str, list[float]]:
        """By method, one for each step; divided by n, as the papers give it."""
        return {name: np.std(values, axis=0).tolist() for name, values in self.values.items()}


@dataclass(frozen=True, eq=False)
class Comparison:
    """What is compared, checked where it is made.

    In both protocols a network is trained on a memory by `recipe`: in GDumb's (as Zhao and Bilen
    2023, section 4.3, have it) a fresh one; to finetune, one that was trained on the real images of
    the parts so far, plain SGD at a constant rate without weight decay. That one is trained on the
    next part as it was before its memory, so that the last step is: all parts in a row, then the
    memory of all classes.

    Random images are drawn anew for every network. Herding's features are those of one network with
    random weights, or of one trained on the real images of all classes; only the former can be had
    at the first step.
    """

    settings: ContinualSettings
    """what is learned in which order"""
    network: NetworkLike
    """for all classes"""
    recipe: Recipe
    """how it is trained on a memory; its rate is not for a set that has learned its own"""
    stored: SyntheticSet
    """the distilled set; its images per class are every memory's"""
    dataset: Dataset
    """its dataset, preprocessed as the set was"""
    methods: tuple[str, ...] = ()
    """of `METHODS[protocol]`; all of them where empty"""
    features: CoresetSettings = field(default_factory=CoresetSettings)
    """what herding chooses by"""

    def __post_init__(self) -> None:
        """Raises `UserError` for what cannot be compared."""
        protocol, dataset = self.settings.protocol, self.dataset
        object.__setattr__(self, "methods", tuple(self.methods) or METHODS[protocol])
        for name in self.methods:
            if name not in METHODS[protocol]:
                hint = nearest(name, METHODS[protocol])
                raise SettingError("methods", f"'{name}'", f"with `protocol` {protocol} {hint}")
        counts = np.bincount(dataset.train.labels, minlength=dataset.num_classes)
        ipc = self.stored.decoder.encoded(self.stored.info.ipc)
        if {"random", "herding"} & set(self.methods) and counts.min() < ipc:
            raise UserError(
                f"class '{dataset.class_names[counts.argmin()]}' has {counts.min()} real images, "
                f"the set {ipc} per class: leave random and herding out, `methods` distilled"
            )
        tested = np.bincount(dataset.test.labels, minlength=dataset.num_classes)
        if not tested.all():
            raise UserError(f"no test image is of class '{dataset.class_names[tested.argmin()]}'")
        for order in class_orders(self.settings.order, 1, dataset.num_classes, 0):
            parts_of(order, self.settings.steps)
        variable_shapes(self.network, dataset)
        images = jax.ShapeDtypeStruct((1, *dataset.image_shape), np.float32)
        jax.eval_shape(
            lambda key, x: training.augmented(key, x, self.recipe.augmentation),
            jax.random.key(0),
            images,
        )

    def run(self, seed: int, progress: Progress | None = None) -> Outcome:
        """Learns the classes step by step, with one memory after another.

        Args:
          seed: of every draw.
          progress: told how far it has come.
        """
        settings, dataset, stored = self.settings, self.dataset, self.stored
        ipc = stored.decoder.encoded(stored.info.ipc)
        orders = class_orders(settings.order, settings.orders, dataset.num_classes, seed)
        data = to_device(dataset.train, dataset.preprocess, dataset.num_classes)
        learner = Learner(settings, self.network, self.recipe, dataset, data, orders, progress)
        features = self.features.feature_epochs if self.features.features == "trained" else 0
        before = features * len(data.labels) * ("herding" in self.methods)
        learner.plan(self.methods, stored.labels.shape[0] // stored.num_classes, before)
        memories = {"distilled": Memory.of(self.stored)}
        if "herding" in self.methods:
            memories["herding"] = self._herded(data, seed, learner)
        accuracies: list[list[list[float]]] = []
        start = randomness.key(seed, "continual")
        for i in range(len(orders)):
            for j in range(settings.repeats):
                key = jax.random.fold_in(jax.random.fold_in(start, i), j)
                if "random" in self.methods:
                    rng = randomness.generator(seed, f"random memory {i} {j}")
                    images, _ = from_real(dataset.train, dataset, ipc, rng)
                    random = SyntheticSet.encode(images, stored.info, stored.decoder)
                    memories["random"] = Memory.of(random)
                of_methods = [memories.get(name) for name in self.methods]
                accuracies.append(learner.learn(i, key, of_methods))
        values = np.array(accuracies)  # (orders · repeats, steps, methods)
        return Outcome(orders, {name: values[..., m] for m, name in enumerate(self.methods)})

    def _herded(self, data: DeviceData, seed: int, learner: Learner) -> Memory:
        herding = registry.create("herding", self.features, self.network)
        key = randomness.key(seed, "herding")
        herded, _ = herding.begin(
            key, self.stored, data, lambda *_: learner.trained_on(len(data.labels))
        )
        return Memory.of(herded)

    def summary(self, outcome: Outcome) -> dict[str, Any]:
        """The result's figures and settings, as plain JSON."""
        means = outcome.mean()
        return {
            "protocol": self.settings.protocol,
            "methods": means,
            "std": outcome.std(),
            "classes": outcome.seen(),
            "orders": outcome.orders,
            "repeats": self.settings.repeats,
            "final": {name: values[-1] for name, values in means.items()},
            "accuracies": {name: values.tolist() for name, values in outcome.values.items()},
            "test_images": len(self.dataset.test),
            "settings": asdict(self.settings),
            "features": asdict(self.features),
            "recipe": self.recipe.to_json(),
        }
