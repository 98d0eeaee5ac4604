"""Files as the published repositories write them, by the calls that they make."""

import warnings
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax.training import checkpoints, train_state

CLASSES, IPC, SIDE = 10, 2, 8


def images(channels=1, seed=0):
    """Images `(n, c, h, w)` as networks see them, class by class."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((CLASSES * IPC, channels, SIDE, SIDE)).astype(np.float32)


class Prototypes(nn.Module):
    """A set as FRePo and RCIG hold it: the parameters of a module."""

    images: Any
    labels: Any
    log_temp: Any = None

    @nn.compact
    def __call__(self):
        names = {"x_proto": self.images, "y_proto": self.labels}
        if self.log_temp is not None:
            names["log_temp"] = self.log_temp
        return [self.param(name, lambda *_, value=value: value) for name, value in names.items()]


class FrepoState(train_state.TrainState):
    epoch: int
    best_val_acc: float
    batch_stats: Any = None
    ema_average: Any = None


class RcigState(train_state.TrainState):
    train_it: int
    ema_hidden: Any = None
    ema_average: Any = None


def targets():
    """Labels as both start from."""
    labels = np.repeat(np.arange(CLASSES), IPC)
    return jax.nn.one_hot(labels, CLASSES) - 1 / CLASSES


def frepo(folder, channels=1):
    """`checkpoint_46.8` in a folder; what is in it, NHWC."""
    value = jnp.asarray(images(channels).transpose(0, 2, 3, 1)), targets() * 0.9
    params = Prototypes(*value).init({"params": jax.random.key(0)})["params"]
    state = FrepoState.create(
        apply_fn=None, tx=optax.lamb(1e-3), params=params, epoch=0, best_val_acc=0.5
    )
    _save(folder, state, 46.8)
    return value


def rcig(folder, channels=1):
    """`checkpoint_10000` in a folder; its average, NHWC, which is the set."""
    module = Prototypes(
        jnp.asarray(images(channels, 1).transpose(0, 2, 3, 1)), targets(), jnp.float32(0)
    )
    params = module.init({"params": jax.random.key(0)})["params"]
    average = jax.tree.map(lambda leaf: leaf / 2, params)
    tx = optax.chain(
        optax.masked(optax.adabelief(3e-3), {"x_proto": True, "y_proto": True, "log_temp": False}),
        optax.masked(optax.adabelief(0.03), {"x_proto": False, "y_proto": False, "log_temp": True}),
    )
    state = RcigState.create(
        apply_fn=None, tx=tx, params=params, train_it=0, ema_average=average, ema_hidden=params
    )
    _save(folder, state, 10000)
    return average["x_proto"], average["y_proto"]


def _save(folder, state, step):
    before = flax.config.flax_use_orbax_checkpointing
    flax.config.update("flax_use_orbax_checkpointing", False)  # as Flax was then
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            checkpoints.save_checkpoint(folder, state, step, keep=1e10)
    finally:
        flax.config.update("flax_use_orbax_checkpointing", before)


def convnet_tensors(rng, channels=1, width=8, depth=2):
    """What `[p.detach().cpu() for p in net.parameters()]` lists of a ConvNet."""
    tensors, of = [], channels
    for _ in range(depth):
        tensors += [rng.standard_normal((width, of, 3, 3)) * 0.3, rng.standard_normal(width) * 0.1]
        tensors += [1 + rng.standard_normal(width) * 0.1, rng.standard_normal(width) * 0.1]
        of = width
    side = SIDE // 2**depth
    tensors += [rng.standard_normal((CLASSES, width * side**2)) * 0.3, rng.standard_normal(CLASSES)]
    return [np.asarray(tensor, np.float32) for tensor in tensors]


def trajectories(experts=2, epochs=3):
    """Experts as a buffer has them."""
    rng = np.random.default_rng(0)
    return [[convnet_tensors(rng) for _ in range(epochs + 1)] for _ in range(experts)]
