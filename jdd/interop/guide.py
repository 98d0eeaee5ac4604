"""What an exported set comes with: how it is loaded and trained on."""

import importlib
import json
import math
from typing import Any, NamedTuple

from jdd import networks
from jdd.errors import SettingError, UserError
from jdd.interop import reading, script
from jdd.runs.result import RunResult
from jdd.synthetic import SyntheticSet

IMPORTED = "unknown"
"""the start of an imported set"""

_LICENCES = {
    "digits": "CC BY 4.0 (UCI, Optical Recognition of Handwritten Digits)",
    "mnist": "CC BY-SA 3.0 (LeCun, Cortes, Burges)",
    "cifar10": "none stated; its authors ask to be cited (Krizhevsky 2009)",
}
_CARD_LICENCES = {"digits": "cc-by-4.0", "mnist": "cc-by-sa-3.0"}  # as Hugging Face names them
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (math.inf, "n>100K"))
_VALUES, _PIXELS = "(n, h, w, c), float32", "`pixels`, uint8 of the same shape"
_LAYOUTS = {  # of the images, by format
    "jdd": _VALUES,
    "jdd8": f"{_VALUES}, stored in 8 bits a number, to which it was rounded after its tests",
    "npz": f"`images`, {_VALUES}",
    "safetensors": f"`images`, {_VALUES}",
    "png": "pictures of 8 bits",
    "huggingface": "`values`, float32, h · w · c a row",
    "pt": "(n, c, h, w), float32",
}
WITH_PIXELS = {
    "npz": _PIXELS,
    "safetensors": _PIXELS,
    "png": "the pictures",
    "huggingface": "`image`, pictures",
}
"""Where the formats that hold pixels have them."""


class Cut(NamedTuple):
    """What a set's pixels lack of its images."""

    share: float
    """of the values, those outside [0, 1]"""
    change: float
    """mean over all values, of pixels from 0 to 1"""


def imported(module: str, package: str) -> Any:
    """An optional module.

    Raises:
      UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UserError(f"this format needs {package}: pip install {package}") from None


def texts(
    synthetic: SyntheticSet,
    kind: str,
    file: str = "",
    result: RunResult | None = None,
    cut: Cut | None = None,
) -> dict[str, str]:
    """The text of README.md and, where plain PyTorch can train on the set, of train.py, by name.

    Args:
      synthetic: the set.
      kind: of `jdd.interop.export.FORMATS`.
      file: its name; empty for a folder.
      result: of the run that made the set.
      cut: what its pixels lack; None: it is exported without pixels.
    """
    name = f"{file}.train.py" if file else "train.py"
    contents = {"README.md": _readme(synthetic, kind, file, result, cut)}
    if kind == "huggingface":
        contents["README.md"] = _card_head(synthetic) + contents["README.md"]
    if kind in ("jdd", "jdd8"):
        return contents
    if why := script.missing(synthetic, kind):
        words = f"There is no `train.py` for PyTorch: {why}."
    else:
        contents["train.py"] = script.text(synthetic, kind, file, name)
        words = (
            f"`python {name} --test TEST.npz` trains on it with PyTorch, without augmentation and "
            "CutMix; its first lines say how TEST.npz is written."
        )
    contents["README.md"] = contents["README.md"].replace("\n## NumPy", f"\n{words}\n\n## NumPy", 1)
    return contents


def lacking(synthetic: SyntheticSet) -> str:
    """What pixels cannot be had without."""
    return f"the ZCA matrix of the training images of {synthetic.info.dataset}"


def no_pixels(synthetic: SyntheticSet, why: str = "") -> SettingError:
    """The error for pictures of a set whose ZCA matrix is not known, because of `why`."""
    why = f" ({why})" if why else ""
    return SettingError(
        "format",
        "png",
        f"pictures need {lacking(synthetic)}{why}; npz, safetensors, pt and huggingface do without",
    )


def _card_head(synthetic: SyntheticSet) -> str:
    """What Hugging Face reads at the top of a dataset's README."""
    info, count = synthetic.info, synthetic.images.shape[0]
    size = next(name for most, name in _SIZES if count < most)
    licence = _CARD_LICENCES.get(info.dataset, "unknown")
    return (
        f"---\npretty_name: {json.dumps(f'{info.dataset}, distilled: {info.method}')}\n"
        f"license: {licence}\ntask_categories:\n- image-classification\n"
        f"size_categories:\n- {size}\ntags:\n- dataset-distillation\n---\n\n"
    )


def _made(result: RunResult) -> str:
    """How good the set is, and what made it."""
    count = len(result.best.accuracy.values)
    rows = [f"Test accuracy: {result.best.accuracy}, {count} network{'s' * (count != 1)}."]
    if result.plain is not None:
        rows.append(f"With hard labels and without augmentation: {result.plain}.")
    if result.random is not None:
        rows.append(f"Random real images in the same storage: {result.random}.")
    if result.command:
        rows.append(f"Made in {result.minutes:.1f} minutes on {result.machine}, by\n\n"
                    f"```\n{result.command}\n```")  # fmt: skip
    return "\n".join(rows) + "\n\n"


