"""The readers of files that others may have written, each with a small valid input of its own.

A reader that is added to jdd joins here: `tests/test_fuzz.py` finds every place in jdd that opens a
file, and asks which reader of this list goes through it.
"""

import contextlib
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jdd.errors import UserError
from tests.fuzz import data_readers
from tests.fuzz.reader import DIRECTORIES, Reader


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
    from tests.experts.small_store import filled

    filled(place)


def _read_experts(place: Path) -> Any:
    from jdd.experts import ExpertStore, open_compatible
    from tests.experts.small_store import EPOCHS, EXPERTS, spec_of

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


def _make_report(place: Path) -> None:
    _make_run(place)
    for name in ("000000", "000010", "best"):
        data_readers.picture(place / "images" / f"{name}.png", "PNG")


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
READERS = data_readers.READERS | {
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
    "report": Reader(_make_report, _read_report, DIRECTORIES),
    "flax": Reader(_make_flax, _read_published(*_FLAX_FILES)),
    "torch": Reader(_make_torch, _read_published(*_TORCH_FILES), package="torch"),
}
