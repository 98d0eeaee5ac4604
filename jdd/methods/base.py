"""What a method is: an Optax-like pair of pure functions over a synthetic set."""

import enum
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax

from jdd.experts import Segment, SegmentWindow
from jdd.settings import Settings
from jdd.synthetic import SyntheticSet

Metrics = dict[str, jax.Array]
Told = Callable[[int, int], None]
"""called with what is done and what there is in all; it may raise `Interrupted`"""

# A student that diverges has a finite loss with a huge gradient to the step size for some updates
# before it has none; a step size that follows it never comes back. Sound ones move by percents.
_FASTEST_GROWTH = 2.0
# Preprocessed pixels lie within some tens, logits and coefficients within some hundreds.
_LARGEST = 1e6


@dataclass(frozen=True)
class Needs:
    """What a method asks of a run."""

    real_images: bool = True
    """whether `init` and `update` are given the real images; None in their place otherwise"""
    segments: SegmentWindow | None = None
    """which segments of expert trajectories each update is given; None: none"""
    label_logits: bool = False
    """whether the set is to start with the experts' label logits"""


class MethodSettings(Settings):
    """Base of a method's settings; a method that makes updates has a field `iterations`."""

    network_gives: ClassVar[tuple[str, ...]] = ()
    """what a network is to give besides logits: of its methods, "embed" and "trace" """
    real_batch_of_all_classes: ClassVar[bool] = False
    """whether `batch_real` counts images of all classes together, not of each"""

    @property
    def needs(self) -> Needs:
        """What the method asks of a run with these settings."""
        return Needs()

    @property
    def paced_by_iterations(self) -> bool:
        """Whether an update depends on how many there are in all, as by a decay over them: a run
        is then not resumed with more."""
        return False


class Update(Protocol):
    """`(synthetic, state, data, segment) → (synthetic, state, metrics)`: pure, jittable, no I/O."""

    def __call__(
        self,
        synthetic: SyntheticSet,
        state: Any,
        data: Any,
        segment: Segment | None = None,
    ) -> tuple[SyntheticSet, Any, Metrics]:
        """One iteration; metrics are scalars, among them `loss`."""


class Method(NamedTuple):
    """A distillation method, made by a factory from frozen settings: `mtt(settings, network)`."""

    init: Callable[..., tuple[SyntheticSet, Any]]
    """`(key, synthetic, data) → (synthetic, state)`; soft labels and coresets are made here"""
    update: Update
    needs: Needs = Needs()
    threshold: float = 0.0
    """updates with a larger loss are not made; 0: all are"""
    rates: tuple[str, ...] = ("lr_img",)
    """the settings to lower where updates are dropped, as what is learned runs away"""
    prepare: Callable[[jax.Array, Any, Told], Any] | None = None
    """`(key, data, told) → what init takes after data`: what is long before the first update, in
    several compiled calls, with `told` after each; None: nothing is. Without it `init` makes the
    same by itself"""

    def begin(
        self, key: jax.Array, synthetic: SyntheticSet, data: Any, told: Told
    ) -> tuple[SyntheticSet, Any]:
        """What `init` gives, compiled, after what is to be prepared."""
        prepared = () if self.prepare is None else (self.prepare(key, data, told),)
        begun: tuple[SyntheticSet, Any] = jax.jit(self.init)(key, synthetic, data, *prepared)
        return begun


class MethodState(NamedTuple):
    """What the methods here resume from."""

    key: jax.Array  # (2,) uint32 key data
    iteration: jax.Array  # () int32
    optimizer: Any  # moments of what is learned

    def iteration_key(self) -> jax.Array:
        """The random key of this iteration."""
        return jax.random.fold_in(jax.random.wrap_key_data(self.key), self.iteration)


class Rejection(enum.IntEnum):
    """Why an update was not made: `dropped` in an update's metrics; 0 there: it was made."""

    NOT_FINITE = 1
    STEP_SIZE = 2
    ABOVE_THRESHOLD = 3
    TOO_LARGE = 4

    @property
    def is_expected(self) -> bool:
        """Whether such rejections are part of a method, and never end a run."""
        return self is Rejection.ABOVE_THRESHOLD

    def words(self, rates: Sequence[str] = ("lr_img",)) -> str:
        """What happened, and what to change; `rates` are the method's."""
        return _WORDS[self].format(rates=" or ".join(f"`{name}`" for name in rates))


