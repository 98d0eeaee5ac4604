"""What an exported set comes with: how it is loaded and trained on."""

import importlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from jdd.errors import UserError
from jdd.preprocessing import Preprocess
from jdd.runs.result import RunResult
from jdd.synthetic import SyntheticSet

_LICENCES = {
    "digits": "CC BY 4.0 (UCI, Optical Recognition of Handwritten Digits)",
    "mnist": "CC BY-SA 3.0 (LeCun, Cortes, Burges)",
    "cifar10": "none stated; its authors ask to be cited (Krizhevsky 2009)",
}
_CARD_LICENCES = {"digits": "cc-by-4.0", "mnist": "cc-by-sa-3.0"}  # as Hugging Face names them
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (math.inf, "n>100K"))
_TEMPLATE = Path(__file__).with_name("train.py.txt")
# The lines that read `images` (n, h, w, c) and `labels`, by format; @FILE@ is the file's name.
_READ = {
    "jdd": """import jdd

synthetic = jdd.SyntheticSet.load(HERE)
images = np.asarray(synthetic.images)
labels = np.asarray(synthetic.labels, np.int64 if synthetic.labels.ndim == 1 else np.float32)""",
    "npz": """with np.load(HERE / "@FILE@") as file:
    images = file["images"]
    labels = file["label_logits"] if "label_logits" in file else file["labels"].astype(np.int64)""",
    "safetensors": """from safetensors.numpy import load_file

file = load_file(HERE / "@FILE@")
images = file["images"]
labels = file["label_logits"] if "label_logits" in file else file["labels"].astype(np.int64)""",
    "png": """import csv

from PIL import Image

with (HERE / "labels.csv").open(encoding="utf-8") as file:
    rows = list(csv.reader(file))[1:]
pixels = np.stack([np.atleast_3d(np.asarray(Image.open(HERE / row[0]))) for row in rows])
images = ((pixels / 255.0 - MEAN) / STD).astype(np.float32)
shares = np.array([row[2:] for row in rows], np.float32)
labels = shares.argmax(1) if set(shares.flat) <= {0, 1} else np.log(np.maximum(shares, 1e-9))""",
    "huggingface": """import pyarrow.parquet

rows = pyarrow.parquet.read_table(HERE / "data").to_pydict()
images = np.array(rows["values"], np.float32).reshape(-1, *@SHAPE@)
soft = "label_logits" in rows
labels = np.array(rows["label_logits"], np.float32) if soft else np.array(rows["label"])""",
    "pt": """images = torch.load(HERE / "images_best.pt", weights_only=True)
images = images.permute(0, 2, 3, 1).numpy()
labels = torch.load(HERE / "labels_best.pt", weights_only=True).numpy()""",
}


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
    preprocess: Preprocess,
    path: Path,
    kind: str,
    result: RunResult | None = None,
) -> dict[str, str]:
    """The text of README.md and, where plain PyTorch can train on the set, of train.py, by name.

    Args:
      synthetic: the set.
      preprocess: of its dataset.
      path: of the file or folder.
      kind: of `jdd.interop.export.FORMATS`.
      result: of the run that made the set.
    """
    is_file = bool(path.suffix)
    read = _READ[kind].replace("@FILE@", path.name)
    read = read.replace("@SHAPE@", str(tuple(synthetic.images.shape[1:])))
    script = f"{path.name}.train.py" if is_file else "train.py"
    found = {"README.md": _readme(synthetic, preprocess, read, script, result)}
    if kind == "huggingface":
        found["README.md"] = _card_head(synthetic) + found["README.md"]
    if kind == "jdd":
        found["README.md"] = found["README.md"].replace(_run_words(script), "")
    elif _can_train(synthetic, preprocess):
        found["train.py"] = _train(synthetic, preprocess, read, script)
    return found


def _can_train(synthetic: SyntheticSet, preprocess: Preprocess) -> bool:
    recipe = synthetic.info.recipe
    published = {"norm": "instance", "activation": "relu", "pooling": "avg"}
    usual = all(recipe.options.get(name, value) == value for name, value in published.items())
    is_sgd = recipe.optimizer == "sgd" and recipe.rate_schedule == "step"
    return recipe.network == "ConvNet" and usual and is_sgd and preprocess.zca is None


