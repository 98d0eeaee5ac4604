"""What the published repositories store, told apart by what is in it, as NumPy arrays.

| file | repository | content |
| --- | --- | --- |
| `images_best.pt`, next to it `labels_best.pt`, `lr_best.pt` | MTT, TESLA, DATM, PAD | tensors |
| `res_*.pt` | DC, DSA, DM, DataDAM | `{"data": [[images, labels], …], "accs_all_exps": {…}}` |
| `data.pt` | IDC, NCFM | `[images, labels]`, images as pixels from 0 to 1 |
| `checkpoint_*` | FRePo, RCIG | Flax's train state in msgpack, `x_proto` and `y_proto` in it |
| `replay_buffer_*.pt` | MTT, TESLA, FTD, DATM, PAD | experts × epochs × parameters, tensors |
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import serialization

from jdd import files
from jdd.errors import SettingError, UserError
from jdd.interop import pickles

_MOST_BYTES = 2**35  # of a file; a buffer of ten experts of 50 epochs has 650 MB
_KINDS = (  # of files in a directory, those that are looked for first to last
    *("replay_buffer_*.pt", "images_best.pt", "res_*.pt", "data*.pt", "checkpoint_*"),
)


class FoundSet(NamedTuple):
    """A synthetic set."""

    images: np.ndarray
    """float32 `(n, h, w, c)`, as networks see them there"""
    labels: np.ndarray
    """int32 `(n,)` classes; or float32 `(n, classes)` label logits, or targets of a regression"""
    learning_rate: float | None = None
    are_pixels: bool = False
    """whether images are pixels from 0 to 1, not as networks see them"""
    temperature: float | None = None
    """by which labels are divided to be logits where they are targets of a regression: one-hot less
    its mean, and learned from there; None: they are none"""
    number: int = 1
    """which set of the file"""
    sets: int = 1
    """in the file"""
    accuracies: Mapping[str, tuple[float, ...]] = {}
    """that the file has of all of them, fractions of 1, by the network's name"""


class FoundExperts(NamedTuple):
    """Expert trajectories."""

    trajectories: Sequence[Sequence[Sequence[np.ndarray]]]
    """of each expert, at each epoch (first the initialisation), each parameter as PyTorch has it"""


def find(paths: Sequence[Path]) -> list[Path]:
    """The files to read: those named; or, in a directory, experts, else the set.

    Raises:
      UserError: a directory that holds none, or several.
    """
    if len(paths) != 1 or not paths[0].is_dir():
        return list(paths)
    for kind in _KINDS:
        matches = sorted(paths[0].glob(kind), key=_number_in)
        if kind == "res_*.pt" and len(matches) > 1:
            raise UserError(f"{paths[0]} holds {len(matches)} sets: name one, such as {matches[0]}")
        if matches:
            return matches if kind == _KINDS[0] else matches[-1:]
    raise UserError(f"{paths[0]} holds no {', '.join(_KINDS[:-1])} or {_KINDS[-1]}: name a file")


def read(path: Path, number: int = 0) -> FoundSet | FoundExperts:
    """What a file holds, by its content.

    Args:
      path: the file; one of images has its labels, and its step size, next to it: `labels_best.pt`
        and `lr_best.pt` for `images_best.pt` or `images_zca_best.pt`.
      number: which set of a file of several, from 1; 0: the last.

    Raises:
      SettingError: there is no set of this number.
      UserError: a file is missing, damaged, or none of these; see `jdd.interop.pickles.loads`.
    """
    value = _value(path)
    if _is_buffer(value):
        return FoundExperts(_checked(value, path))
    accuracies: dict[str, tuple[float, ...]] = {}
    rate = temperature = None
    is_state = isinstance(value, dict) and isinstance(value.get("params"), dict)
    if isinstance(value, np.ndarray):
        sets: Any = [[value, _value(_companion(path, "labels"))]]
        rate = _rate(_companion(path, "lr"))
    elif is_state:
        state = value["ema_average"] if _has_set(value.get("ema_average")) else value["params"]
        sets = [[state.get("x_proto"), state.get("y_proto")]]
        # RCIG learns one of its own, for larger labels. Its set of CIFAR-10 at 1 per class, by
        # WideConvNet of width 64 in 400 epochs: 2.5: 36.3 %, 5: 40.6, 10: 42.5, 20: 42.5.
        temperature = 10.0 if "log_temp" in state else 0.4
    elif isinstance(value, dict):
        sets, accuracies = value.get("data"), _accuracies(value.get("accs_all_exps"))
    else:
        sets = [value]
    pairs = isinstance(sets, list) and all(isinstance(s, list) and len(s) == 2 for s in sets)
    if not pairs or not sets:
        raise UserError(
            f"{path} holds neither a set nor experts as a published repository has them"
        )
    if not 0 <= number <= len(sets):
        raise SettingError("number", number, f"{path} holds {len(sets)} sets, from 1 on")
    number = number or len(sets)
    images = _floats(sets[number - 1][0], 4, f"{path}: the images")
    labels = _labels(sets[number - 1][1], len(images), is_state, f"{path}: the labels")
    images = images if is_state else images.transpose(0, 2, 3, 1)
    temperature = temperature if labels.ndim == 2 else None
    pixels = isinstance(value, list)
    return FoundSet(images, labels, rate, pixels, temperature, number, len(sets), accuracies)


