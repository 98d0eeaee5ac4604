"""Checkpoints that are whole or refused, files that are old or new, directories with one writer."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jdd import storage
from jdd.errors import UserError

ARRAYS = {
    "images": np.random.default_rng(0).standard_normal((3, 4, 4, 1)).astype(np.float32),
    "labels": np.arange(3, dtype=np.int32),
    "rate": np.float32(0.1),
    "half": jnp.arange(5, dtype=jnp.bfloat16) / 3,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "tree"
    storage.save_tree(path, ARRAYS, {"note": "as it was"})
    return path


def same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        a, b = np.asarray(found[name]), np.asarray(expected[name])
        assert a.dtype == b.dtype and a.shape == b.shape
        assert a.tobytes() == b.tobytes()


def test_what_is_saved_is_loaded_bit_for_bit(saved):
    found, info = storage.load_tree(saved)
    same(found, ARRAYS)
    assert info == {"format_version": storage.FORMAT_VERSION, "note": "as it was"}
    same(storage.load_tree(saved, like=ARRAYS)[0], ARRAYS)


def files_of(path):
    return sorted(p.relative_to(path) for p in path.rglob("*") if p.is_file())


@pytest.mark.parametrize("damage", ["removed", "cut off", "empty", "one byte flipped"])
def test_a_damaged_file_is_noticed_or_harmless(saved, tmp_path, damage, capfd):
    """Whatever happens to any one file: the same bits come back, or one line that says so."""
    refused = 0
    for name in files_of(saved):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(saved, copy)
        content = bytearray((saved / name).read_bytes())
        if damage == "removed":
            (copy / name).unlink()
        elif damage == "cut off":
            (copy / name).write_bytes(content[: len(content) // 2])
        elif damage == "empty":
            (copy / name).write_bytes(b"")
        else:
            content[len(content) // 2] ^= 0x55
            (copy / name).write_bytes(content)
        try:
            same(storage.load_tree(copy)[0], ARRAYS)
        except UserError as error:
            refused += 1
            assert str(copy) in str(error) and "\n" not in str(error)
        else:
            assert name.parts[0] != "arrays" and name.name != "checksums.json"
    assert refused >= 5
    assert "Traceback" not in capfd.readouterr().err


def test_a_folder_of_the_checkpoint_that_is_missing_is_noticed(saved, tmp_path):
    for folder in ("arrays", "info", "arrays/d"):
        copy = tmp_path / folder.replace("/", "-")
        shutil.copytree(saved, copy)
        shutil.rmtree(copy / folder)
        with pytest.raises(UserError, match="cut off"):
            storage.load_tree(copy)


def test_another_version_is_refused(saved, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    header = json.loads((copy / "info" / "metadata").read_text())
    (copy / "info" / "metadata").write_text(json.dumps({**header, "format_version": 99}))
    with pytest.raises(UserError, match="format version 99, this jdd reads version 1"):
        storage.load_tree(copy)


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        storage.load_tree(tmp_path / "nothing")


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", [0, 1, 2])
def test_saving_over_a_checkpoint_never_leaves_none(tmp_path, monkeypatch, moment):
    """Killed before, between and after the two renames of a replacement."""
    path = tmp_path / "tree"
    storage.save_tree(path, {"x": np.float32(1)}, {})
    rename, calls = Path.rename, []

    def dying(self, target):
        if len(calls) == moment:
            raise Killed
        calls.append(target)
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(ocp.Checkpointer, "save", _plain_save)
        patched.setattr(Path, "rename", dying)
        if moment < 2:
            with pytest.raises(Killed):
                storage.save_tree(path, {"x": np.float32(2)}, {})
        else:
            storage.save_tree(path, {"x": np.float32(2)}, {})
    if moment == 2:
        assert not list(tmp_path.glob(".*"))
        return
    assert storage.load_tree(path)[0]["x"] == 1
    storage.save_tree(path, {"x": np.float32(3)}, {})
    assert storage.load_tree(path)[0]["x"] == 3
    assert not list(tmp_path.glob(".*"))


def _plain_save(checkpointer, directory, arguments):
    """Stands for Orbax's own save, which renames too: the renames that count are ours."""
    for name in ("arrays", "info"):
        (Path(directory) / name).mkdir(parents=True)
        (Path(directory) / name / "file").write_text("new")


