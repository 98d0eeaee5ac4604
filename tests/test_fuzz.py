"""Damaged files: those that a reader once fell over, and that every reader is on the list."""

import ast
import functools
import resource
import shutil
from pathlib import Path

import pytest

from jdd.errors import UserError
from tests.fuzz.one import Fault, attempt, limited
from tests.fuzz.opened import OPENED_BY
from tests.fuzz.reader import Reader
from tests.fuzz.readers import READERS

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT / "tests" / "fixtures" / "fuzz"
CASES = sorted(case for reader in CORPUS.iterdir() for case in reader.iterdir())

# What opens a file to read it, in Python or a library of ours; `load` and `loads` only of these.
_OPENS = {"open", "read_text", "read_bytes", "read_json", "read_lines", "fromfile", "loadtxt"}
_OPENS |= {"genfromtxt", "memmap", "loadmat", "restore", "metadata", "builder_from_files"}
_LOADERS = {"np", "numpy", "json", "pickle", "torch", "records"}


def opened(tree, path):
    """The functions below a syntax tree that open a file, dotted below `path`."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            yield from opened(child, [*path, child.name])
            continue
        if isinstance(child, ast.Call):
            called = child.func
            name = getattr(called, "attr", getattr(called, "id", ""))
            of = getattr(getattr(called, "value", None), "id", "")
            if name in _OPENS or (name in ("load", "loads") and of in _LOADERS):
                yield ".".join(path)
        yield from opened(child, path)


def test_every_place_that_opens_a_file_is_on_the_list():
    """A reader that is new has to join `tests/fuzz/readers.py`."""
    calls = set()
    for path in sorted((ROOT / "jdd").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        calls |= set(opened(ast.parse(path.read_text()), [module]))
    assert calls == set(OPENED_BY)
    for place, reader in OPENED_BY.items():
        assert reader in READERS or reader.startswith("- "), place
    assert set(READERS) <= {*OPENED_BY.values(), "cifar", "svhn", "forged set"}


@functools.cache
def original(name, place):
    """A reader's valid input, made once, and what it is read as."""
    if package := "array_record" if name == "tfds" else READERS[name].package:
        pytest.importorskip(package)
    source = place / name.replace(" ", "-")
    source.mkdir()
    READERS[name].make(source)
    return source, READERS[name].read(source)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return tmp_path_factory.mktemp("inputs")


@pytest.mark.parametrize("case", CASES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_once_fell_is_read_or_refused(inputs, tmp_path, case):
    name = case.parent.name
    source, value = original(name, inputs)
    shutil.copytree(source, tmp_path / "case")
    shutil.copytree(case, tmp_path / "case", dirs_exist_ok=True)
    with limited():
        attempt(READERS[name], tmp_path / "case", value)


def broken(place):
    raise UserError("two\nlines" if place.name == "lines" else "x" * 999)


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda place: {}["x"], "KeyError"),
        (lambda place: "other", "read as something else"),
        (lambda place: bytearray(2**30), "MemoryError"),
        (lambda place: sum(range(10**9)), "s$"),
        (broken, "not one line"),
    ],
)
def test_what_is_a_fault(tmp_path, monkeypatch, read, words):
    monkeypatch.setattr("tests.fuzz.one.SECONDS", 0.05)
    if words == "s$":
        read = functools.partial(lambda place: sum(range(10**7)) and "x")
    with limited(), pytest.raises(Fault, match=words):
        attempt(Reader(lambda place: None, read, is_exact=words != "s$"), tmp_path, "x")
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
