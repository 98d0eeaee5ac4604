"""How hard each real image is, from a few short trainings: EL2N, GraNd, forgetting."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdd import checkpoints, preprocessing, training
from jdd.checkpoints import Damaged
from jdd.data import DeviceData, fingerprint
from jdd.errors import SettingError, UserError
from jdd.losses import cross_entropy
from jdd.networks import NetworkLike
from jdd.ops.target import platform
from jdd.settings import Settings, seed, setting
from jdd.training import TEST_BATCH, FitState, Recipe, Trainer

SCORES = ("el2n", "grand", "grand_last", "forgetting")
_AT_ONCE = 64  # examples whose gradients are taken at once on an accelerator

Progress = Callable[[int, int], None]
"""called with network epochs done and in all"""


@dataclass(frozen=True)
class DifficultySettings(Settings):
    """How the difficulty of images is scored.

    The published scores average ten networks: after about 20 of 200 epochs on CIFAR-10 for EL2N, at
    any time from the initialisation on for GraNd (Paul et al. 2021), over a full training for
    forgetting (Toneva et al. 2019).
    """

    score: str = setting(
        "grand",
        "el2n (length of the error), grand (of the full gradient), grand_last (of the last "
        "layer's) or forgetting (times unlearned)",
        choices=SCORES,
    )
    score_networks: int = setting(10, "networks whose scores are averaged", min=1)
    score_epochs: int = setting(
        10, "epochs of each before scoring; forgetting counts over them", min=0
    )
    score_lr: float = setting(0.01, "step size of their SGD", above=0)
    score_momentum: float = setting(0.9, "momentum of their SGD", min=0, below=1)
    score_batch: int = setting(256, "images per step", min=1)
    score_dsa: bool = setting(False, "DSA while they train")
    score_seed: int = seed(0, "seed of these networks")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score == "forgetting" and self.score_epochs < 2:
            raise SettingError("score_epochs", self.score_epochs, "forgetting needs at least 2")


@dataclass(frozen=True)
class DifficultySpec:
    """What scores were made from."""

    dataset: str
    preprocessing: Mapping[str, Any]
    network: str
    options: Mapping[str, Any]
    held_out: float
    """fraction of the real training images held out for validation, which get no score"""
    real_images: int
    """how many of the others have one; 0: all"""
    settings: DifficultySettings
    fingerprint: str = ""
    """of the real training images, as `jdd.data.fingerprint` has it; empty: not known"""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "options": dict(self.options)}

    def mark(self) -> str:
        """A short name that other ways to score do not have."""
        value = {**self.to_json(), "preprocessing": preprocessing.shortened(self.preprocessing)}
        del value["fingerprint"]
        text = json.dumps(value, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


def el2n(network: NetworkLike, variables: Any, data: DeviceData) -> jax.Array:
    """‖softmax(f(x)) − y‖₂ of every example, float32 `(n,)`, from 0 to √2.

    Paul, Ganguli, Dziugaite: "Deep Learning on a Data Diet", NeurIPS 2021.
    """
    logits = training.predict(network, variables, data)
    return _error_length(logits, data.labels)


@partial(jax.jit, static_argnums=(0,))
def grand(network: NetworkLike, variables: Any, data: DeviceData) -> jax.Array:
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

    # One by one on a CPU, where gradients of many kernels at once are a grouped convolution.
    size = None if platform() == "cpu" else _AT_ONCE
    norms: jax.Array = jax.lax.map(norm, jnp.arange(data.images.shape[0]), batch_size=size)
    return norms


@partial(jax.jit, static_argnums=(0,))
def grand_last(network: NetworkLike, variables: Any, data: DeviceData) -> jax.Array:
    """‖∇ ℓ‖₂ over the last layer's kernel and bias alone: ‖softmax(f(x)) − y‖ √(1 + ‖h(x)‖²).

    Known in closed form, with h the features before the classifier, so that one pass forward gives
    it. Nearest to the scores that PAD's authors released; docs/methods/pad.md has what differs.
    """
    size = data.images.shape[0]
    batch = min(TEST_BATCH, size)

    def of_batch(index: jax.Array) -> jax.Array:
        images, labels = data.batch(index)
        logits: Any = network.apply(variables, images)
        features: Any = network.apply(variables, images, method="embed")
        lengths = jnp.sqrt(1 + jnp.sum(features**2, axis=-1))
        return _error_length(logits, labels) * lengths

    batches = -(-size // batch)
    index = jnp.arange(batches * batch).clip(max=size - 1).reshape(batches, batch)
    norms: jax.Array = jax.lax.map(of_batch, index)
    return norms.reshape(-1)[:size]


def _error_length(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """‖softmax(logits) − y‖₂, `(n,)`."""
    error = jax.nn.softmax(logits) - jax.nn.one_hot(labels, logits.shape[-1])
    length: jax.Array = jnp.linalg.norm(error, axis=-1)
    return length


def forgetting(correct: np.ndarray) -> np.ndarray:
    """How often each example changed from correct to wrong; float32 `(n,)`.

    Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network Learning",
    ICLR 2019. One that was never correct counts as many times as there are evaluations, which no
    other can reach: the paper sorts those last.

    Args:
      correct: bool `(evaluations, n)`, in order of time.
    """
    lost = (correct[:-1] & ~correct[1:]).sum(0)
    return np.where(correct.any(0), lost, len(correct)).astype(np.float32)


def score(
    settings: DifficultySettings,
    network: NetworkLike,
    strategy: str,
    data: DeviceData,
    progress: Progress = lambda done, total: None,
) -> np.ndarray:
    """Scores of all examples, averaged over fresh networks; the larger the harder.

    Args:
      settings: which score, after what training.
      network: the module.
      strategy: the dataset's DSA.
      data: real images with int32 labels.
      progress: told the epochs done.

    Returns:
      float32 `(n,)`.

    Raises:
      UserError: training that diverges.
    """
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
        state: FitState = training.init(trainer, key, data.image_shape)
        correct = []
        for epoch in range(epochs):
            state = training.run_jit(trainer, state, data, rates, 1)
            if settings.score == "forgetting":
                variables = training.eval_variables(trainer, state)
                predicted = jnp.argmax(training.predict(network, variables, data), axis=-1)
                correct.append(np.asarray(predicted == data.labels))
            progress(i * epochs + epoch + 1, count * epochs)
        if settings.score == "forgetting":
            total += forgetting(np.stack(correct))
        else:
            variables = training.eval_variables(trainer, state)
            total += np.asarray(measures[settings.score](network, variables, data))
        if not (np.isfinite(state.loss) and np.isfinite(total).all()):
            raise UserError(f"network {i + 1} diverged: lower `score_lr` {settings.score_lr}")
    return (total / count).astype(np.float32)


def ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each example's rank in its class from the easiest, as a fraction: float64 `(n,)` in (0, 1).

    It is the middle of the example's part of the class: of two, 0.25 and 0.75. Of equal scores the
    earlier example comes first.
    """
    places = np.zeros(len(scores), np.float64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = members[np.argsort(scores[members], kind="stable")]
        places[order] = (np.arange(len(order)) + 0.5) / len(order)
    return places


def save(directory: Path, spec: DifficultySpec, scores: np.ndarray, labels: np.ndarray) -> None:
    """Stores scores with what they were made from, in place of older ones."""
    arrays = {"scores": np.asarray(scores, np.float32), "labels": np.asarray(labels, np.int32)}
    checkpoints.save_tree(directory, arrays, {"difficulty": spec.to_json()})


def _differing(stored: Any, spec: DifficultySpec) -> list[str]:
    """Names of what stored scores were made from otherwise than `spec` says; none: they fit."""
    asked = json.loads(json.dumps(spec.to_json()))
    if not isinstance(stored, dict):
        return list(asked)
    stored = {"fingerprint": "", **stored}  # of jdd 0.2 before it had any
    differing = {name for name in {*asked, *stored} if stored.get(name) != asked.get(name)}
    before = stored.get("preprocessing")
    if isinstance(before, dict) and not preprocessing.differences(before, asked["preprocessing"]):
        differing.discard("preprocessing")
    if not fingerprint.differences(str(stored["fingerprint"]), spec.fingerprint):
        differing.discard("fingerprint")
    return sorted(differing)


def load(directory: Path, spec: DifficultySpec, labels: np.ndarray) -> np.ndarray | None:
    """The scores in `directory`, float32 `(n,)`, or None where none are stored.

    Raises:
      Damaged: they are not as they were written.
      UserError: they were made from something else.
    """
    if not checkpoints.resolve_directory(directory).is_dir():
        return None
    header = checkpoints.load_info(directory)
    if differing := _differing(header.get("difficulty"), spec):
        raise UserError(
            f"the scores in {directory} were made from something else ({', '.join(differing)}): "
            "choose another directory"
        )
    arrays, _ = checkpoints.load_tree(directory)
    if not np.array_equal(arrays["labels"], labels):
        raise UserError(f"the scores in {directory} are of other images: remove them")
    scores = np.asarray(arrays["scores"])
    if scores.shape != labels.shape or scores.dtype != np.float32 or not np.isfinite(scores).all():
        raise Damaged(f"the scores in {directory} are no numbers, one an image")
    return scores
