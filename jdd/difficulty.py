"""How hard each real image is, from a few short trainings: EL2N, GraNd, forgetting."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jdd import storage, training
from jdd.errors import UserError, unknown
from jdd.losses import cross_entropy
from jdd.recipe import Recipe
from jdd.settings import flag
from jdd.training import TEST_BATCH, FitState, Trainer, TrainingData

SCORES = ("el2n", "grand", "grand_last", "forgetting")
_AT_ONCE = 64  # examples whose gradients are taken at once on an accelerator

Progress = Callable[[int, int], None]
"""called with network epochs done and in all"""


@dataclass(frozen=True)
class DifficultySettings:
    """How hard images are found to be.

    The published scores average ten networks: after about 20 of 200 epochs on CIFAR-10 for EL2N, at
    any time from the initialisation on for GraNd (Paul et al. 2021), over a whole training for
    forgetting (Toneva et al. 2019).
    """

    score: str = flag(
        "grand",
        "el2n (length of the error), grand (of the whole gradient), grand_last (of the last "
        "layer's) or forgetting (times unlearned)",
    )
    score_networks: int = flag(10, "networks whose scores are averaged")
    score_epochs: int = flag(10, "epochs of each before it is asked; forgetting counts over them")
    score_lr: float = flag(0.01, "step size of their SGD")
    score_momentum: float = flag(0.9, "momentum of their SGD")
    score_batch: int = flag(256, "images a step")
    score_dsa: bool = flag(False, "DSA while they train")
    score_seed: int = flag(0, "seed of these networks")

    def check(self) -> None:
        """Raises `UserError` for values out of range."""
        if self.score not in SCORES:
            raise unknown("--score", self.score, SCORES)
        least = 2 if self.score == "forgetting" else 0
        if self.score_epochs < least:
            raise UserError(f"--score-epochs {self.score_epochs}: at least {least} are needed")
        for name in ("score_networks", "score_batch"):
            if getattr(self, name) < 1:
                raise UserError(
                    f"--{name.replace('_', '-')} {getattr(self, name)}: at least 1 is needed"
                )
        if not 0 < self.score_lr < np.inf:
            raise UserError(f"--score-lr {self.score_lr}: it must be above 0")
        if not 0 <= self.score_momentum < 1:
            raise UserError(f"--score-momentum {self.score_momentum}: from 0 to below 1")
        if not 0 <= self.score_seed < 2**32:
            raise UserError(f"--score-seed {self.score_seed}: from 0 to {2**32 - 1}")


@dataclass(frozen=True)
class DifficultySpec:
    """What scores were made from."""

    dataset: str
    preprocessing: Mapping[str, Any]
    network: str
    options: Mapping[str, Any]
    held_out: float
    """share of the real training images kept for validation, which get no score"""
    real_images: int
    """how many of the others have one; 0: all"""
    settings: DifficultySettings

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "options": dict(self.options)}

    def mark(self) -> str:
        """A short name that other specs do not have."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def el2n(network: nn.Module, variables: Any, data: TrainingData) -> jax.Array:
    """‖softmax(f(x)) − y‖₂ of every example, float32 `(n,)`, from 0 to √2.

    Paul, Ganguli, Dziugaite: "Deep Learning on a Data Diet", NeurIPS 2021.
    """
    error = jax.nn.softmax(training.predict(network, variables, data))
    error -= jax.nn.one_hot(data.labels, error.shape[-1])
    return jnp.linalg.norm(error, axis=-1)


@partial(jax.jit, static_argnums=(0,))
def grand(network: nn.Module, variables: Any, data: TrainingData) -> jax.Array:
    """‖∇_θ ℓ(x, y)‖₂ of every example, float32 `(n,)`: over all parameters, in evaluation mode.

    Paul, Ganguli, Dziugaite: "Deep Learning on a Data Diet", NeurIPS 2021.
    """
    rest = {name: value for name, value in variables.items() if name != "params"}

    def norm(index: jax.Array) -> jax.Array:
        images, labels = data.batch(index[None])

        def loss(params: Any) -> jax.Array:
            logits: Any = network.apply({"params": params, **rest}, images)
            return cross_entropy(logits, labels)

        gradient = jax.grad(loss)(variables["params"])
        return jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))

    # One after another on a CPU, where many kernels' gradients at once are a grouped convolution.
    size = None if jax.default_backend() == "cpu" else _AT_ONCE
    return jax.lax.map(norm, jnp.arange(data.images.shape[0]), batch_size=size)