def _value(path: Path) -> Any:
    content = files.read_bytes(path, _MOST_BYTES)
    if content.startswith((b"PK", b"\x80")):  # an archive, or a pickle, as PyTorch had it before
        return pickles.loads(content, path)
    try:
        return serialization.msgpack_restore(content)
    except (Exception, MemoryError) as error:  # Flax and msgpack raise many kinds
        raise UserError(
            f"{path} is damaged, or neither a file of torch.save nor a checkpoint of Flax "
            f"({type(error).__name__})"
        ) from None


def _is_buffer(value: Any) -> bool:
    """Whether it is nested as experts are."""
    for _ in range(3):
        if not isinstance(value, list) or not value:
            return False
        value = value[0]
    return isinstance(value, np.ndarray)


def _checked(experts: Any, path: Path) -> Any:
    """Trajectories of one length, and epochs of as many parameters."""
    for expert in experts:
        if not isinstance(expert, list) or len(expert) != len(experts[0]) or len(expert) < 2:
            raise UserError(f"{path} holds experts of one epoch, or of several lengths")
        for epoch in expert:
            if not isinstance(epoch, list) or not all(_is_float(each) for each in epoch):
                raise UserError(f"{path} holds experts of other than parameters")
    return experts


def _has_set(value: Any) -> bool:
    return isinstance(value, dict) and "x_proto" in value


def _companion(path: Path, what: str) -> Path:
    before, images, after = path.name.rpartition("images")
    if not images:
        raise UserError(
            f"{path} holds images without labels, which are looked for next to a file whose name "
            "has 'images' in it"
        )
    return path.with_name(f"{before}{what}{after.removeprefix('_zca')}")


def _rate(path: Path) -> float | None:
    """The step size in a file, where there is one."""
    if not path.exists():
        return None
    value = np.asarray(_value(path))
    if value.size != 1 or not np.issubdtype(value.dtype, np.floating) or value.item() <= 0:
        raise UserError(f"{path} holds no positive number")
    return float(value.item())


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)


def _floats(value: Any, axes: int, what: str) -> np.ndarray:
    if not _is_float(value) or value.ndim != axes or not value.size:
        raise UserError(f"{what} are no numbers in {axes} axes")
    array = np.asarray(value, np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{what} are not finite")
    return array


def _labels(value: Any, count: int, are_targets: bool, what: str) -> np.ndarray:
    """int32 classes; or float32 targets, or logits, which probabilities become."""
    labels = np.asarray(value) if isinstance(value, np.ndarray) else np.zeros(())
    if len(labels.shape) not in (1, 2) or len(labels) != count:
        raise UserError(f"{what} are not {count}, one an image, but of shape {labels.shape}")
    if labels.ndim == 2:
        soft = _floats(labels, 2, what)
        if are_targets or (soft < 0).any() or not np.allclose(soft.sum(1), 1, atol=1e-3):
            return soft
        if set(np.unique(soft)) <= {0.0, 1.0}:
            return np.asarray(soft.argmax(1), np.int32)
        return np.asarray(np.log(np.maximum(soft, 1e-9)))
    if labels.dtype.kind not in "iuf" or not np.isin(labels % 1, 0).all() or labels.max() >= 2**31:
        raise UserError(f"{what} are no classes")
    return np.asarray(labels.clip(min=-1), np.int32)


def _accuracies(value: Any) -> dict[str, tuple[float, ...]]:
    """Lists of fractions by a network's name; whatever else is there is passed over."""
    accuracies = {}
    for name, each in value.items() if isinstance(value, dict) else ():
        fractions = each if isinstance(each, list) else []
        if fractions and all(isinstance(x, float) and 0 <= x <= 1 for x in fractions):
            accuracies[name] = tuple(fractions)
    return accuracies


def _number_in(path: Path) -> tuple[float, str]:
    """By the number of a buffer, the step of a checkpoint; none: the final one."""
    numbers = re.findall(r"\d+\.\d+|\d+", path.name)
    return (float(numbers[-1]) if numbers else math.inf, path.name)
