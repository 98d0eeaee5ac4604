"""The lines of Python that read an exported set, and those that load its dataset."""

import shlex
from pathlib import Path

import numpy as np

from jdd.data.registry import ARRAYS, FOLDER
from jdd.data.shapes import SHAPES
from jdd.synthetic import SyntheticSet

# The lines that read `images` (n, h, w, c) and `labels`, by format; @FILE@ is the file's name.
_READ = {
    "jdd": """import jdd

synthetic = jdd.SyntheticSet.load(HERE)
images = np.array(synthetic.images)
labels = np.array(synthetic.labels, np.int64 if synthetic.labels.ndim == 1 else np.float32)""",
    "npz": """with np.load(HERE / @FILE@) as file:
    images = file["images"]
    labels = file["label_logits"] if "label_logits" in file else file["labels"].astype(np.int64)""",
    "safetensors": """from safetensors.numpy import load_file

file = load_file(HERE / @FILE@)
images = file["images"]
labels = file["label_logits"] if "label_logits" in file else file["labels"].astype(np.int64)""",
    "png": """import csv

from PIL import Image

with (HERE / "labels.csv").open(encoding="utf-8") as file:
    rows = list(csv.reader(file))[1:]
pixels = np.stack([np.atleast_3d(np.asarray(Image.open(HERE / row[0]))) for row in rows])
@NORMALISE@
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
_READ["jdd8"] = _READ["jdd"]


def is_zca(synthetic: SyntheticSet) -> bool:
    """Whether images are whitened by a matrix that the set does not hold."""
    return bool(synthetic.info.preprocessing["kind"] != "standard")


def lines(synthetic: SyntheticSet, kind: str, file: str) -> str:
    """What reads `images`, float32 `(n, h, w, c)` as networks see them, and `labels`.

    It uses `np`, `HERE` and, where there are no other lines for it, `torch`, `MEAN` and `STD`.

    Args:
      synthetic: the set.
      kind: of `jdd.interop.export.FORMATS`.
      file: the file's name; empty for a folder.
    """
    normalise = "images = ((pixels / 255.0 - MEAN) / STD).astype(np.float32)"
    if is_zca(synthetic):
        normalise = f"import jdd\n\nimages = np.array({dataset(synthetic)}.preprocess(pixels))"
    shape = str(tuple(synthetic.images.shape[1:]))
    text = _READ[kind].replace("@SHAPE@", shape).replace("@NORMALISE@", normalise)
    return text.replace("@FILE@", repr(file))


def dataset(synthetic: SyntheticSet) -> str:
    """The call that loads the set's dataset as it was; DIR stands for where its data are."""
    info, (height, width, _) = synthetic.info, synthetic.images.shape[1:]
    arguments, usual = [repr(info.dataset)], SHAPES.get(info.dataset)
    place = Path(info.dataset.removeprefix(FOLDER).removeprefix(ARRAYS))
    if info.dataset != "digits" and not _is_registered(synthetic) and not place.is_absolute():
        arguments.append("'DIR'")
    if height == width and (usual is None or usual.side != height):
        arguments.append(f"image_size={height}")
    if is_zca(synthetic):
        arguments.append(f"preprocessing={info.preprocessing['kind']!r}")
    return f"jdd.load({', '.join(arguments)})"


def write_test(synthetic: SyntheticSet) -> str:
    """The command that writes the test images to TEST.npz: uint8; with ZCA whitened, float32."""
    images = "data.preprocess(data.test.images)" if is_zca(synthetic) else "data.test.images"
    plugins = synthetic.info.plugins if _is_registered(synthetic) else ()
    code = "; ".join(
        [
            "import jdd, numpy",
            *(f"jdd.plugins.load({Path(each.get('path', '')).name!r})" for each in plugins),
            f"data = {dataset(synthetic)}",
            f"numpy.savez('TEST.npz', images={images}, labels=data.test.labels)",
        ]
    )
    plain = not set(code) & set('$`!"\\')
    return "python -c " + (f'"{code}"' if plain else shlex.quote(code))


def _is_registered(synthetic: SyntheticSet) -> bool:
    """Whether the user's own code registers the dataset."""
    name = synthetic.info.dataset
    return name not in SHAPES and not name.startswith((FOLDER, ARRAYS))


def constants(synthetic: SyntheticSet) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, of pixels in [0, 1]."""
    spec = synthetic.info.preprocessing
    mean, std = ([round(float(v), 6) for v in np.ravel(spec[name])] for name in ("mean", "std"))
    return mean, std


def head(synthetic: SyntheticSet, text: str) -> str:
    """The imports and names that lines use."""
    rows = ["import pathlib", "", "import numpy as np"]
    rows += ["import torch"] * ("torch." in text)
    rows += ["", 'HERE = pathlib.Path(".")  # where this file is']
    if "MEAN" in text:
        mean, std = constants(synthetic)
        rows += [f"MEAN, STD = {mean}, {std}"]
    return "\n".join(rows) + "\n"