def _train(synthetic: SyntheticSet, preprocess: Preprocess, read: str, script: str) -> str:
    recipe = synthetic.info.recipe
    values = {
        "SCRIPT": script,
        "DATASET": synthetic.info.dataset,
        "DIR": "" if synthetic.info.dataset == "digits" else ", 'DIR'",
        "MEAN": _constants(preprocess.mean),
        "STD": _constants(preprocess.std),
        "CLASSES": synthetic.num_classes,
        "WIDTH": recipe.options.get("width", 128),
        "DEPTH": recipe.options.get("depth", 3),
        "EPOCHS": recipe.epochs,
        "BATCH": recipe.batch_size,
        "RATE": _rate(synthetic),
        "READ": "\n".join(f"    {line}".rstrip() for line in read.splitlines()),
    }
    text = _TEMPLATE.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def _run_words(script: str) -> str:
    return f"\n`python {script} --test TEST.npz` trains on it with PyTorch.\n"


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
    rows = [f"Test accuracy: {result.best.accuracy}, {len(result.best.accuracy.values)} networks."]
    if result.plain is not None:
        rows.append(f"With hard labels and without augmentation: {result.plain}.")
    if result.random is not None:
        rows.append(f"Random real images in the same storage: {result.random}.")
    if result.command:
        rows.append(f"Made in {result.minutes:.1f} minutes on {result.machine}, by\n\n"
                    f"```\n{result.command}\n```")  # fmt: skip
    return "\n".join(rows) + "\n\n"


def _readme(
    synthetic: SyntheticSet,
    preprocess: Preprocess,
    read: str,
    script: str,
    result: RunResult | None,
) -> str:
    info, recipe = synthetic.info, synthetic.info.recipe
    n, height, width, channels = synthetic.images.shape
    soft = synthetic.labels.ndim == 2
    labels = (
        "logits: their softmax is the label, and the loss is cross-entropy with it"
        if soft
        else "classes, counted from 0"
    )
    if preprocess.zca is not None:
        normalised = (
            "ZCA: test images have to be whitened by the matrix of the training images, as "
            f'`jdd.load("{info.dataset}", preprocessing="{preprocess.kind}")` does'
        )
    else:
        normalised = (
            f"(pixels / 255 − mean) / std, mean {_constants(preprocess.mean)}, std "
            f"{_constants(preprocess.std)}; test images too"
        )
    decay = {"step": "a tenth of it after half of the epochs", "cosine": "down to 0 by a cosine"}
    rows = [
        ("images", f"{n} of {height} × {width} × {channels}, (n, h, w, c), float32"),
        ("normalisation", normalised),
        ("labels", labels),
        ("classes", ", ".join(info.class_names)),
        ("network", f"{recipe.network} {dict(recipe.options) or ''}".strip()),
        ("optimizer", f"{recipe.optimizer}, momentum {recipe.momentum}, "
                      f"weight decay {recipe.weight_decay}"),
        ("step size", f"{_rate(synthetic)}, {decay[recipe.rate_schedule]}"),
        ("epochs, batch", f"{recipe.epochs}, at most {recipe.batch_size}"),
        ("augmentation", recipe.augmentation),
    ]  # fmt: skip
    run = _run_words(script)
    licence = _LICENCES.get(info.dataset, "that of the dataset")
    return (
        f"# {info.dataset}, distilled: {info.method}, {info.ipc} per class\n\n"
        f"Made by jdd {info.version}, seed {info.seed}. Licence of the data: {licence}.\n\n"
        + ("" if result is None else _made(result))
        + "| | |\n| --- | --- |\n"
        + "".join(f"| {name} | {value} |\n" for name, value in rows)
        + (run if _can_train(synthetic, preprocess) else "")
        + f"\n## NumPy\n\n```python\n{_head(read, preprocess)}{read}\n```\n"
        + "\n## PyTorch\n\n```python\nimages = torch.from_numpy(images).permute(0, 3, 1, 2)\n"
        "labels = torch.from_numpy(labels)\n```\n"
        "\n## JAX\n\n```python\nimages, labels = jnp.asarray(images), jnp.asarray(labels)\n```\n"
    )


def _head(read: str, preprocess: Preprocess) -> str:
    """The imports and names that the reading lines use."""
    lines = ["import pathlib", "", "import numpy as np"]
    lines += ["import torch"] * ("torch." in read)
    lines += ["", 'HERE = pathlib.Path(".")  # where this file is']
    if "MEAN" in read:
        lines += [f"MEAN, STD = {_constants(preprocess.mean)}, {_constants(preprocess.std)}"]
    return "\n".join(lines) + "\n"


def _rate(synthetic: SyntheticSet) -> float:
    rate = float(synthetic.info.recipe.step_size(synthetic.learning_rate))
    return float(f"{rate:.6g}")


def _constants(values: Any) -> list[float]:
    return [round(float(value), 6) for value in np.asarray(values)]
