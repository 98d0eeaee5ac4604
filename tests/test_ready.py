"""Ready sets: by name, each with a card, small, and worth what its card says it is a set of."""

import re
from pathlib import Path

import pytest

from jdd import SyntheticSet
from jdd.cli import export
from jdd.errors import UserError
from jdd.synthetic import ready

NAMES = ready.names()


def test_there_are_some():
    assert {"mnist/mtt-ipc1", "digits/dm-ipc10"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_is_loaded_by_name(name):
    stored = SyntheticSet.load(name)
    dataset, method, ipc = re.match(r"(\w+)/(\w+)-ipc(\d+)", name).groups()
    assert (stored.info.dataset, stored.info.method, str(stored.info.ipc)) == (
        dataset,
        method,
        ipc,
    )
    assert stored.info.fingerprint
    folder = ready.resolve(name)
    card = (folder / "README.md").read_text()
    assert (folder / "result.json").is_file()
    assert "Test accuracy: " in card and "Licence of the data: " in card
    assert f"--method {method}" in card and f"--dataset {dataset}" in card
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 400_000


def test_what_is_exported_from_one_has_its_figures(tmp_path, capsys):
    assert export.main(["digits/frepo-ipc1", "--to", str(tmp_path / "set.npz")]) == 0
    card = (ready.resolve("digits/frepo-ipc1") / "README.md").read_text()
    figures = re.search(r"Test accuracy: .*", card)[0]
    assert figures in (tmp_path / "set.npz.README.md").read_text()


def test_what_is_no_ready_set(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no ready set: did you mean 'mnist/mtt-ipc1'"):
        SyntheticSet.load("mnist/mtt-ipc2")
    for name, near in {
        "cifar10/mtt-ipc1": "cifar10/mtt-ipc1-factor2",
        "digit/dm-ipc1": "digits/dm-ipc1",
        "mnist/d-ipc10": "mnist/dm-ipc10",
    }.items():
        with pytest.raises(UserError, match=f"no ready set: did you mean '{near}'") as raised:
            SyntheticSet.load(name)
        assert len(str(raised.value)) < 250
    with pytest.raises(UserError, match="last: a ready set has its best alone"):
        SyntheticSet.load("digits/dm-ipc1/last")
    with pytest.raises(UserError, match="runs/dm-ipc1 does not exist"):
        SyntheticSet.load("runs/dm-ipc1")
    monkeypatch.chdir(tmp_path)
    Path("mnist/mtt-ipc1").mkdir(parents=True)  # a directory of the user's comes first
    with pytest.raises(UserError, match="mnist/mtt-ipc1"):
        SyntheticSet.load("mnist/mtt-ipc1")
    monkeypatch.setattr(ready, "SETS", tmp_path / "site-packages" / "checkpoints")
    with pytest.raises(UserError, match="installed from a wheel has no ready sets"):
        SyntheticSet.load("mnist/dm-ipc1")
