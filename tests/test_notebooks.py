"""The notebooks: run cell by cell; what is stored with them is what they print."""

import json

import matplotlib
import pytest

from jdd.methods import registry
from jdd.report import console
from tests.pages import NOTEBOOKS

BETTER = {  # what is to come out ahead, by more than 5 points, of what
    "distil": ("distilled", "real"),
    "matching_loss": ("matched", "real"),
    "compare": ("dm", "random"),
    "own_method": ("nearest", "real"),
}


def cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def accuracies(text):
    """Of lines such as "real: 67.8 ± 1.9 %", by their names."""
    pairs = [line.split(":") for line in text.splitlines() if " ± " in line]
    return {name.strip(): float(words.split()[0]) for name, words in pairs}


def is_better(name, accuracy_of):
    more, less = BETTER[name]
    return accuracy_of[more] > accuracy_of[less] + 5


def test_each_is_stored_as_it_was_run_from_top_to_bottom():
    assert {path.stem for path in NOTEBOOKS} == set(BETTER)
    for path in NOTEBOOKS:
        assert len(path.read_text()) < 100_000
        counts = [cell["execution_count"] for cell in cells(path)]
        assert counts == list(range(1, len(counts) + 1)), f"{path.name}: make notebooks"
        outputs = [output for cell in cells(path) for output in cell["outputs"]]
        assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
        printed = "".join("".join(o["text"]) for o in outputs if o.get("name") == "stdout")
        assert is_better(path.stem, accuracies(printed))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_runs(path, monkeypatch, capsys):
    matplotlib.use("agg")
    monkeypatch.setattr(registry, "METHODS", dict(registry.METHODS))
    monkeypatch.setattr("matplotlib.pyplot.show", lambda: None)
    names = {"__name__": "notebook"}
    try:
        for cell in cells(path):
            exec(compile("".join(cell["source"]), path.name, "exec"), names)
    finally:
        console.set_quiet(False)
    assert is_better(path.stem, accuracies(capsys.readouterr().out))
