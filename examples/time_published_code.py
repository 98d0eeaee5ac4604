"""Times the published code as it is: seconds an update of DC, DSA, DM (PyTorch) and MTT.

    git clone https://github.com/VICO-UoE/DatasetCondensation
    python examples/time_published_code.py DatasetCondensation/main.py --updates 5 \
        --data-dir DIR --method DC --dataset MNIST --ipc 1
    git clone https://github.com/GeorgeCazenavette/mtt-distillation
    python examples/time_published_code.py mtt-distillation/distill.py --updates 5 \
        --data-dir DIR --dataset CIFAR10 --ipc 1

DSA takes `--method DSA --dsa_strategy color_crop_cutout_flip_scale_rotate`, DM `main_DM.py`, and
MTT at 1 per class `--syn_steps 50 --max_start_epoch 2`.

Needs torch and torchvision, both of one build, besides jdd. What is not known here is passed on to
the script. It runs unchanged, but images are read from jdd's files, and newer libraries get what
they want (a module of SciPy is gone, and PyTorch refuses `x[:] = x[0]` and some views). wandb keeps
no records, and no networks are tested. MTT has random experts, as an update takes the same time
with any.

    python bin/distill.py --method dc --dataset mnist --data-dir DIR --preset released --dry-run

says what an update takes in jdd.
"""

import argparse
import itertools
import os
import runpy
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
import torchvision

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import jdd


class _Images(torch.utils.data.Dataset[Any]):
    """A dataset of torchvision's, read by jdd."""

    data_dir: str

    def __init__(self, root: str, train: bool = True, transform: Any = None, **_: Any) -> None:
        del root
        loaded = jdd.load(type(self).__name__.lower(), self.data_dir)
        split = loaded.train if train else loaded.test
        self.classes, self.transform = list(loaded.class_names), transform
        self.images, self.labels = split.images, split.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        image = self.images[index]
        image = image[..., 0] if image.shape[-1] == 1 else image
        return self.transform(image), int(self.labels[index])


def _stand_ins() -> dict[str, Any]:
    """Modules that the code imports and does not need here."""
    gone, records = ModuleType("scipy.ndimage.interpolation"), mock.MagicMock()
    gone.rotate = None  # for DC's augmentation, in tests alone
    records.run.name = "timed"

    def init(config: Any = None, **_: Any) -> None:
        records.config._items = dict(vars(config or argparse.Namespace()))

    records.init = init
    return {"scipy.ndimage.interpolation": gone, "wandb": records, "kornia": mock.MagicMock()}


def _write_experts(utils: Any, dataset: str, place: Path) -> None:
    """A file of one expert, as MTT's `buffer.py` writes them: random networks."""
    channels, size = (1, (28, 28)) if dataset == "MNIST" else (3, (32, 32))
    epochs = [
        [p.detach() for p in utils.get_network("ConvNet", channels, 10, size).parameters()]
        for _ in range(30)
    ]
    folder = dataset + "_NO_ZCA" * dataset.startswith("CIFAR")
    (place / folder / "ConvNet").mkdir(parents=True)
    torch.save([epochs], place / folder / "ConvNet" / "replay_buffer_0.pt")


def main() -> None:
    """Runs the script and prints the median seconds of an update."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("script", type=Path, help="main.py, main_DM.py or distill.py of a clone")
    parser.add_argument("--updates", type=int, default=5, help="how many are timed (default: 5)")
    parser.add_argument("--data-dir", required=True, help="where the dataset's files are")
    args, rest = parser.parse_known_args()
    script = args.script.resolve()
    _Images.data_dir = str(Path(args.data_dir).resolve())
    sys.path.insert(0, str(script.parent))
    sys.modules.update(_stand_ins())
    for name in ("MNIST", "CIFAR10"):
        setattr(torchvision.datasets, name, type(name, (_Images,), {}))
    torch.Tensor.cuda = lambda tensor, *_: tensor
    put = torch.Tensor.__setitem__

    def setitem(tensor: Any, at: Any, value: Any) -> None:
        put(tensor, at, value.clone() if isinstance(value, torch.Tensor) else value)

    torch.Tensor.__setitem__ = setitem
    torch.Tensor.view = torch.Tensor.reshape
    utils = __import__("utils")
    make, begun = utils.get_network, []

    def get_network(*values: Any, **named: Any) -> Any:  # once an update, at its start
        begun.append(time.perf_counter())
        return make(*values, **named)

    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        if script.name == "distill.py":
            dataset = rest[rest.index("--dataset") + 1] if "--dataset" in rest else "CIFAR10"
            _write_experts(utils, dataset, Path(place, "buffers"))
        utils.get_network = get_network
        usual = ["--num_eval", "0", "--Iteration", str(args.updates + 1)]
        usual += ["--num_exp", "1"] if script.name != "distill.py" else []
        sys.argv = [str(script), *usual, *rest]
        runpy.run_path(str(script), run_name="__main__")
    seconds = [after - before for before, after in itertools.pairwise(begun)]
    print(f"{statistics.median(seconds[1:]):.3f} s an update: {[round(s, 3) for s in seconds]}")


if __name__ == "__main__":
    main()
