"""The networks' layers: the arithmetic and initialisation of PyTorch, on `jdd.ops`."""

from collections.abc import Callable, Collection

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from jdd import ops
from jdd.errors import SettingError, nearest

EPSILON = 1e-5  # PyTorch's, for every norm
BATCH_MOMENTUM = 0.1  # PyTorch's: the weight of the new batch, not of the old average
GROUPS = 4

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": jax.nn.relu,
    "leaky_relu": lambda x: jax.nn.leaky_relu(x, negative_slope=0.01),
    "sigmoid": jax.nn.sigmoid,
    "swish": jax.nn.swish,
}
POOLINGS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "avg": lambda x: ops.avg_pool(x, 2, 2),
    "max": lambda x: ops.max_pool(x, 2, 2),
    "none": lambda x: x,
}
NORMS = ("instance", "batch", "layer", "group", "none")
_MOST = 2**14  # channels, or blocks
PER_IMAGE = ("instance", "group")  # norms that know a factor and a summand a channel of an image


def check_choice(option: str, value: str, choices: Collection[str]) -> None:
    """Raises `SettingError` naming the nearest choice unless `value` is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise SettingError(option, f"'{value}'", nearest(str(value), choices))


def check_count(option: str, value: int) -> None:
    """Raises `SettingError` unless `value` is a whole number from 1 to 16,384."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise SettingError(option, repr(value), "a whole number is needed")
    if value < 1:
        raise SettingError(option, value, "at least 1 is needed")
    if value > _MOST:  # far more, and their number overflows inside JAX, which ends the process
        raise SettingError(option, value, f"at most {_MOST}")


def fan_in_uniform(fan_in: int) -> Callable[..., jax.Array]:
    """U(−1/√fan_in, 1/√fan_in): what PyTorch's convolutions and linear layers start from.

    PyTorch writes it as `kaiming_uniform_(a=√5)` for weights; biases take the same bound.
    """
    bound = fan_in**-0.5

    def initialise(
        key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
    ) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialise


class Conv(nn.Module):
    """Convolution, NHWC by HWIO, with square windows and zero padding."""

    features: int
    window: int = 3
    padding: int = 1
    stride: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, add_bias: bool = True) -> jax.Array:
        """`(n, h, w, c)` → `(n, h', w', features)`; not added, the bias is still a parameter."""
        shape = (self.window, self.window, x.shape[-1], self.features)
        initialise = fan_in_uniform(shape[0] * shape[1] * shape[2])
        x = ops.conv2d(x, self.param("kernel", initialise, shape), self.padding, self.stride)
        if not self.use_bias:
            return x
        bias = self.param("bias", initialise, (self.features,))
        return x + bias if add_bias else x


class Dense(nn.Module):
    """A linear layer, kernel `(in, out)`."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`(n, in)` → `(n, features)`."""
        initialise = fan_in_uniform(x.shape[-1])
        kernel = self.param("kernel", initialise, (x.shape[-1], self.features))
        return ops.dense(x, kernel) + self.param("bias", initialise, (self.features,))


class Norm(nn.Module):
    """One of `NORMS` but "none"; scale and bias per channel, for "layer" per entry of the map."""

    kind: str

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, pooled: bool = False) -> jax.Array:
        """`(n, h, w, c)` → the same shape; `train` matters to batch norm alone.

        With `pooled`, for instance and group norm, ReLU and average pooling by two follow in the
        same function: `(n, h, w, c)` → `(n, h // 2, w // 2, c)`.
        """
        if pooled and self.kind not in PER_IMAGE:
            raise ValueError(f"{self.kind} norm has no form with ReLU and pooling")
        channels = x.shape[-1]
        shape = x.shape[1:] if self.kind == "layer" else (channels,)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        if self.kind == "layer":
            return ops.layer_norm(x, scale, bias, EPSILON)
        if self.kind == "batch":
            return self._batch_norm(x, scale, bias, train)
        groups = channels if self.kind == "instance" else GROUPS
        if pooled:
            affine = ops.group_affine(x, scale, bias, groups, EPSILON)
            return ops.relu_avg_pool(x, affine, 2, 2)
        return ops.group_norm(x, scale, bias, groups, EPSILON)

    def _batch_norm(
        self, x: jax.Array, scale: jax.Array, bias: jax.Array, train: bool
    ) -> jax.Array:
        channels = (x.shape[-1],)
        mean_state = self.variable("batch_stats", "mean", jnp.zeros, channels)
        var_state = self.variable("batch_stats", "var", jnp.ones, channels)
        mean, var = mean_state.value, var_state.value
        if train:
            mean = jnp.mean(x, axis=(0, 1, 2))
            var = jnp.mean(jnp.square(x - mean), axis=(0, 1, 2))
            if not self.is_initializing() and self.is_mutable_collection("batch_stats"):
                # PyTorch normalises with the biased variance and remembers the unbiased one.
                count = x.size // x.shape[-1]
                unbiased = var * (count / max(count - 1, 1))
                mean_state.value += BATCH_MOMENTUM * (mean - mean_state.value)
                var_state.value += BATCH_MOMENTUM * (unbiased - var_state.value)
        slope = scale * jax.lax.rsqrt(var + EPSILON)
        return x * slope + (bias - mean * slope)


class ConvBlock(nn.Module):
    """A convolution and the norm behind it; activation and pooling are the network's.

    In front of instance norm the convolution's bias is not added: the norm takes any constant off a
    channel again, so that the result does not depend on it and its gradient is zero.
    """

    features: int
    norm: str
    window: int = 3
    padding: int = 1
    stride: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, pooled: bool = False) -> jax.Array:
        """`(n, h, w, c)` → `(n, h', w', features)`; `pooled` as for `Norm`."""
        conv = Conv(
            self.features, self.window, self.padding, self.stride, self.use_bias, name="conv"
        )
        x = conv(x, add_bias=self.norm != "instance")
        return x if self.norm == "none" else Norm(self.norm, name="norm")(x, train, pooled)


class DenseBlock(nn.Module):
    """A linear layer and ReLU."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`(n, in)` → `(n, features)`."""
        return jax.nn.relu(Dense(self.features, name="dense")(x))
