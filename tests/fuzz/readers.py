"""The readers of files that others may have written, each with a small valid input of its own.

A reader that is added to jdd joins here: `tests/test_fuzz.py` finds every place in jdd that opens a
file, and asks which reader of this list goes through it.
"""

import contextlib
import dataclasses
import functools
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from jdd.errors import UserError

DIRECTORIES = 1_000  # inputs of a reader of Orbax's directories, or TFDS's
FILES = 10_000


@dataclasses.dataclass(frozen=True)
class Reader:
    """One way in."""

    make: Callable[[Path], None]
    """puts a valid input into a directory"""
    read: Callable[[Path], Any]
    """reads it; what it returns is compared by `repr`"""
    inputs: int = FILES
    is_exact: bool = False
    """whether another input is either refused or read as the original"""
    package: str = ""
    """that reading takes and that `make test` does not install"""


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _pixels(*shape: int) -> np.ndarray:
    return _rng().integers(0, 256, shape, dtype=np.uint8)


def _splits(result: Any) -> Any:
    """What every reader of a dataset promises: uint8 images, as many int32 labels."""
    if result is None:
        return None
    for split in result[:2]:
        assert split.images.dtype == np.uint8 and split.images.ndim == 4
        assert split.labels.dtype == np.int32 and len(split.images) == len(split.labels) > 0
    return [split.images.shape for split in result[:2]]


def _make_idx(place: Path) -> None:
    import gzip
    import struct

    for part, n in (("train", 12), ("t10k", 5)):
        images = struct.pack(">IIII", 0x803, n, 4, 4) + _pixels(n, 4, 4).tobytes()
        labels = struct.pack(">II", 0x801, n) + bytes(i % 10 for i in range(n))
        (place / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images, mtime=0))
        (place / f"{part}-labels-idx1-ubyte").write_bytes(labels)


def _read_idx(place: Path) -> Any:
    from jdd.data import idx

    return _splits(idx.read("mnist", [place]))


def _make_cifar(place: Path) -> None:
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        (place / name).write_bytes(bytes([3]) + _pixels(3072).tobytes())


def _read_cifar(place: Path) -> Any:
    from jdd.data import cifar

    return _splits(cifar.read("cifar10", [place]))


def _make_svhn(place: Path) -> None:
    from scipy.io import savemat

    for name, compressed in (("train_32x32.mat", False), ("test_32x32.mat", True)):
        arrays = {"X": _pixels(32, 32, 3, 2), "y": np.array([[10], [3]], np.uint8)}
        savemat(place / name, arrays, do_compression=compressed)


def _read_svhn(place: Path) -> Any:
    from jdd.data import svhn

    return _splits(svhn.read([place]))


def _picture(path: Path, kind: str) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_pixels(6, 6, 3)).save(path, kind)


def _make_mhist(place: Path) -> None:
    rows = ["Image Name,Majority Vote Label,Number of Annotators who Selected SSA,Partition"]
    for i, (label, part) in enumerate((("HP", "train"), ("SSA", "train"), ("HP", "test"))):
        rows.append(f"{i}.png,{label},3,{part}")
        _picture(place / "images" / f"{i}.png", "PNG")
    (place / "annotations.csv").write_text("\n".join(rows) + "\n")


def _read_mhist(place: Path) -> Any:
    from jdd.data import mhist

    with _nothing_kept():
        return _splits(mhist.read([place]))


def _make_folder(place: Path) -> None:
    for part in ("train", "test"):
        _picture(place / part / "cat" / "0.png", "PNG")
        _picture(place / part / "dog" / "1.jpg", "JPEG")


def _read_folder(place: Path) -> Any:
    from jdd.data import folder

    with _nothing_kept():
        with contextlib.suppress(UserError):  # it may be what is to be read that is refused
            folder.traits(place, None)
        return _splits(folder.read(place, None))


def _nothing_kept() -> Any:
    """Pictures are decoded every time."""
    return mock.patch.dict("os.environ", JDD_CACHE_DIR="/dev/null/nowhere")


def _decoded(place: Path) -> Any:
    from jdd.data import decoded

    wanted = decoded.Wanted([Path("a.png"), Path("b.png")], Path("/nowhere"), "train")
    with mock.patch.dict("os.environ", JDD_CACHE_DIR=str(place)):
        return wanted, wanted.path


def _make_decoded(place: Path) -> None:
    from jdd.data import decoded

    made = decoded.Pictures(_pixels(2, 4, 4, 3), (bytes(16), bytes(16)))
    decoded._write(_decoded(place)[1], "mark", made)


