"""Plugins: loaded, remembered, trusted by their content, never run because a set names them."""

import json
import os
import py_compile

import numpy as np
import pytest

from jdd import data, files, plugins
from jdd.data import registry as datasets
from jdd.errors import UserError
from jdd.methods import registry
from jdd.runs.settings import Selection, defaults_of

METHOD = """
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jdd.methods import Method, MethodSettings, MethodState, register
from jdd.settings import setting


@dataclass(frozen=True)
class StillSettings(MethodSettings):
    iterations: int = setting({iterations}, "updates", min=1)


def still(settings, network):
    def init(key, synthetic, data):
        return synthetic, MethodState(jax.random.key_data(key), jnp.int32(0), ())

    def update(synthetic, state, data, segment=None):
        return synthetic, state, {{"loss": jnp.float32(1)}}

    return Method(init, update)


register("still", still, StillSettings)
"""


@pytest.fixture(autouse=True)
def apart(monkeypatch, tmp_path):
    monkeypatch.setenv("JDD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(plugins, "_LOADED", {})
    monkeypatch.setattr(registry, "METHODS", dict(registry.METHODS))
    monkeypatch.setattr(datasets, "_REGISTERED", {})


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "still.py"
    path.write_text(METHOD.format(iterations=7))
    return path


def forgotten(monkeypatch):
    """As in another process."""
    monkeypatch.setattr(plugins, "_LOADED", {})
    registry.METHODS.pop("still", None)


def test_a_plugin_registers_and_is_loaded_again_where_it_was_trusted(plugin, monkeypatch):
    plugins.load(plugin)
    assert registry.entry("still").settings().iterations == 7
    remembered = plugins.loaded()
    assert [entry["path"] for entry in remembered] == [str(plugin)]
    forgotten(monkeypatch)
    plugins.load_again(remembered)
    assert "still" in registry.METHODS


def test_a_stored_set_never_runs_code_by_itself(plugin, monkeypatch):
    """What a set names runs only where this user has loaded that very file before."""
    plugins.load(plugin)
    remembered = plugins.loaded()
    forgotten(monkeypatch)
    plugin.write_text(METHOD.format(iterations=8))
    with pytest.raises(UserError, match="has changed or was never loaded here"):
        plugins.load_again(remembered)
    plugin.write_text(METHOD.format(iterations=7))
    (files.cache_dir() / "plugins.json").unlink()
    with pytest.raises(UserError, match="has changed or was never loaded here"):
        plugins.load_again(remembered)
    plugin.unlink()
    with pytest.raises(UserError, match="which is not there: name it by `plugin`"):
        plugins.load_again(remembered)
    assert "still" not in registry.METHODS


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nothing_of_this_name", r"own\.py, line 1: ModuleNotFoundError"),
        ("def broken(:", "SyntaxError"),
        ("import jdd.methods as m; m.register('dm', print, int)", "one of this name already"),
    ],
)
def test_what_a_plugin_raises_is_one_line(tmp_path, text, words):
    path = tmp_path / "own.py"
    path.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        plugins.load(path)
    assert str(caught.value).startswith(f"plugin {path}") and "\n" not in str(caught.value)
    assert plugins.loaded() == ()


def test_what_is_no_plugin_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.py does not exist"):
        plugins.load(tmp_path / "none.py")
    (tmp_path / "own.txt").write_text("")
    with pytest.raises(UserError, match=r"a plugin's name ends in \.py"):
        plugins.load(tmp_path / "own.txt")


def test_a_cache_that_cannot_be_written_stops_no_plugin(plugin, monkeypatch):
    monkeypatch.setenv("JDD_CACHE_DIR", "/dev/null/cache")
    plugins.load(plugin)
    assert plugins.loaded()


def test_a_damaged_list_of_trusted_plugins_trusts_none(plugin, monkeypatch):
    plugins.load(plugin)
    remembered = plugins.loaded()
    forgotten(monkeypatch)
    for text in ("{", "[1]", json.dumps({"other": "x"})):
        (files.cache_dir() / "plugins.json").write_text(text)
        with pytest.raises(UserError, match="never loaded here"):
            plugins.load_again(remembered)