@partial(jax.jit, static_argnums=(0,))
def grand_last(network: nn.Module, variables: Any, data: TrainingData) -> jax.Array:
    """‖∇ ℓ‖₂ over the last layer's kernel and bias alone: ‖softmax(f(x)) − y‖ √(1 + ‖h(x)‖²).

    Known in closed form, with h the features before the classifier, so that one pass forward gives
    it. It is what is called GraNd in the coreset library that PAD's released scores come from.
    """
    size = data.images.shape[0]
    batch = min(TEST_BATCH, size)

    def of_batch(index: jax.Array) -> jax.Array:
        images, labels = data.batch(index)
        logits: Any = network.apply(variables, images)
        features: Any = network.apply(variables, images, method="embed")
        error = jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[-1])
        lengths = jnp.sqrt(1 + jnp.sum(features**2, axis=-1))
        return jnp.linalg.norm(error, axis=-1) * lengths

    batches = -(-size // batch)
    index = jnp.arange(batches * batch).clip(max=size - 1).reshape(batches, batch)
    return jax.lax.map(of_batch, index).reshape(-1)[:size]


def forgetting(right: np.ndarray) -> np.ndarray:
    """How often each example went from right to wrong; float32 `(n,)`.

    Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network Learning",
    ICLR 2019. One that was never right counts as many times as it was looked at, which no other
    can reach: the paper sorts those last.

    Args:
      right: bool `(looks, n)`, in order of time.
    """
    lost = (right[:-1] & ~right[1:]).sum(0)
    return np.where(right.any(0), lost, len(right)).astype(np.float32)


def score(
    settings: DifficultySettings,
    network: nn.Module,
    strategy: str,
    data: TrainingData,
    progress: Progress = lambda done, total: None,
) -> np.ndarray:
    """Scores of all examples, averaged over fresh networks; the larger the harder.

    Args:
      settings: which score, after what training.
      network: the module.
      strategy: the data set's DSA.
      data: real images with int32 labels.
      progress: told the epochs done.

    Returns:
      float32 `(n,)`.

    Raises:
      UserError: settings out of range, or training that diverges.
    """
    settings.check()
    recipe = Recipe(
        epochs=max(settings.score_epochs, 1),
        batch_size=settings.score_batch,
        learning_rate=settings.score_lr,
        momentum=settings.score_momentum,
        weight_decay=0.0,
        decay_after=1.0,
        augmentation=strategy if settings.score_dsa else "none",
    )
    trainer = Trainer.of(network, recipe, data.images.shape[0])
    rates = training.schedule(recipe)
    measures: dict[str, Any] = {"el2n": el2n, "grand": grand, "grand_last": grand_last}
    total = np.zeros(data.images.shape[0], np.float64)
    epochs, count = settings.score_epochs, settings.score_networks
    for i in range(count):
        key = jax.random.fold_in(jax.random.key(settings.score_seed), i)
        state: FitState = training.init(trainer, key, tuple(data.images.shape[1:]))
        right = []
        for epoch in range(epochs):
            state = training.run_jit(trainer, state, data, rates, 1)
            if settings.score == "forgetting":
                variables = training.tested_variables(trainer, state)
                guessed = jnp.argmax(training.predict(network, variables, data), axis=-1)
                right.append(np.asarray(guessed == data.labels))
            progress(i * epochs + epoch + 1, count * epochs)
        if not np.isfinite(state.loss):
            raise UserError(f"network {i + 1} diverged: lower --score-lr {settings.score_lr}")
        if settings.score == "forgetting":
            total += forgetting(np.stack(right))
        else:
            variables = training.tested_variables(trainer, state)
            total += np.asarray(measures[settings.score](network, variables, data))
    return (total / count).astype(np.float32)


def ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each example's place among its class from the easiest, as a share: float64 `(n,)` in [0, 1).

    Of equal scores the earlier example comes first.
    """
    places = np.zeros(len(scores), np.float64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = members[np.argsort(scores[members], kind="stable")]
        places[order] = np.arange(len(order)) / len(order)
    return places


def save(directory: Path, spec: DifficultySpec, scores: np.ndarray, labels: np.ndarray) -> None:
    """Stores scores with what they were made from, replacing what is there whole."""
    arrays = {"scores": np.asarray(scores, np.float32), "labels": np.asarray(labels, np.int32)}
    storage.save_tree(directory, arrays, {"difficulty": spec.to_json()})


def load(directory: Path, spec: DifficultySpec, labels: np.ndarray) -> np.ndarray | None:
    """The scores in `directory`, float32 `(n,)`, or None where there are none.

    Raises:
      UserError: there are some, but damaged, or made from something else.
    """
    if not storage.whole_copy(directory).is_dir():
        return None
    arrays, header = storage.load_tree(directory)
    stored = header.get("difficulty")
    if stored != json.loads(json.dumps(spec.to_json())):
        asked = spec.to_json()
        differing = [
            name
            for name in asked
            if not isinstance(stored, dict) or stored.get(name) != asked[name]
        ]
        raise UserError(
            f"the scores in {directory} were made from something else ({', '.join(differing)}): "
            "choose another directory"
        )
    if not np.array_equal(arrays["labels"], labels):
        raise UserError(f"the scores in {directory} are of other images: remove them")
    return np.asarray(arrays["scores"], np.float32)
