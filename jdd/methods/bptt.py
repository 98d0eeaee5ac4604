"""Back-propagation through the student's own training (RaT-BPTT), with AT-BPTT's windows.

Feng, Vedantam, Kempe: "Embarrassingly Simple Dataset Distillation", ICLR 2024, algorithm 1. Li et
al.: "Beyond Random: Automatic Inner-loop Optimization in Dataset Distillation", 2025.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jdd import unrolling
from jdd.augment import augment, check_kinds, draw_ahead, strategy_for
from jdd.data import DeviceData
from jdd.errors import SettingError
from jdd.experts import Segment
from jdd.methods.base import Method, MethodSettings, MethodState, Metrics, decoded
from jdd.methods.matching import class_by_class, fresh_network
from jdd.methods.presets import Preset
from jdd.methods.student import Entry, Learned, Student, balanced_batches
from jdd.methods.trajectories import smooth_logits
from jdd.networks import NetworkLike
from jdd.settings import setting
from jdd.synthetic import SyntheticSet

_MEMORY = 0.9  # weight of the past in the mean length of gradients, as in the released code


@dataclass(frozen=True)
class BpttSettings(MethodSettings):
    """Settings of back-propagation through time; the defaults are the published ones for CIFAR-10,
    10 images per class."""

    real_batch_of_all_classes: ClassVar[bool] = True

    iterations: int = setting(60000, "updates of the set, each through a fresh network", min=1)
    syn_steps: int = setting(200, "steps of the student on the set at most, T in the paper", min=1)
    window: int = setting(60, "its last steps, which are differentiated; M in the paper", min=1)
    min_start: int = setting(0, "steps before the window at least", min=0)
    window_start: str = setting(
        "random",
        "steps before the window: random (RaT-BPTT), or gradient, drawn by the length of the "
        "student's gradients, where they are long in the first third of the updates and short in "
        "the last (AT-BPTT)",
        choices=("random", "gradient"),
    )
    temperature: float = setting(
        1.0, "window_start gradient: lengths are divided by this before the softmax", above=0
    )
    probe_every: int = setting(
        10, "window_start gradient: updates between measurements of the lengths", min=1
    )
    batch_syn: int = setting(
        0, "synthetic images of each class in a step of the student; 0: all of them", min=0
    )
    classes_syn: int = setting(
        0, "classes in a step of the student, drawn anew for each; 0: all of them", min=0
    )
    batch_real: int = setting(5000, "real images an update, of all classes", min=1)
    inner_optimizer: str = setting(
        "adam", "the student's optimiser: adam or sgd", choices=("adam", "sgd")
    )
    lr_net: float = setting(0.001, "step size of the student", above=0)
    mom_net: float = setting(0.9, "momentum of the student's SGD", min=0, below=1)
    decay_net: float = setting(5e-4, "weight decay of the student's SGD", min=0)
    lr_img: float = setting(0.001, "rate at which images are updated, of Adam", above=0)
    lr_label: float = setting(
        0.0, "rate at which label logits are updated, of Adam; 0: labels stay", min=0
    )
    clip: float = setting(
        2.0,
        "longest gradient to the images in multiples of the mean length so far, longer ones are "
        "cut to it; 0: none",
        min=0,
    )
    augmentation: str = setting(
        "flip_rotate",
        "kinds of DSA joined by _, one of them drawn for each batch, synthetic or real, with "
        "parameters for each image; flip is left out for digits; or none",
    )
    memory: str = setting(
        "auto",
        "what is kept of the window's steps: all (states, and results of convolutions where there "
        "is room), constant (hardly more for more steps, exact, slower), or auto (all; on a CPU "
        "with many steps only some of it)",
        choices=("auto", "all", "constant"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.min_start + self.window > self.syn_steps:
            raise SettingError(
                "window",
                self.window,
                f"with `min_start` {self.min_start} it must be at most `syn_steps` "
                f"{self.syn_steps}",
            )
        check_kinds(self.augmentation)

    @property
    def paced_by_iterations(self) -> bool:
        """Where windows start otherwise in each third of them."""
        return self.window_start != "random"

    def rule(self) -> unrolling.Rule:
        """How the student steps."""
        if self.inner_optimizer == "adam":
            return unrolling.Adam()
        if self.mom_net or self.decay_net:
            return unrolling.Momentum(self.mom_net, self.decay_net)
        return unrolling.Sgd()

    def strategy(self, dataset: str) -> str:
        """The kinds of augmentation for a dataset."""
        allowed = strategy_for(dataset).split("_")
        kinds = [kind for kind in self.augmentation.split("_") if kind in allowed]
        return "_".join(kinds) or "none"


class _Moments(NamedTuple):
    """What a run resumes from, apart from its key."""

    adam: Any
    length: jax.Array  # () float32, mean length of gradients so far; 0 before the first
    probed: jax.Array  # (syn_steps,) float32, lengths of a student's gradients


def bptt(settings: BpttSettings, network: NetworkLike) -> Method:
    """Back-propagation through time: images, and where wanted label logits, are moved by Adam
    along the gradient of

        cross-entropy(θ_{n+W}; real batch)

    where θ_0 is a fresh network that takes n + W steps on the set, and only the last W of them are
    differentiated: θ_n is held constant. n is drawn anew for each update.
    """
    adam = optax.multi_transform(
        {"images": optax.adam(settings.lr_img), "labels": optax.adam(settings.lr_label or 1.0)},
        Learned("images", "labels" if settings.lr_label else None),
    )

    def learned(synthetic: SyntheticSet) -> Learned:
        return Learned(synthetic.storage, synthetic.labels if settings.lr_label else None)

    def init(
        key: jax.Array, synthetic: SyntheticSet, data: DeviceData
    ) -> tuple[SyntheticSet, MethodState]:
        synthetic = class_by_class(synthetic, data.num_classes)
        if settings.lr_label and synthetic.labels.ndim == 1:
            soft = smooth_logits(synthetic.labels, data.num_classes)
            synthetic = synthetic.replace(labels=soft)
        # An SGD's step size suits the SGD that sets are evaluated by; Adam's does not.
        rate = jnp.float32(settings.lr_net) if settings.inner_optimizer == "sgd" else None
        probed = jnp.zeros(settings.syn_steps)
        moments = _Moments(adam.init(learned(synthetic)), jnp.float32(0), probed)
        state = MethodState(jax.random.key_data(key), jnp.int32(0), moments)
        return synthetic.replace(learning_rate=rate), state

    def update(
        synthetic: SyntheticSet,
        state: MethodState,
        data: DeviceData,
        segment: Segment | None = None,
    ) -> tuple[SyntheticSet, MethodState, Metrics]:
        del segment
        network_key, steps_key, start_key, probe_key, real_key = jax.random.split(
            state.iteration_key(), 5
        )
        images, to_storage = decoded(synthetic)
        moved = learned(synthetic)
        current = moved._replace(images=images)
        strategy = settings.strategy(synthetic.info.dataset)
        student = Student(network, settings.rule(), settings.lr_net, strategy)
        fresh = student.rule.start(fresh_network(network, network_key, images)["params"])

        moments: _Moments = state.optimizer
        probe = _plan(settings, probe_key, synthetic, data)
        probed = moments.probed
        if settings.window_start == "gradient":
            probed = jax.lax.cond(
                state.iteration % settings.probe_every == 0,
                lambda: student.lengths(fresh, current, probe),
                lambda: moments.probed,
            )
        start = _window_start(settings, start_key, state.iteration, probed)
        plan = _plan(settings, steps_key, synthetic, data)
        images, labels = _real_batch(settings, state, data)
        real = augment(real_key, images, strategy), labels
        value, gradient = student.through_window(
            *(fresh, current, plan, start), settings.window, real, settings.memory
        )
        length = optax.tree.norm(gradient.images)
        mean = _MEMORY * moments.length + (1 - _MEMORY) * length
        mean = jnp.where(moments.length == 0, length, mean)
        cut = jnp.minimum(1, settings.clip * mean / (length + 1e-6)) if settings.clip else 1.0
        gradient = gradient._replace(images=to_storage(cut * gradient.images))
        change, in_adam = adam.update(gradient, moments.adam, moved)
        moved = optax.apply_updates(moved, change)
        state = MethodState(state.key, state.iteration + 1, _Moments(in_adam, mean, probed))
        labels = synthetic.labels if moved.labels is None else moved.labels
        metrics = {"loss": value, "gradient_norm": length, "window_start": start}
        return synthetic.replace(storage=moved.images, labels=labels), state, metrics

    return Method(init, update, settings.needs)


def _window_start(
    settings: BpttSettings, key: jax.Array, iteration: jax.Array, lengths: jax.Array
) -> jax.Array:
    """Steps before the window, () int32: min_start to syn_steps − window, both included."""
    first, last = settings.min_start, settings.syn_steps - settings.window
    uniform = jax.random.randint(key, (), first, last + 1)
    if settings.window_start == "random":
        return uniform
    third = 3 * iteration // settings.iterations
    signs = jnp.where(third == 0, 1.0, -1.0)
    step = jax.random.categorical(key, signs * lengths / settings.temperature)
    return jnp.where(third == 1, uniform, jnp.clip(step, first, last))


def _plan(
    settings: BpttSettings, key: jax.Array, synthetic: SyntheticSet, data: DeviceData
) -> Entry:
    """All steps of a student, each leaf with a leading axis of syn_steps."""
    order, transforms = jax.random.split(key)
    classes = data.num_classes
    ipc = synthetic.labels.shape[0] // classes
    chosen = balanced_batches(
        order, settings.syn_steps, classes, ipc, settings.batch_syn, settings.classes_syn
    )
    held = None if settings.lr_label else synthetic.labels[chosen]
    keys = jax.random.split(transforms, settings.syn_steps)
    strategy = settings.strategy(synthetic.info.dataset)
    return Entry(chosen, held, draw_ahead(keys, strategy, (chosen.shape[1], *data.image_shape)))


def _real_batch(
    settings: BpttSettings, state: MethodState, data: DeviceData
) -> tuple[jax.Array, jax.Array]:
    """This update's real images and labels: no image twice in a pass over them."""
    size = data.images.shape[0]
    batch = min(settings.batch_real, size)
    place, number = jnp.divmod(state.iteration, size // batch)
    # Counted down from the end, where no iteration's key comes from.
    order = jax.random.fold_in(
        jax.random.wrap_key_data(state.key), jnp.uint32(2**32 - 1) - place.astype(jnp.uint32)
    )
    shuffled = jax.random.permutation(order, size)
    return data.batch(jax.lax.dynamic_slice_in_dim(shuffled, number * batch, batch))


# The commands of the released code's README. CIFAR-100 at 1 per class has its window at the end.
# That for Tiny ImageNet names no whitening, but the code reads its images whitened alone.
_ZCA = {"preprocessing": "normalize_zca"}
_CIFAR100 = {**_ZCA, "batch_syn": 1}
_SLOW = {"lr_img": 3e-4, "lr_label": 3e-4}
_LONG = {"syn_steps": 300, "window": 100}
_TINY = {**_ZCA, "batch_syn": 1, "classes_syn": 50, "batch_real": 1000, "depth": 4}
_PAPER = Preset(
    {
        "cifar10": {10: _ZCA},
        "cifar100": {
            1: {**_CIFAR100, **_SLOW, "syn_steps": 130, "window": 90, "min_start": 40},
            10: {**_CIFAR100, **_LONG, "lr_label": 0.001},
        },
        "tiny_imagenet": {10: {**_TINY, **_SLOW, **_LONG}},
    },
    "cifar10",
    {"chunk": 5, "eval_every": 250, "eval_optimizer": "adamw", "eval_weight_decay": 0.0},
)
_QUICK = Preset(
    {
        "digits": {
            1: {"iterations": 150, "lr_net": 0.03, "eval_every": 50},
            10: {"iterations": 60, "lr_net": 0.03, "eval_every": 30},
        },
        "mnist": {
            1: {"factor": 2, "lr_img": 0.1},
            10: {"factor": 2, "batch_syn": 4, "iterations": 200, "lr_img": 0.02},
        },
        "cifar10": {1: {"factor": 2, "lr_net": 0.01, "lr_img": 0.1}, 10: {"batch_syn": 2}},
    },
    "mnist",
    {
        "iterations": 400,
        "syn_steps": 60,
        "window": 20,
        "batch_real": 300,
        "inner_optimizer": "sgd",
        "lr_net": 0.02,
        "lr_img": 0.05,
        "augmentation": "none",
        "chunk": 5,
    },
    {
        "mnist": {"eval_augment_per_image": False, "eval_epochs": 300},
        "cifar10": {"eval_dsa": False, "eval_epochs": 300},
    },
)
PRESETS = {"quick": _QUICK, "paper": _PAPER, "released": _PAPER}