def test_a_dataset_of_ones_own_is_loaded_by_name():
    digits = data.load("digits")

    def read():
        return digits.train, digits.test

    data.register("own", read, digits.class_names, ([0.3], [0.4]))
    loaded = data.load("own")
    assert loaded.name == "own" and len(loaded.train) == 1437
    assert [round(float(v), 6) for v in (loaded.preprocess.mean[0], loaded.preprocess.std[0])] == [
        0.3,
        0.4,
    ]
    with pytest.raises(UserError, match="there is one of this name already"):
        data.register("mnist", read, ("a",))
    data.register("short", read, ("a", "b"))
    with pytest.raises(UserError, match="dataset 'short': label 9 is outside 0 to 1"):
        data.load("short")


@pytest.mark.parametrize(
    ("train", "test", "mean_std", "words"),
    [
        (np.zeros((4, 8, 8, 1), np.float32), None, None, "images are float32"),
        (np.zeros((4, 8, 8), np.uint8), None, None, r"images are uint8 \(4, 8, 8\)"),
        (np.zeros((4, 8, 8, 2), np.uint8), None, None, r"\(4, 8, 8, 2\)"),
        (np.zeros((4, 0, 8, 1), np.uint8), None, None, "no images in it"),
        (np.zeros((4, 8, 8, 1), np.uint8), np.zeros((4, 9, 9, 1), np.uint8), None, "test"),
        (np.zeros((4, 8, 8, 1), np.uint8), None, ([0.1] * 3, [1.0] * 3), "mean_std is not of 1"),
        (np.zeros((4, 8, 8, 1), np.uint8), None, ([0.5], [0.0]), "no positive number"),
    ],
)
def test_images_of_another_kind_are_refused(train, test, mean_std, words):
    labels = np.array([0, 1, 0, 1])
    splits = tuple(data.Split(i, labels) for i in (train, train if test is None else test))
    data.register("odd", lambda: splits, ("a", "b"), mean_std)
    with pytest.raises(UserError, match=words):
        data.load("odd")


def test_one_class_is_refused():
    split = data.Split(np.zeros((4, 8, 8, 1), np.uint8), np.zeros(4, int))
    data.register("single", lambda: (split, split), ("a",))
    with pytest.raises(UserError, match="one class, 'a', is nothing to tell apart"):
        data.load("single")


def test_what_runs_is_what_was_read(plugin):
    """A compiled file of other content that looks as new as the source is not taken."""
    source = plugin.read_text()
    plugin.write_text(source.replace("7", "8"))
    py_compile.compile(str(plugin))
    made = plugin.stat()
    plugin.write_text(source)
    os.utime(plugin, ns=(made.st_atime_ns, made.st_mtime_ns))
    plugins.load(plugin)
    assert registry.entry("still").settings().iterations == 7


def test_a_plugin_that_was_edited_is_loaded_anew(plugin):
    plugins.load(plugin)
    remembered = plugins.loaded()
    plugin.write_text(METHOD.format(iterations=9))
    plugins.load(plugin)
    plugins.load_again(remembered)  # named by the user as it is now
    assert registry.entry("still").settings().iterations == 9


def test_its_own_field_is_not_taken_for_one_of_all_methods(plugin):
    width = 'width: int = setting(3, "own")'
    plugin.write_text(
        METHOD.format(iterations=7).replace("iterations:", f"{width}\n    iterations:")
    )
    plugins.load(plugin)
    groups = {
        group.name: group.values for group in defaults_of(Selection("still", "digits")).groups
    }
    assert groups["method"]["width"] == 3 and groups["network"]["width"] == 64


def test_a_damaged_record_is_said():
    with pytest.raises(UserError, match="what it was made with is damaged"):
        plugins.load_again(["own.py"])
