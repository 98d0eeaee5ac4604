"""Label logits to start from: what experts say of a run's first images."""

import jax
import jax.numpy as jnp
import numpy as np

from jdd import experts, randomness
from jdd.experts import ExpertStore
from jdd.methods.trajectories import smooth_logits
from jdd.runs.problem import Problem
from jdd.synthetic import SyntheticSet

_EXAMPLES = 20  # real images a class whose mean logits stand for the class


def with_label_logits(problem: Problem, store: ExpertStore) -> SyntheticSet:
    """The run's start with the experts' mean logits for labels, unless it brings label logits.

    A start from real images takes such as experts classify correctly. Images that none classifies
    correctly, as noise, get the mean logits of real ones of their class, or, where experts are
    right about none of these, 90 % certainty.
    """
    settings, start = problem.settings, problem.start
    train, dataset = problem.train, problem.dataset
    if start.labels.ndim == 2:
        return start
    count = settings.experts.num_experts
    rng = randomness.generator(settings.seed, "init of soft labels")

    def correct_images(wanted: int) -> jax.Array:
        positions = experts.correctly_classified(
            store, problem.network, train, dataset, wanted, count, rng
        )
        return dataset.preprocess(jnp.asarray(train.images[positions]))

    if settings.init == "real":
        images = correct_images(start.decoder.encoded(settings.ipc))
        start = SyntheticSet.encode(images, start.info, start.decoder)
    classes = np.asarray(start.labels)
    logits = experts.label_logits(store, problem.network, start.images, classes, count)
    unknown = ~np.isfinite(logits).all(-1)
    if unknown.any():
        wanted = min(_EXAMPLES, int(np.bincount(train.labels).min()))
        every = np.repeat(np.arange(dataset.num_classes), wanted)
        examples = correct_images(wanted)
        of_real = experts.label_logits(store, problem.network, examples, every, count)
        means = experts.class_means(of_real, every)
        certain = smooth_logits(jnp.arange(dataset.num_classes), dataset.num_classes)
        logits[unknown] = np.where(np.isnan(means), certain, means)[classes[unknown]]
    return start.replace(labels=jnp.asarray(logits))