def _readme(
    synthetic: SyntheticSet, kind: str, file: str, result: RunResult | None, cut: Cut | None
) -> str:
    info, read = synthetic.info, reading.lines(synthetic, kind, file)
    made = f"Made by jdd {info.version}, seed {info.seed}."
    if info.init == IMPORTED:
        made = f"Imported by jdd {info.version}: other code made it."
    licence = _LICENCES.get(info.dataset, "that of the dataset")
    rows = [*_content(synthetic, kind, cut), *_training(synthetic)]
    hub = (
        "\n## datasets\n\nWhere this file is:\n\n```python\nfrom datasets import load_dataset\n\n"
        'rows = load_dataset("parquet", data_dir="data", split="train")\n```\n'
    )
    return (
        f"# {info.dataset}, distilled: {info.method}, {info.ipc} per class\n\n"
        f"{made} Licence of the data: {licence}.\n\n"
        + ("" if result is None else _made(result))
        + "| | |\n| --- | --- |\n"
        + "".join(f"| {name} | {value} |\n" for name, value in rows)
        + f"\n## NumPy\n\n```python\n{reading.head(synthetic, read)}{read}\n```\n"
        + "\n## PyTorch\n\nAfter those of NumPy:\n\n```python\nimport torch\n\n"
        "images = torch.from_numpy(images).permute(0, 3, 1, 2)\n"
        "labels = torch.from_numpy(labels)\n```\n"
        "\n## JAX\n\nAfter those of NumPy:\n\n```python\nimport jax.numpy as jnp\n\n"
        "images, labels = jnp.asarray(images), jnp.asarray(labels)\n```\n"
        + hub
        * (kind == "huggingface")
    )


def _content(synthetic: SyntheticSet, kind: str, cut: Cut | None) -> list[tuple[str, str]]:
    """The rows that say what is stored."""
    info = synthetic.info
    n, height, width, channels = synthetic.images.shape
    mean, std = reading.constants(synthetic)
    normalised = f"(pixels / 255 − mean) / std, mean {mean}, std {std}; test images too"
    if reading.is_zca(synthetic):
        normalised = (
            "ZCA: test images have to be whitened by the matrix of the training images, as "
            f"`data.preprocess(data.test.images)` does with `data = {reading.dataset(synthetic)}`"
        )
    rows = [("images", f"{n} of {height} × {width} × {channels}: {_LAYOUTS[kind]}")]
    if kind in WITH_PIXELS and cut is None:
        rows.append(("pixels", f"none: {lacking(synthetic)} was not there"))
    elif kind in WITH_PIXELS and cut is not None:
        rows.append(
            ("pixels", f"{WITH_PIXELS[kind]}: cut to [0, 1], outside of which lay "
                       f"{100 * cut.share:.1f} % of the values, and rounded to 8 bits; the mean "
                       f"change of a value is {cut.change:.4f}")
        )  # fmt: skip
    soft = "logits: their softmax is the label, and the loss is cross-entropy with it"
    return [
        *rows,
        ("normalisation", normalised),
        ("labels", soft if synthetic.labels.ndim == 2 else "classes, counted from 0"),
        ("classes", ", ".join(info.class_names)),
    ]


def _training(synthetic: SyntheticSet) -> list[tuple[str, str]]:
    """The rows of the recipe."""
    recipe, count = synthetic.info.recipe, synthetic.images.shape[0]
    usual = networks.options(recipe.network) if recipe.network in networks.names() else {}
    options = {**usual, **recipe.options}.items()
    momentum = f"momentum {recipe.momentum}, " * (recipe.optimizer == "sgd")
    first = script.decay_epoch(synthetic)
    decay = "the same in every epoch" if first is None else f"a tenth of it after {first} epochs"
    decay = "down to 0 by a cosine" if recipe.rate_schedule == "cosine" else decay
    batches = script.batches(synthetic)
    seen = batches.steps * batches.batch + batches.rest
    last = f", the last of {batches.rest}" * (batches.rest > 0)
    left = f"; the {count - seen} left over are not seen in that epoch" * (seen < count)
    rows = [
        ("network", ", ".join([recipe.network, *(f"{k} {v}" for k, v in options)])),
        ("optimizer", f"{recipe.optimizer}, {momentum}weight decay {recipe.weight_decay}"),
        ("step size", f"{script.step_size(synthetic)}, {decay}"),
        ("epochs", str(recipe.epochs)),
        ("batches", f"of {batches.batch}{last}{left}"),
        ("augmentation", recipe.augmentation),
    ]
    if recipe.cutmix:
        beta = recipe.cutmix_beta
        rows.append(("CutMix", f"of a batch with probability {recipe.cutmix}, beta {beta}"))
    if recipe.ema:
        rows.append(("tested", f"the average of the weights, decay {recipe.ema} a step"))
    return rows