def test_a_replacement_that_fails_puts_the_old_one_back(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").write_text("old")
    with pytest.raises(OSError):
        storage.replace_directory(tmp_path / "missing", target)
    assert (target / "file").read_text() == "old"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        storage.save_tree(tmp_path / "file" / "tree", ARRAYS, {})


def test_json_is_old_or_new(tmp_path, monkeypatch):
    path = tmp_path / "value.json"
    storage.write_json(path, {"a": 1})

    def dying(self, target):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", dying)
        with pytest.raises(Killed):
            storage.write_json(path, {"a": 2})
    assert storage.read_json(path) == {"a": 1}
    path.write_text('{"a": ')
    with pytest.raises(UserError, match=r"value\.json cannot be read as JSON"):
        storage.read_json(path)
    with pytest.raises(UserError, match="does not exist"):
        storage.read_json(tmp_path / "none.json")


def test_lines_are_json_and_cut_off_ones_go(tmp_path):
    path = tmp_path / "lines"
    for i in range(4):
        storage.append_line(path, {"iteration": i, "loss": float("nan") if i == 1 else 0.5})
    with path.open("a") as file:
        file.write('{"iteration": 4, "lo')
    storage.keep_lines(path, lambda line: line["iteration"] < 3)
    rows = [json.loads(line, parse_constant=pytest.fail) for line in path.open()]
    assert rows == [{"iteration": i, "loss": None if i == 1 else 0.5} for i in range(3)]


def test_states_are_two_and_a_damaged_one_is_passed_over(tmp_path):
    keeper = storage.StateKeeper(tmp_path / "state")
    assert keeper.newest({"x": jnp.float32(0)}) is None
    for i in (1, 2, 3):
        keeper.save(i, {"x": np.float32(i)}, {"members": [i]})
    (tmp_path / "state" / ".4.new").mkdir()
    keeper.save(10, {"x": np.float32(10)}, {"members": [10]})
    assert keeper.iterations() == [3, 10]
    assert not list((tmp_path / "state").glob(".*"))
    arrays, info = keeper.newest({"x": jnp.float32(0)})
    assert arrays["x"] == 10 and info["iteration"] == 10
    assert keeper.newest({"x": jnp.float32(0)}, having={"members": [3]})[0]["x"] == 3
    assert keeper.newest({"x": jnp.float32(0)}, having={"members": [7]}) is None
    (tmp_path / "state" / "10" / "arrays" / "manifest.ocdbt").write_bytes(b"")
    assert keeper.newest({"x": jnp.float32(0)})[1]["iteration"] == 3
    shutil.rmtree(tmp_path / "state" / "3" / "info")
    with pytest.raises(UserError, match=r"damaged.*remove .*state to start afresh"):
        keeper.newest({"x": jnp.float32(0)})
    keeper.clear()
    assert keeper.newest({"x": jnp.float32(0)}) is None


def test_a_directory_has_one_writer(tmp_path):
    with (
        storage.locked(tmp_path / "run"),
        pytest.raises(UserError, match="being written by another process"),
        storage.locked(tmp_path / "run"),
    ):
        pass
    with storage.locked(tmp_path / "run"):
        pass
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="cannot be written"),
        storage.locked(tmp_path / "file"),
    ):
        pass


def test_what_lay_on_another_device_is_loaded(tmp_path):
    """A set made on the fourth of four devices, loaded where there is one."""
    program = (
        "import sys, jax, pathlib\n"
        "from jdd import storage\n"
        "x = jax.device_put(jax.numpy.arange(6.0), jax.devices()[3])\n"
        "storage.save_tree(pathlib.Path(sys.argv[1]), {'x': x}, {})\n"
    )
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    run_python(program, tmp_path / "tree", environment)
    np.testing.assert_array_equal(storage.load_tree(tmp_path / "tree")[0]["x"], np.arange(6.0))


def run_python(program, argument, environment):
    import os

    root = Path(__file__).resolve().parents[1]
    subprocess.run(
        [sys.executable, "-c", program, str(argument)],
        check=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), **environment},
    )


def test_writing_and_saying_start_no_device(tmp_path):
    """A process that only starts others leaves the devices to them."""
    program = (
        "import sys; from pathlib import Path; from jdd import storage; "
        "from jdd.report.console import say; path = Path(sys.argv[1]); "
        "say('begun'); storage.write_json(path, [1]); storage.append_line(path, {'a': 1})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "file.json"],
        env={**os.environ, "JAX_PLATFORMS": "none_such"},  # which starting one would complain of
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and done.stderr == "begun\n", done.stderr
    assert (tmp_path / "file.json").read_text() == '[\n  1\n]\n{"a": 1}\n'
