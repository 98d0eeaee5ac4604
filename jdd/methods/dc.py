"""Gradient matching (DC), and the same with differentiable siamese augmentation (DSA).

Zhao, Mopuri, Bilen: "Dataset Condensation with Gradient Matching", ICLR 2021; algorithm 1 there.
Zhao, Bilen: "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021.
"""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jdd import ops
from jdd.augment import strategy_for
from jdd.data import RealData
from jdd.errors import UserError
from jdd.experts import Segment
from jdd.losses import cross_entropy, gradient_matching
from jdd.methods import matching
from jdd.methods.base import Method, Metrics
from jdd.methods.matching import MatchingState
from jdd.networks.layers import BATCH_MOMENTUM
from jdd.recipe import Recipe
from jdd.settings import flag
from jdd.synthetic import SyntheticSet
from jdd.training import FitState, Schedule, Trainer, TrainingData, apply_training
from jdd.training import run as train

STATISTICS_IMAGES = 16  # real images a class that batch norm's statistics are set from


@dataclass(frozen=True)
class DcSettings:
    """Settings of gradient matching; the defaults are the published ones for 1 image per class."""

    iterations: int = flag(1000, "random networks, one after another; K in the paper")
    outer_loop: int = flag(1, "updates of the images for each network, T in the paper")
    inner_loop: int = flag(1, "epochs of the network on the set between two of them")
    batch_real: int = flag(256, "real images a class and update")
    batch_train: int = flag(256, "synthetic images a step of the network, at most")
    lr_img: float = flag(0.1, "rate at which images are updated, pixels per unit of gradient")
    mom_img: float = flag(0.5, "momentum of the images' updates")
    lr_net: float = flag(0.01, "rate at which the network is trained on the set")
    mom_net: float = flag(0.5, "momentum of the network's training")
    statistics: float = flag(
        1.0,
        "how far batch norm's statistics move to those of real images; the released code has 0.1",
    )
    metric: str = flag("layerwise_cosine", "distance of gradients: layerwise_cosine, mse or cosine")


def dc(settings: DcSettings, network: nn.Module) -> Method:
    """Gradient matching. For each of `iterations` random networks θ₀ and t = 0 … T − 1,

        S ← S − η Σ_c ∇_S D(∇_θ ℓ(S_c, θ_t), ∇_θ ℓ(B_c, θ_t)),    θ_{t+1} = train(θ_t, S)

    with B_c a batch of real images of class c, and D the layer-wise cosine distance. One update of
    the method is a whole network: `outer_loop` updates of the images.

    Raises:
      UserError: settings out of range.
    """
    return _gradient_matching(settings, network, augmented=False)


def dsa(settings: DcSettings, network: nn.Module) -> Method:
    """DC with one transform drawn per class and update, for real and synthetic images alike.

    Where the network is trained on the set, each image has parameters of its own.

    Raises:
      UserError: settings out of range.
    """
    return _gradient_matching(settings, network, augmented=True)


