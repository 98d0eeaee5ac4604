"""Weights of the published PyTorch networks, as this library's variables. Needs no PyTorch."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdd.errors import UserError
from jdd.networks import Network
from jdd.networks.convnet import ConvNet
from jdd.networks.lenet import LeNet
from jdd.networks.mlp import MLP
from jdd.networks.plain import PlainNetwork
from jdd.networks.resnet import ResNet18

_TENSORS = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}


def params_from_torch(
    network: Network, state: Mapping[str, np.ndarray], image_shape: tuple[int, int, int]
) -> dict[str, Any]:
    """A PyTorch state dict of one of the published networks → variables of ours.

    Convolutions go from OIHW to HWIO and linear layers from (out, in) to (in, out). The first
    linear layer behind a feature map is also permuted: PyTorch flattens channel first, we last.

    Args:
      network: what `jdd.networks.create` made, of the same make-up as the PyTorch network.
      state: names as in `state_dict()`, in any order, to NumPy arrays; a leading "module." is
        left off, `num_batches_tracked` is passed over.
      image_shape: `(h, w, c)` of the images that the network is for.

    Returns:
      `{"params": …}`, with `"batch_stats"` where the network has batch norm; float32.

    Raises:
      UserError: a tensor is missing, left over or of another shape; it names the tensor.
    """
    layout = TorchLayout(network, image_shape)
    variables: dict[str, Any] = jax.tree.map(jnp.asarray, layout.variables(state))
    return variables


class TorchLayout:
    """Where the tensors of a published network go in one of ours; see `params_from_torch`."""

    def __init__(self, network: Network, image_shape: tuple[int, int, int]) -> None:
        """Raises `UserError` where the network is none of the published ones."""
        image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        self._expected = jax.eval_shape(network.init, jax.random.key(0), image)
        self._layers = dict(_layers(network))
        self._flattened = next(ours for ours in self._layers if _is_dense(ours))
        self._features = network.feature_shape(image_shape)
        self._network = f"this {type(network).__name__} on {image_shape} images"

    @property
    def parameters(self) -> list[str]:
        """PyTorch's names in the order of its `parameters()`, which has no running statistics."""
        names = []
        for ours, theirs in self._layers.items():
            layer: Any = self._expected["params"]
            for part in ours.split("/"):
                layer = layer.get(part, {})
            names += [f"{theirs}.{_TENSORS[kind]}" for kind in sorted(layer, key="bias".__eq__)]
        return names

    def variables(self, state: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """`params_from_torch` of a state, as NumPy arrays."""
        return self._converted(self._expected, state)

    def params(self, tensors: Sequence[np.ndarray]) -> dict[str, Any]:
        """Parameters as PyTorch's `parameters()` lists them → ours, as NumPy arrays.

        Raises:
          UserError: there are more or fewer, or one is of another shape.
        """
        if len(tensors) != len(self.parameters):
            raise UserError(
                f"{len(tensors)} parameters, {self._network} has {len(self.parameters)}: name its "
                "`network` and options"
            )
        state = dict(zip(self.parameters, tensors, strict=True))
        params: dict[str, Any] = self._converted({"params": self._expected["params"]}, state)[
            "params"
        ]
        return params

    def _converted(self, expected: Any, state: Mapping[str, np.ndarray]) -> dict[str, Any]:
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
        used = set()

        def convert(path: Sequence[Any], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
            _, *layer, kind = (key.key for key in path)
            ours = "/".join(layer)
            name = f"{self._layers[ours]}.{_TENSORS[kind]}"
            if name not in state:
                raise UserError(f"the PyTorch state has no '{name}': it has {', '.join(state)}")
            used.add(name)
            tensor = np.asarray(state[name], np.float32)
            if ours == self._flattened and kind == "kernel":
                tensor = _channel_last(tensor, self._features)
            tensor = _transposed(tensor)
            if tensor.shape != leaf.shape:
                raise UserError(
                    f"PyTorch's '{name}' has shape {np.shape(state[name])}, which does not fit "
                    f"{ours} of {self._network}: check its options"
                )
            return tensor

        variables: dict[str, Any] = jax.tree_util.tree_map_with_path(convert, expected)
        left = [name for name in state if name not in used and not name.endswith("batches_tracked")]
        if left:
            raise UserError(f"{self._network} has no place for PyTorch's {', '.join(left)}")
        return variables


def _transposed(tensor: np.ndarray) -> np.ndarray:
    """Output axis first → last: (out, in, h, w) → (h, w, in, out), (c, h, w) → (h, w, c), …"""
    order = {4: (2, 3, 1, 0), 3: (1, 2, 0)}
    return tensor.transpose(order.get(tensor.ndim))


def _channel_last(weight: np.ndarray, features: tuple[int, int, int]) -> np.ndarray:
    """`(out, c·h·w)` → `(out, h·w·c)`; left alone where it does not fit, to be reported there."""
    height, width, channels = features
    if weight.shape[1:] != (height * width * channels,):
        return weight
    by_channel = weight.reshape(-1, channels, height, width)
    return by_channel.transpose(0, 2, 3, 1).reshape(weight.shape)


def _is_dense(layer: str) -> bool:
    return re.search(r"(dense|classifier)$", layer) is not None


def _layers(network: Network) -> Iterator[tuple[str, str]]:
    """Pairs of our layer's path and its name in PyTorch, in order of depth."""
    if isinstance(network, MLP):
        yield from (("block_0/dense", "fc_1"), ("block_1/dense", "fc_2"), ("classifier", "fc_3"))
    elif isinstance(network, LeNet):
        yield from _sequence([True, True], has_norm=False)
        yield from (("block_2/dense", "fc_1"), ("block_3/dense", "fc_2"), ("classifier", "fc_3"))
    elif isinstance(network, ConvNet):
        pooled = [network.pooling != "none"] * network.depth
        yield from _sequence(pooled, has_norm=network.norm != "none")
        yield "classifier", "classifier"
    elif isinstance(network, PlainNetwork):
        pooled = [stage.pooled for stage in network.stages]
        yield from _sequence(pooled, has_norm=network.norm != "none")
        yield "classifier", "fc" if type(network).__name__ == "AlexNet" else "classifier"
    elif isinstance(network, ResNet18):
        yield from _resnet18(network)
    else:
        raise UserError(f"{type(network).__name__} is none of the published PyTorch networks")


def _sequence(pooled: Sequence[bool], has_norm: bool) -> Iterator[tuple[str, str]]:
    """Blocks inside one `nn.Sequential` called features: convolution, norm, activation, pooling."""
    place = 0
    for block, is_pooled in enumerate(pooled):
        yield f"block_{block}/conv", f"features.{place}"
        if has_norm:
            yield f"block_{block}/norm", f"features.{place + 1}"
        place += 2 + has_norm + is_pooled


def _resnet18(network: ResNet18) -> Iterator[tuple[str, str]]:
    yield from (("block_0/conv", "conv1"), ("block_0/norm", "bn1"))
    shortcut_norm = 2 if network.average_pool else 1  # the pooling stands between
    for block in range(8):
        ours, theirs = f"block_{block + 1}", f"layer{block // 2 + 1}.{block % 2}"
        for i in (1, 2):
            yield f"{ours}/layer_{i}/conv", f"{theirs}.conv{i}"
            yield f"{ours}/layer_{i}/norm", f"{theirs}.bn{i}"
        if block in (2, 4, 6):
            yield f"{ours}/shortcut/conv", f"{theirs}.shortcut.0"
            yield f"{ours}/shortcut/norm", f"{theirs}.shortcut.{shortcut_norm}"
    yield "classifier", "classifier"