def _read_decoded(place: Path) -> Any:
    """As they were kept, or not at all: they are decoded again then."""
    from jdd.data import decoded

    wanted = _decoded(place)[0]
    with mock.patch.dict("os.environ", JDD_CACHE_DIR=str(place)):
        loaded = decoded._kept(wanted, "mark")
    return None if loaded is None else (loaded.images.tobytes(), loaded.digests)


def _make_tiny_imagenet(place: Path) -> None:
    (place / "wnids.txt").write_text("n01\nn02\n")
    (place / "words.txt").write_text("n01\tgoldfish, carp\nn02\ttailed frog\n")
    _picture(place / "train" / "n01" / "images" / "n01_0.JPEG", "JPEG")
    _picture(place / "train" / "n02" / "images" / "n02_0.JPEG", "JPEG")
    _picture(place / "val" / "images" / "val_0.JPEG", "JPEG")
    (place / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn02\t0\t0\t9\t9\n")


def _read_tiny_imagenet(place: Path) -> Any:
    from jdd.data import folder

    with _nothing_kept():
        return _splits(folder.read_tiny_imagenet([place]))


def _make_tfds(place: Path) -> None:
    from tests.data.test_tfds import prepare

    with contextlib.redirect_stdout(io.StringIO()):
        prepare(place, splits=(("train", 12), ("test", 5)))


def _read_tfds(place: Path) -> Any:
    from jdd.data import tfds

    return _splits(tfds.read_from(place, "mnist", 10))


def _make_whitening(place: Path) -> None:
    _read_whitening(place)


def _read_whitening(place: Path) -> Any:
    """Damaged or not, the numbers are those of the images."""
    import os

    from jdd import preprocessing

    os.environ["JDD_CACHE_DIR"] = str(place)
    fitted = preprocessing.fit("zca", _pixels(20, 3, 3, 3))
    assert fitted.zca is not None
    return [np.asarray(a).tobytes() for a in (fitted.zca.mean, fitted.zca.unwhiten)]


def _a_set() -> Any:
    import jax

    from jdd import data, synthetic
    from jdd.synthetic import SetInfo, SyntheticSet
    from jdd.training import Recipe

    digits = data.load("digits")
    images, labels = synthetic.from_noise(digits, 1, jax.random.key(0))
    recipe = Recipe(options={"width": 8, "depth": 2})
    info = SetInfo("digits", digits.class_names, digits.preprocess.spec(), 1, recipe=recipe)
    return SyntheticSet(images, labels, np.float32(0.02), info)


def _content(tree: Any) -> Any:
    import jax

    return [(a.shape, a.dtype, a.tobytes()) for a in map(np.asarray, jax.tree.leaves(tree))]


def _make_set(place: Path) -> None:
    _a_set().save(place)


def _read_set(place: Path) -> Any:
    """What `evaluate` does with it before it trains."""
    from jdd import networks
    from jdd.synthetic import SyntheticSet

    loaded = SyntheticSet.load(place)
    recipe = loaded.info.recipe
    networks.create(recipe.network, loaded.num_classes, **recipe.options)
    return _content(loaded), loaded.info.to_json()


def _read_forged_set(place: Path) -> Any:
    """The same where somebody has made the checksums fit: any set, but nothing worse."""
    from jdd import checkpoints, files

    folder = place / "synthetic"
    if (folder / "checksums.json").is_file():
        files.write_json(folder / "checksums.json", checkpoints._checksums(folder))
    return _read_set(place)


def _make_states(place: Path) -> None:
    from jdd.checkpoints import StateCheckpoints

    states = StateCheckpoints(place / "state")
    for i in (1, 2):
        states.save(i, {"x": np.arange(4.0)}, {"progress": {}})


def _read_states(place: Path) -> Any:
    """The newest is read, or the one before it, which differs by its number alone."""
    from jdd.checkpoints import StateCheckpoints

    newest = StateCheckpoints(place / "state").newest({"x": np.zeros(4)})
    return None if newest is None else _content(newest[0])


def _difficulty() -> Any:
    from jdd.difficulty import DifficultySettings, DifficultySpec

    spec = {"kind": "standard", "image_shape": [8, 8, 1]}
    return DifficultySpec("digits", spec, "MLP", {"width": 8}, 0.1, 0, DifficultySettings())


def _make_scores(place: Path) -> None:
    from jdd import difficulty

    difficulty.save(place / "scores", _difficulty(), np.linspace(0, 1, 6), np.arange(6))


def _read_scores(place: Path) -> Any:
    from jdd import difficulty

    scores = difficulty.load(place / "scores", _difficulty(), np.arange(6))
    return None if scores is None else scores.tobytes()


def _make_experts(place: Path) -> None:
    from tests.experts.test_store import filled

    filled(place)


def _read_experts(place: Path) -> Any:
    from jdd.experts import ExpertStore, open_compatible
    from tests.experts.test_store import EPOCHS, EXPERTS, spec_of

    store = open_compatible(place, spec_of())
    if store is None:
        return None
    assert isinstance(store, ExpertStore)
    read = [_content(store.read(e, t)) for e in range(EXPERTS) for t in range(EPOCHS + 1)]
    return store.accuracies, store.seconds, read


OLD_RUN = Path(__file__).resolve().parents[1] / "fixtures" / "run-0.1"


_PLUGINS = [{"path": "/nowhere/own.py", "sha256": "00"}]


def _result() -> dict[str, Any]:
    value: dict[str, Any] = json.loads((OLD_RUN / "result.json").read_text())
    look = {"iteration": 0, "accuracy": 0.5, "seconds": 1.5}
    return {**value, "version": "0.2.0", "storage": {"numbers": 9}, "curve": [look]}


def _make_run(place: Path) -> None:
    settings = json.loads((OLD_RUN / "settings.json").read_text())
    settings = {"version": "0.2.0", "method_settings": {"iterations": 6}, **settings}
    (place / "settings.json").write_text(json.dumps({**settings, "plugins": _PLUGINS}))
    (place / "result.json").write_text(json.dumps(_result()))
    shutil.copy(OLD_RUN / "metrics.jsonl", place)


def _read_run(place: Path) -> Any:
    """What `--resume`, and the tables of results, do with a run's files."""
    from jdd import files, locks
    from jdd.errors import UserError
    from jdd.report import results
    from jdd.runs import RunResult
    from jdd.runs import directory as rundir
    from jdd.runs.tensorboard import TensorBoard

    asked = json.loads((OLD_RUN / "settings.json").read_text())
    asked = {"method_settings": {"iterations": 6}, **asked, "plugins": _PLUGINS}
    result = None
    locks.owner(place)
    try:
        rundir.check(place, asked, resume=True, overwrite=False)
    finally:
        if (place / "result.json").exists():
            result = results.page([RunResult.load(place / "result.json")])
        metrics = place / "metrics.jsonl"
        before = metrics.read_bytes() if metrics.is_file() else None
        with contextlib.suppress(UserError):
            board = TensorBoard(None, place)
            try:
                board.began(0, 6)
            finally:
                board.ended(None)
            files.filter_lines(metrics, lambda line: line["iteration"] <= 4)
        if before is not None:
            metrics.write_bytes(before)
    return result


def _search() -> Any:
    from jdd.tasks.nas.settings import NasSettings
    from jdd.tasks.nas.store import SearchStore

    class Set:
        images = labels = np.zeros(3)

    return lambda path: SearchStore(path, NasSettings(), Set(), 0)  # type: ignore[arg-type]


def _make_search(place: Path) -> None:
    from jdd.tasks.nas.settings import Training

    store = _search()(place / "nas.jsonl")
    for i in range(3):
        store.add(Training({"width": 8, "depth": i}, "distilled", 0, 0.5, 1.5, 10))


def _read_search(place: Path) -> Any:
    with _search()(place / "nas.jsonl").opened(resume=True, overwrite=False) as stored:
        return [(training.identity, f"{training.accuracy:.3f}") for training in stored]


def _make_reproduction(place: Path) -> None:
    (place / "command.json").write_text(json.dumps(["cost", "--dataset", "digits"]))
    (place / "cost.json").write_text(json.dumps({"real": {"accuracy": 0.97}, "sets": [1, 2]}))
    (place / "cost.md").write_text("# Cost\n\nIt costs 3 €.\n")


def _read_reproduction(place: Path) -> Any:
    from jdd.report import reproduction
    from jdd.tasks.reproduction import Job, Step

    job = Job("digits", Step("cost", "the cost", "cost"), place, ("cost", "--dataset", "digits"))
    figure = reproduction._figure(job, "real.accuracy")
    return job.is_done(), figure, reproduction._results(place, job)


def _make_trusted(place: Path) -> None:
    (place / "plugins.json").write_text(json.dumps({"/home/me/own.py": "ab" * 32}))


def _read_trusted(place: Path) -> Any:
    import os

    from jdd import plugins

    os.environ["JDD_CACHE_DIR"] = str(place)
    return sorted(plugins._trusted().items())


def _make_peer(place: Path) -> None:
    case = {"peer": {"ratio": 1.5}}
    value = {"cases": {"dc-mnist-ipc1": case, "mtt-mnist-ipc10": case, "step": case}}
    (place / "benchmark.json").write_text(json.dumps(value))


def _read_peer(place: Path) -> Any:
    from jdd.cli.results import _ratios

    return _ratios(str(place / "benchmark.json"), "mnist", 1)


def _make_arrays(place: Path) -> None:
    labels = np.arange(12) % 3
    np.savez(place / "a.npz", images=_pixels(12, 4, 4), labels=labels, class_names=[*"abc"])
    np.savez_compressed(place / "b.npz", images=_pixels(12, 4, 4, 3), labels=labels)


def _read_arrays(place: Path) -> Any:
    from jdd.data import arrays

    with contextlib.suppress(UserError):
        for name in ("a.npz", "b.npz"):
            arrays.traits(place / name)
    return [_splits(arrays.read(place / name)) for name in ("a.npz", "b.npz")]


def _make_report(place: Path) -> None:
    _make_run(place)
    for name in ("000000", "000010", "best"):
        _picture(place / "images" / f"{name}.png", "PNG")


def _read_report(place: Path) -> Any:
    from jdd.report import pictures, web

    pictures.save_course(place / "images")
    return web.write_run(place).exists()


def _make_flax(place: Path) -> None:
    from tests.interop import fakes

    for write in (fakes.frepo, fakes.rcig):
        (place / write.__name__).mkdir()
        write(place / write.__name__)


def _make_torch(place: Path) -> None:
    import torch

    from tests.interop import fakes

    images, labels = torch.tensor(fakes.images()), torch.arange(10).repeat_interleave(2)
    torch.save(images, place / "images_best.pt")
    torch.save(labels, place / "labels_best.pt")
    torch.save(torch.tensor(0.02), place / "lr_best.pt")
    results = {"data": [[images, labels]], "accs_all_exps": {"ConvNet": [np.float64(0.5)]}}
    torch.save(results, place / "res_1.pt")
    torch.save(results, place / "res_2.pt", _use_new_zipfile_serialization=False)
    experts = [[[torch.tensor(a) for a in e] for e in t] for t in fakes.trajectories(1, 1)]
    torch.save(experts, place / "replay_buffer_0.pt")


@functools.cache
def _digits() -> Any:
    from jdd import data, networks
    from jdd.interop.torch import TorchLayout

    digits = data.load("digits")
    network = networks.create("ConvNet", 10, width=8, depth=2)
    return digits, TorchLayout(network, digits.image_shape)


def _read_published(*names: str) -> Callable[[Path], Any]:
    """What `import_published.py` does with a file before it writes."""

    def read(place: Path) -> Any:
        from jdd.interop import published
        from jdd.interop.importing import import_set
        from jdd.training import Recipe

        digits, layout = _digits()
        for name in names:
            content = published.read(place / name)
            if isinstance(content, published.FoundSet):
                _content(import_set(content, digits, Recipe()))
                continue
            for trajectory in content.trajectories:
                [layout.params(tensors) for tensors in trajectory]

    return read


_FLAX_FILES = ("frepo/checkpoint_46.8", "rcig/checkpoint_10000")
_TORCH_FILES = ("images_best.pt", "res_1.pt", "res_2.pt", "replay_buffer_0.pt")
READERS = {
    "idx": Reader(_make_idx, _read_idx),
    "cifar": Reader(_make_cifar, _read_cifar),
    "svhn": Reader(_make_svhn, _read_svhn),
    "mhist": Reader(_make_mhist, _read_mhist),
    "folder": Reader(_make_folder, _read_folder),
    "decoded": Reader(_make_decoded, _read_decoded, is_exact=True),
    "tiny_imagenet": Reader(_make_tiny_imagenet, _read_tiny_imagenet),
    "tfds": Reader(_make_tfds, _read_tfds, DIRECTORIES),
    "whitening": Reader(_make_whitening, _read_whitening, is_exact=True),
    "set": Reader(_make_set, _read_set, DIRECTORIES, is_exact=True),
    "forged set": Reader(_make_set, _read_forged_set, DIRECTORIES),
    "states": Reader(_make_states, _read_states, DIRECTORIES, is_exact=True),
    "scores": Reader(_make_scores, _read_scores, DIRECTORIES, is_exact=True),
    "experts": Reader(_make_experts, _read_experts, is_exact=True),
    "run": Reader(_make_run, _read_run),
    "search": Reader(_make_search, _read_search),
    "reproduction": Reader(_make_reproduction, _read_reproduction),
    "plugins": Reader(_make_trusted, _read_trusted),
    "peer": Reader(_make_peer, _read_peer),
    "arrays": Reader(_make_arrays, _read_arrays),
    "report": Reader(_make_report, _read_report, DIRECTORIES),
    "flax": Reader(_make_flax, _read_published(*_FLAX_FILES)),
    "torch": Reader(_make_torch, _read_published(*_TORCH_FILES), package="torch"),
}

# Which reader goes through each place in jdd that opens a file, or why none has to.
_WRITES = "- it writes"
_BELOW = "- called by the readers of this list"
_ELSEWHERE = "- it reads nothing itself"
_MEASURED = "- what the measuring of an accelerator has written itself"
_ARCHIVE = "- an archive of pictures, which tarfile and jdd.data.pictures hold to their bounds"
_OURS = "- a file that jdd comes with"
OPENED_BY = {
    "jdd._orbax.restore": "set",
    "jdd._orbax.shapes": "set",
    "jdd.checkpoints.load_tree": "states",
    "jdd.checkpoints._checksums": "set",
    "jdd.checkpoints._verify": "set",
    "jdd.checkpoints.load_info": "set",
    "jdd.benchmarks.accelerator.archive._pixels": _ARCHIVE,
    "jdd.benchmarks.accelerator.archive._records": _ARCHIVE,
    "jdd.benchmarks.accelerator.plan.Plan.script": _MEASURED,
    "jdd.benchmarks.accelerator.runs._trained": _MEASURED,
    "jdd.benchmarks.accelerator.runs._updates_made": _MEASURED,
    "jdd.benchmarks.accelerator.session._device": _ELSEWHERE,
    "jdd.benchmarks.accelerator.session._stored": _MEASURED,
    "jdd.cli.measure_accelerator._work": _MEASURED,
    "jdd.cli.results._ratios": "peer",
    "jdd.data.digits.read": "- a file of scikit-learn, and one that jdd comes with",
    "jdd.data.files.read": "idx",
    "jdd.data.decoded._mapped": "decoded",
    "jdd.data.decoded._shape": "decoded",
    "jdd.data.folder._image": "folder",
    "jdd.data.folder._text": "tiny_imagenet",
    "jdd.data.mhist._read.image": "mhist",
    "jdd.data.mhist._rows": "mhist",
    "jdd.data.arrays._arrays": "arrays",
    "jdd.data.arrays.traits": "arrays",
    "jdd.data.pictures._opened": "folder",
    "jdd.data.pictures.head": "folder",
    "jdd.data.pictures.read": "report",
    "jdd.data.tfds._find_prepared": "tfds",
    "jdd.data.tfds._check_files": "tfds",
    "jdd.difficulty._differing": "scores",
    "jdd.distillation._Run.begin": _ELSEWHERE,
    "jdd.events.Listeners.restore": _ELSEWHERE,
    "jdd.experts.description.check_zarr": "experts",
    "jdd.experts.description._unsealed": "experts",
    "jdd.experts.store.ExpertStore._open": "experts",
    "jdd.experts.train.open_compatible": _ELSEWHERE,
    "jdd.files.flush": _WRITES,
    "jdd.locks.owner": "run",
    "jdd.files.read_bytes": _BELOW,
    "jdd.files.read_json": _BELOW,
    "jdd.files.read_lines": "run",
    "jdd.files._parsed": _BELOW,
    "jdd.files.append_line": _WRITES,
    "jdd.files.filter_lines": "run",
    "jdd.locks.locked": _WRITES,
    "jdd.interop.export._npz": _WRITES,
    "jdd.interop.export._png": _WRITES,
    "jdd.interop.script.text": _OURS,
    "jdd.interop.importing.import_experts": _ELSEWHERE,
    "jdd.interop.pickles.loads": "torch",
    "jdd.interop.published._value": "flax",
    "jdd.plugins._source": "- code that the user has named, or loaded before by its checksum",
    "jdd.plugins._trusted": "plugins",
    "jdd.preprocessing._zca._memory": "- what the system says of its memory",
    "jdd.preprocessing._zca._read": "whitening",
    "jdd.records.load": "run",
    "jdd.report.recommendation.stored": _OURS,
    "jdd.report.web._frame": "report",
    "jdd.report.web._losses": "report",
    "jdd.report.reproduction._results": "reproduction",
    "jdd.report.reproduction._figure": "reproduction",
    "jdd.runs.directory.read_settings": "run",
    "jdd.runs.own_listener._OwnListener.restore": _ELSEWHERE,
    "jdd.runs.result.RunResult.load": "run",
    "jdd.runs.tensorboard.TensorBoard.began": "run",
    "jdd.tasks.nas.store.SearchStore._read": "search",
    "jdd.tasks.reproduction.Job.is_done": "reproduction",
}