def _gradient_matching(settings: DcSettings, network: nn.Module, augmented: bool) -> Method:
    matching.check_range(
        settings,
        **{"iterations": 1, "outer_loop": 1, "inner_loop": 0, "batch_real": 1, "batch_train": 1},
        **{"lr_img": 0.0, "lr_net": 0.0},
    )
    if not 0 <= settings.mom_net < 1:
        raise UserError(f"--mom-net {settings.mom_net}: from 0 to below 1")
    if not 0 <= settings.statistics <= 1:
        raise UserError(f"--statistics {settings.statistics}: a share from 0 to 1")
    optimizer = matching.optimizer(settings.lr_img, settings.mom_img)
    _check_metric(settings.metric)

    def init(
        key: jax.Array, synthetic: SyntheticSet, data: RealData
    ) -> tuple[SyntheticSet, MatchingState]:
        return matching.start(key, synthetic, data, optimizer)

    def update(
        synthetic: SyntheticSet,
        state: MatchingState,
        data: RealData,
        segment: Segment | None = None,
    ) -> tuple[SyntheticSet, MatchingState, Metrics]:
        del segment
        strategy = strategy_for(synthetic.info.dataset) if augmented else "none"
        trainer = Trainer.of(
            network,
            Recipe(
                batch_size=settings.batch_train,
                momentum=settings.mom_net,
                weight_decay=0.0,
                augmentation=strategy,
            ),
            synthetic.images.shape[0],
        )
        rate = Schedule(jnp.float32(settings.lr_net), jnp.float32(jnp.inf))

        def step(carry: tuple[Any, ...], at: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
            images, momentum, fit = carry
            number, key = at
            match_key, train_key, real_key = jax.random.split(key, 3)
            # Trained before every update but the first, which is between the updates.
            epochs = jnp.where(number > 0, settings.inner_loop, 0)
            fit = fit._replace(key=jax.random.key_data(train_key))
            fit = train(trainer, fit, TrainingData(images, synthetic.labels), rate, epochs)
            stats = held_statistics(settings, network, fit, data, real_key)
            fit = fit._replace(batch_stats=stats)
            loss, gradient = image_gradient(
                settings, network, fit.params, stats, images, data, match_key, strategy
            )
            change, momentum = optimizer.update(gradient, momentum, images)
            return (optax.apply_updates(images, change), momentum, fit), loss

        network_key, key = jax.random.split(matching.iteration_key(state))
        variables = matching.fresh_network(network, network_key, synthetic.images)
        fit = FitState(
            params=variables["params"],
            batch_stats=variables.get("batch_stats", {}),
            optimizer=trainer.optimizer().init(variables["params"]),
            average={},
            key=jax.random.key_data(key),
            epoch=jnp.int32(0),
            loss=jnp.float32(0),
        )
        steps = settings.outer_loop
        (images, momentum, _), losses = jax.lax.scan(
            step,
            (synthetic.images, state.momentum, fit),
            (jnp.arange(steps), jax.random.split(key, steps)),
        )
        return matching.finish(synthetic, state, images, momentum, jnp.mean(losses))

    return Method(init, update, matching.REASONS)


def image_gradient(
    settings: DcSettings,
    network: nn.Module,
    params: Any,
    batch_stats: Any,
    images: jax.Array,
    data: RealData,
    key: jax.Array,
    strategy: str,
) -> tuple[jax.Array, jax.Array]:
    """The matching loss at one network, summed over classes, and its gradient to the images.

    A class's loss depends on its own images alone, so loss and gradient are made class by class.
    With g = ∇_θ ℓ(S, θ), the gradient of D(g) to the images is ∂_S ⟨∇_θ ℓ, v⟩ where v = ∂D/∂g:
    the derivative along v of θ ↦ ∇_S ℓ(S, θ). So no gradient to the weights is differentiated
    again, which is where reverse mode over reverse mode would spend most of its time.

    Args:
      settings: of the method.
      network: the module.
      params, batch_stats: of the network; the latter as `held_statistics` gives them.
      images: `(n, h, w, c)`, class by class.
      data: real images.
      key: of this update.
      strategy: DSA's, or "none".

    Returns:
      The loss, a scalar, and the gradient `(n, h, w, c)`.
    """
    classes = data.num_classes

    def of_class(
        shared: Any, own: jax.Array, label: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        params, held, data = shared
        real_key, transform = jax.random.split(key)

        def of_batch(params: Any, batch: tuple[jax.Array, jax.Array]) -> jax.Array:
            logits: Any = network.apply({"params": params, **held}, batch[0])
            return cross_entropy(logits, batch[1])

        def loss(params: Any, images: jax.Array) -> jax.Array:
            images = matching.siamese(transform, images, strategy)
            batch = (images, jnp.full(images.shape[0], label))
            return ops.mean_in_parts(of_batch, params, batch)

        real = matching.real_images(real_key, data, label, settings.batch_real)
        theirs = jax.grad(loss)(params, real)
        ours = jax.grad(loss)(params, own)
        distance, direction = jax.value_and_grad(gradient_matching)(ours, theirs, settings.metric)
        _, gradient = jax.jvp(lambda p: jax.grad(loss, 1)(p, own), (params,), (direction,))
        return distance, gradient

    losses, gradients = matching.over_classes(
        of_class,
        (params, {"batch_stats": batch_stats} if batch_stats else {}, data),
        matching.by_class(images, classes),
        jnp.arange(classes, dtype=jnp.int32),
        jax.random.split(key, classes),
    )
    return jnp.sum(losses), gradients.reshape(images.shape)


def held_statistics(
    settings: DcSettings, network: nn.Module, fit: FitState, data: RealData, key: jax.Array
) -> Any:
    """Batch norm's statistics, at which both gradients of an update are then taken.

    They come from 16 real images of every class, as a few synthetic ones would give none that are
    worth having. With `statistics` at 1 they are those images' own. The released code makes one
    pass in training mode instead, which moves the running statistics by a tenth of the way.

    Returns:
      The network's `batch_stats`; empty where it has no batch norm.
    """
    if not fit.batch_stats:
        return fit.batch_stats
    classes = jnp.arange(data.num_classes, dtype=jnp.int32)
    real = matching.over_classes(
        lambda data, label, k: matching.real_images(k, data, label, STATISTICS_IMAGES),
        data,
        classes,
        jax.random.split(key, data.num_classes),
    )
    real = real.reshape(-1, *real.shape[2:])
    _, moved = apply_training(network, fit.params, fit.batch_stats, real)
    share = settings.statistics / BATCH_MOMENTUM
    return jax.tree.map(lambda old, new: old + share * (new - old), fit.batch_stats, moved)


def _check_metric(metric: str) -> None:
    empty = {"w": jnp.zeros((1, 1))}
    jax.eval_shape(lambda: gradient_matching(empty, empty, metric))
