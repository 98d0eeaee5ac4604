"""A student that trains on a set step by step: what `bptt` differentiates."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jdd import unrolling
from jdd.augment import augment
from jdd.networks import NetworkLike
from jdd.sharding import at_once
from jdd.training import batch_loss


class Learned(NamedTuple):
    """What an update moves: the images or their storage; labels are None where they stay."""

    images: Any  # (n, h, w, c) float32, or the set's storage
    labels: Any  # (n, classes) float32


class Entry(NamedTuple):
    """What a step of a student needs apart from what is learned."""

    chosen: Any  # (batch,) int32; None, in trajectory matching: all images, in their order
    labels: Any  # (batch,) int32 or (batch, classes) float32; None: they are learned
    key: Any  # random key of the augmentation, or what was drawn with it


class Student(NamedTuple):
    """How a student trains on a set that is class by class, as many images of each as of any other.

    Hashable: its functions are static arguments of compiled ones.
    """

    network: NetworkLike
    rule: unrolling.Rule
    rate: float
    """its step size"""
    strategy: str
    """its augmentation"""

    def loss(self, params: Any, learned: Learned, entry: Entry) -> jax.Array:
        """The loss of a step."""
        images = augment(entry.key, learned.images[entry.chosen], self.strategy)
        labels = entry.labels if learned.labels is None else learned.labels[entry.chosen]
        return batch_loss(self.network, params, {}, images, labels)[0]

    def advance(self, state: Any, learned: Learned, entry: Entry) -> tuple[Any, Any]:
        """The rule's state after a step, and the gradient that the step went along."""
        gradient = jax.grad(self.loss)(self.rule.params(state), learned, entry)
        return self.rule.advance(state, gradient, jnp.float32(self.rate)), gradient

    def run(self, state: Any, learned: Learned, plan: Entry, steps: jax.Array) -> Any:
        """The state after the first `steps` () int32 of the plan; not to be differentiated."""

        def step(t: jax.Array, state: Any) -> Any:
            entry = jax.tree.map(lambda leaf: leaf[t], plan)
            return self.advance(state, learned, entry)[0]

        return jax.lax.fori_loop(0, steps, step, state)

    def lengths(self, state: Any, learned: Learned, plan: Entry) -> jax.Array:
        """The lengths of its gradients on the way, float32 `(steps,)`."""

        def step(state: Any, entry: Entry) -> tuple[Any, jax.Array]:
            state, gradient = self.advance(state, learned, entry)
            return state, optax.tree.norm(gradient)

        lengths: jax.Array = jax.lax.scan(step, state, plan)[1]
        return lengths

    def through_window(
        self,
        fresh: Any,
        learned: Learned,
        plan: Entry,
        start: jax.Array,
        window: int,
        real: tuple[jax.Array, jax.Array],
        memory: str,
    ) -> tuple[jax.Array, Learned]:
        """The loss on real images behind a window, and its gradient through the window's steps.

        Args:
          fresh: the rule's state before the first step.
          learned: the set.
          plan: all steps.
          start: () int32, steps before the window, which are not differentiated.
          window: its steps.
          real: images `(b, h, w, c)` and labels.
          memory: "all", "auto" or "constant", as `jdd.unrolling` has it.
        """
        before = self.run(fresh, learned, plan, start)
        steps = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, window), plan)

        def loss(learned: Learned) -> jax.Array:
            last = unrolling.descend(
                *(self.loss, self.rule, before, learned, self.rate, steps),
                unrolling.checkpoints_for(window, memory),
                unrolling.memory_budget_for(memory) // at_once(),
            )
            return batch_loss(self.network, self.rule.params(last), {}, *real)[0]

        return jax.value_and_grad(loss)(learned)


def balanced_batches(
    key: jax.Array, steps: int, classes: int, ipc: int, batch: int = 0, some: int = 0
) -> jax.Array:
    """Which examples each step sees: as many of each class, drawn without replacement.

    Each step is drawn by itself, so that an example may come again before all others have.

    Args:
      key: random key.
      steps: number of steps.
      classes: of the set, which is class by class.
      ipc: examples of each.
      batch: examples of a class in a step; 0, or above `ipc`: all.
      some: classes in a step, drawn too; 0, or above `classes`: all.

    Returns:
      int32 `(steps, classes · examples)`.
    """
    batch, some = min(batch or ipc, ipc), min(some or classes, classes)

    def of_step(key: jax.Array) -> jax.Array:
        of_classes, of_images = jax.random.split(key)
        _, labels = jax.lax.top_k(jax.random.uniform(of_classes, (classes,)), some)
        _, places = jax.lax.top_k(jax.random.uniform(of_images, (some, ipc)), batch)
        return (ipc * labels[:, None] + places).ravel()

    return jax.vmap(of_step)(jax.random.split(key, steps))
