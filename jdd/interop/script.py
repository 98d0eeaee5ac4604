"""`train.py`, which comes with an exported set: its recipe in plain PyTorch."""

import math
import re
import shlex
from pathlib import Path

import numpy as np

from jdd import networks
from jdd.interop import reading
from jdd.networks.convnet import ConvNet
from jdd.synthetic import SyntheticSet
from jdd.training import Trainer

_TEMPLATE = Path(__file__).with_name("train.py.txt")
_LAYERS = {"norm": ("instance", "none"), "activation": ("relu",), "pooling": ("avg",)}


def missing(synthetic: SyntheticSet, kind: str) -> str:
    """Why no `train.py` can be written; empty where one can.

    Args:
      synthetic: the set.
      kind: of `jdd.interop.export.FORMATS`.
    """
    if kind == "png" and reading.is_zca(synthetic):
        return (
            "PyTorch cannot whiten pictures as ZCA does; the other formats hold the images as "
            "networks see them"
        )
    recipe = synthetic.info.recipe
    is_known = recipe.network in networks.names()
    network = _network(synthetic) if is_known else None
    if not isinstance(network, ConvNet):
        return f"it would have ConvNet and WideConvNet alone, and the network is {recipe.network}"
    for name, can in _LAYERS.items():
        if (value := getattr(network, name)) not in can:
            return f"its networks would have {name} {' or '.join(can)}, and this one has {value}"
    return ""


def text(synthetic: SyntheticSet, kind: str, file: str, name: str) -> str:
    """The script.

    Args:
      synthetic: the set, for which nothing is `missing`.
      kind: of `jdd.interop.export.FORMATS`.
      file: the exported file's name; empty for a folder.
      name: of the script.
    """
    recipe, network = synthetic.info.recipe, _network(synthetic)
    mean, std = reading.constants(synthetic)
    zca = reading.is_zca(synthetic)
    steps = batches(synthetic)
    has_norm = network.norm == "instance"
    rest = f"weight_decay={recipe.weight_decay}"
    sgd = f"SGD(network.parameters(), lr=RATE, momentum={recipe.momentum}, {rest})"
    read = reading.lines(synthetic, kind, file)
    values = {
        "NETWORK": recipe.network,
        "SCRIPT": shlex.quote(name),
        "TEST_IMAGES": "float32 (n, h, w, c), whitened" if zca
        else "uint8 (n, h, w) or (n, h, w, c)",
        "WRITE_TEST": reading.write_test(synthetic),
        "CONSTANTS": "" if zca
        else f"MEAN, STD = {mean}, {std}  # of the channels, pixels in [0, 1]\n",
        "CLASSES": synthetic.num_classes,
        "WIDTHS": [network.channels(i) for i in range(network.depth)],
        "EPOCHS": recipe.epochs,
        "BATCH": steps.batch,
        "SEEN": steps.steps * steps.batch + steps.rest,
        "RATE": step_size(synthetic),
        "LAYERS": f"convolution, {'instance norm, ' * has_norm}ReLU and average pooling",
        "NORM": "nn.GroupNorm(width, width), " * has_norm,
        "OPTIMIZER": sgd if recipe.optimizer == "sgd"
        else f"AdamW(network.parameters(), lr=RATE, {rest})",
        "RATE_AT": _rate_at(synthetic),
        "DTYPE": "float32" if zca else "uint8",
        "NORMALISED": "pixels" if zca else "((pixels / 255.0 - MEAN) / STD)",
        "TESTED": "average" if recipe.ema else "network",
        "DECAY": recipe.ema,
        "READ": "\n".join(f"    {line}".rstrip() for line in read.splitlines()),
    }  # fmt: skip
    script = _TEMPLATE.read_text(encoding="utf-8")
    script = re.sub(r"@EMA@(.*\n)", r"\1" if recipe.ema else "", script)
    return re.sub(r"@([A-Z_]+)@", lambda match: str(values[match[1]]), script)


def step_size(synthetic: SyntheticSet) -> float:
    """The one step size that networks are trained on the set with."""
    rate = float(synthetic.info.recipe.step_size(synthetic.learning_rate))
    return float(f"{rate:.6g}")


def batches(synthetic: SyntheticSet) -> Trainer:
    """An epoch's steps and their sizes; of another network."""
    any_network = networks.create("ConvNet", synthetic.num_classes)
    return Trainer.of(any_network, synthetic.info.recipe, synthetic.images.shape[0])


def decay_epoch(synthetic: SyntheticSet) -> int | None:
    """From which epoch, counted from 0, the step size is a tenth; None: from none."""
    recipe = synthetic.info.recipe
    if recipe.rate_schedule == "cosine" or recipe.decay_after == 1:
        return None
    return math.ceil(np.float32(recipe.epochs * recipe.decay_after))  # as `schedule` rounds it


def _rate_at(synthetic: SyntheticSet) -> str:
    """The step size in `epoch`, in Python."""
    if synthetic.info.recipe.rate_schedule == "cosine":
        return "RATE * (1 + math.cos(math.pi * epoch / EPOCHS)) / 2"
    first = decay_epoch(synthetic)
    return "RATE" if first is None else f"RATE * (0.1 if epoch >= {first} else 1)"


def _network(synthetic: SyntheticSet) -> ConvNet:
    recipe = synthetic.info.recipe
    made: ConvNet = networks.create(recipe.network, synthetic.num_classes, **recipe.options)
    return made