_WORDS = {
    Rejection.NOT_FINITE: "the loss or the set is not finite: lower {rates}",
    Rejection.STEP_SIZE: "the step size would turn negative or more than double: lower `lr_lr`, or "
    "`lr_init`",
    Rejection.ABOVE_THRESHOLD: "the loss is above `threshold`: raise it, or change `lr_init` or "
    "`syn_steps`",
    Rejection.TOO_LARGE: f"a number of the set would pass {_LARGEST:,.0f}: lower {{rates}}",
}


def guarded(method: Method) -> Method:
    """The method with unsound updates dropped: set and state stay as they were before.

    An update is dropped where its loss, another metric or the set is not finite, where the set's
    step size would turn negative or more than double, where a number of the set is beyond all
    that images and labels can be, or where the loss is above the method's threshold.
    `metrics["dropped"]` then has the `Rejection`, else 0; `metrics["learning_rate"]` is the set's
    step size. The iteration of a `MethodState` advances all the same, so that the next update draws
    other numbers.
    """

    @functools.wraps(method.update)
    def update(
        synthetic: SyntheticSet, state: Any, data: Any, segment: Segment | None = None
    ) -> tuple[SyntheticSet, Any, Metrics]:
        moved, next_state, metrics = method.update(synthetic, state, data, segment)
        if "dropped" in metrics:  # guarded before
            return moved, next_state, metrics
        dropped = _rejection(synthetic, moved, metrics, method.threshold)

        def choose(after: jax.Array, before: jax.Array) -> jax.Array:
            return jnp.where(dropped == 0, after, before)

        kept = jax.tree.map(choose, next_state, state)
        if isinstance(next_state, MethodState):
            kept = kept._replace(iteration=next_state.iteration)
        moved = jax.tree.map(choose, moved, synthetic)
        if moved.learning_rate is not None:
            metrics = {**metrics, "learning_rate": moved.learning_rate}
        return moved, kept, {**metrics, "dropped": dropped}

    return method._replace(update=update)


def _rejection(
    before: SyntheticSet, after: SyntheticSet, metrics: Metrics, threshold: float
) -> jax.Array:
    def each(values: Any, holds: Callable[[jax.Array], jax.Array]) -> jax.Array:
        leaves = [x for x in jax.tree.leaves(values) if jnp.issubdtype(x.dtype, jnp.inexact)]
        return jnp.all(jnp.stack([jnp.all(holds(leaf)) for leaf in leaves]))

    finite = each((after, metrics), jnp.isfinite)
    small = each(after, lambda leaf: jnp.abs(leaf) <= _LARGEST)
    reason = jnp.where(small, 0, Rejection.TOO_LARGE)
    reason = jnp.where(finite, reason, Rejection.NOT_FINITE)
    if before.learning_rate is not None and after.learning_rate is not None:
        rate = after.learning_rate
        sound = (rate > 0) & (rate <= _FASTEST_GROWTH * before.learning_rate)
        reason = jnp.where(finite & ~sound, Rejection.STEP_SIZE, reason)
    if threshold:
        above = finite & (metrics["loss"] > threshold)
        reason = jnp.where(above, Rejection.ABOVE_THRESHOLD, reason)
    return reason.astype(jnp.int32)


def with_precision(method: Method, precision: str) -> Method:
    """The method with its updates' products as `jax.default_matmul_precision` names them."""

    @functools.wraps(method.update)
    def update(*arguments: Any, **options: Any) -> Any:
        with jax.default_matmul_precision(precision):
            return method.update(*arguments, **options)

    return method._replace(update=update)


def decoded(synthetic: SyntheticSet) -> tuple[jax.Array, Callable[[jax.Array], Any]]:
    """The set's images, and what turns a gradient to them into one to the storage."""
    images, pull = jax.vjp(synthetic.decoder.decode, synthetic.storage)
    return images, lambda gradient: pull(gradient)[0]


def move_storage(
    synthetic: SyntheticSet,
    state: MethodState,
    gradient: Any,
    optimizer: optax.GradientTransformation,
    metrics: Metrics,
) -> tuple[SyntheticSet, MethodState, Metrics]:
    """Ends an update: the storage moved by `optimizer` along its gradient.

    An optimizer that looks at the loss finds `metrics["loss"]` as its `value`.
    """
    change, moments = optax.with_extra_args_support(optimizer).update(
        gradient, state.optimizer, synthetic.storage, value=metrics.get("loss")
    )
    storage = optax.apply_updates(synthetic.storage, change)
    state = MethodState(state.key, state.iteration + 1, moments)
    return synthetic.replace(storage=storage), state, metrics
