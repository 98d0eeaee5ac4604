"""Checkpoints: complete or refused, replaced without a moment that has none, read on any device."""

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

from jdd import checkpoints
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
    checkpoints.save_tree(path, ARRAYS, {"note": "as it was"})
    return path


def same(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name in expected:
        a, b = np.asarray(arrays[name]), np.asarray(expected[name])
        assert a.dtype == b.dtype and a.shape == b.shape
        assert a.tobytes() == b.tobytes()


def test_what_is_saved_is_loaded_bit_for_bit(saved):
    arrays, info = checkpoints.load_tree(saved)
    same(arrays, ARRAYS)
    assert info == {"format_version": checkpoints.FORMAT_VERSION, "note": "as it was"}
    same(checkpoints.load_tree(saved, like=ARRAYS)[0], ARRAYS)


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
            same(checkpoints.load_tree(copy)[0], ARRAYS)
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
            checkpoints.load_tree(copy)


def test_another_version_is_refused(saved, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    header = json.loads((copy / "info" / "metadata").read_text())
    (copy / "info" / "metadata").write_text(json.dumps({**header, "format_version": 99}))
    with pytest.raises(UserError, match="format version 99, this jdd reads version 1"):
        checkpoints.load_tree(copy)


@pytest.mark.parametrize("change", ["1", "x"])
def test_a_changed_description_is_noticed(saved, tmp_path, change):
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    file = copy / "info" / "metadata"
    file.write_text(file.read_text().replace("0", change, 1) + " ")
    for read in (checkpoints.load_info, checkpoints.load_tree):
        with pytest.raises(UserError, match=r"info/metadata is not as|damaged"):
            read(copy)


@pytest.mark.parametrize("place", ["info/metadata", "arrays/manifest.ocdbt", "arrays/d", "arrays"])
def test_links_out_of_a_checkpoint_are_refused(saved, tmp_path, place):
    """The same content, elsewhere: what is there tomorrow is another's to say."""
    copy = shutil.copytree(saved, tmp_path / "copy")
    (copy / place).rename(tmp_path / "elsewhere")
    (copy / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"'?{place}'? is a link, a pipe or a device"):
        checkpoints.load_tree(copy)
    (copy / place).unlink()
    os.mkfifo(copy / place)
    with pytest.raises(UserError, match=r"a pipe or a device|holds no checkpoint"):
        checkpoints.load_tree(copy)


@pytest.mark.parametrize("name", ["../../elsewhere", "/etc/passwd", "arrays/../../elsewhere"])
def test_a_checksum_of_a_file_elsewhere_is_refused(saved, tmp_path, name):
    copy = shutil.copytree(saved, tmp_path / "copy")
    checksums = json.loads((copy / "checksums.json").read_text())
    (copy / "checksums.json").write_text(json.dumps({**checksums, name: "0"}))
    with pytest.raises(UserError, match="is not as it was written"):
        checkpoints.load_tree(copy)


@pytest.mark.parametrize("change", ["shape", "type", "more", "fewer"])
def test_arrays_that_are_not_what_is_asked_for_are_refused_unread(saved, change, monkeypatch):
    from jdd import _orbax

    monkeypatch.setattr(_orbax, "restore", lambda *_: pytest.fail("read"))
    like = dict(ARRAYS)
    if change == "shape":
        like["labels"] = np.zeros(4, np.int32)
    elif change == "type":
        like["labels"] = np.zeros(3, np.float32)
    elif change == "more":
        like["another"] = np.zeros(3)
    else:
        del like["labels"]
    with pytest.raises(checkpoints.Damaged, match="arrays of other shapes or types"):
        checkpoints.load_tree(saved, like)
    monkeypatch.setattr(checkpoints, "_MOST_BYTES", 100)
    with pytest.raises(checkpoints.Damaged, match="at most 100 are read"):
        checkpoints.load_tree(saved)


@pytest.mark.parametrize("name", ["a" * 300, "a\0b"])
def test_a_path_that_is_none_is_said_in_one_line(tmp_path, name):
    for read in (checkpoints.load_tree, checkpoints.load_info):
        with pytest.raises(UserError, match="is no path") as caught:
            read(tmp_path / name)
        assert len(str(caught.value)) < 200


def test_a_full_disk_leaves_the_older_checkpoint_and_nothing_half_written(
    saved, tmp_path, monkeypatch
):
    from jdd import _orbax

    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    before = checkpoints.load_info(copy)

    def full(path, arrays, info):
        path.mkdir()
        (path / "half").write_text("")
        raise ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device")

    monkeypatch.setattr(_orbax, "save", full)
    with pytest.raises(UserError, match=r"copy cannot be written \(No space left on device\)"):
        checkpoints.save_tree(copy, {"a": np.ones(3)}, {})
    assert checkpoints.load_info(copy) == before
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        checkpoints.load_tree(tmp_path / "nothing")


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", [0, 1, 2])
def test_saving_over_a_checkpoint_never_leaves_none(tmp_path, monkeypatch, moment):
    """Killed before, between and after the two renames of a replacement."""
    path = tmp_path / "tree"
    checkpoints.save_tree(path, {"x": np.float32(1)}, {})
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
                checkpoints.save_tree(path, {"x": np.float32(2)}, {})
        else:
            checkpoints.save_tree(path, {"x": np.float32(2)}, {})
    if moment == 2:
        assert not list(tmp_path.glob(".*"))
        return
    assert checkpoints.load_tree(path)[0]["x"] == 1
    checkpoints.save_tree(path, {"x": np.float32(3)}, {})
    assert checkpoints.load_tree(path)[0]["x"] == 3
    assert not list(tmp_path.glob(".*"))


def test_what_is_told_before_replacing_comes_before_it(tmp_path):
    """As a result goes before the set that it is not of comes."""
    path, seen = tmp_path / "tree", []
    checkpoints.save_tree(path, {"x": np.float32(1)}, {})
    checkpoints.save_tree(
        path, {"x": np.float32(2)}, {}, lambda: seen.append(checkpoints.load_tree(path)[0]["x"])
    )
    assert seen == [1] and checkpoints.load_tree(path)[0]["x"] == 2


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
        checkpoints.replace_directory(tmp_path / "missing", target)
    assert (target / "file").read_text() == "old"


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        checkpoints.save_tree(tmp_path / "file" / "tree", ARRAYS, {})


def test_states_are_two_and_a_damaged_one_is_passed_over(tmp_path):
    states = checkpoints.StateCheckpoints(tmp_path / "state")
    assert states.newest({"x": jnp.float32(0)}) is None
    for i in (1, 2, 3):
        states.save(i, {"x": np.float32(i)}, {"members": [i]})
    (tmp_path / "state" / ".4.new").mkdir()
    states.save(10, {"x": np.float32(10)}, {"members": [10]})
    assert states.iterations() == [3, 10]
    assert not list((tmp_path / "state").glob(".*"))
    arrays, info = states.newest({"x": jnp.float32(0)})
    assert arrays["x"] == 10 and info["iteration"] == 10
    assert states.newest({"x": jnp.float32(0)}, having={"members": [3]})[0]["x"] == 3
    assert states.newest({"x": jnp.float32(0)}, having={"members": [7]}) is None
    (tmp_path / "state" / "10" / "arrays" / "manifest.ocdbt").write_bytes(b"")
    assert states.newest({"x": jnp.float32(0)})[1]["iteration"] == 3
    shutil.rmtree(tmp_path / "state" / "3" / "info")
    with pytest.raises(UserError, match=r"damaged.*remove .*state to start afresh"):
        states.newest({"x": jnp.float32(0)})
    states.clear()
    assert states.newest({"x": jnp.float32(0)}) is None


def test_what_lay_on_another_device_is_loaded(tmp_path):
    """A set made on the fourth of four devices, loaded where there is one."""
    program = (
        "import sys, jax, pathlib\n"
        "from jdd import checkpoints\n"
        "x = jax.device_put(jax.numpy.arange(6.0), jax.devices()[3])\n"
        "checkpoints.save_tree(pathlib.Path(sys.argv[1]), {'x': x}, {})\n"
    )
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    run_python(program, tmp_path / "tree", environment)
    np.testing.assert_array_equal(checkpoints.load_tree(tmp_path / "tree")[0]["x"], np.arange(6.0))


def run_python(program, argument, environment):
    root = Path(__file__).resolve().parents[1]
    subprocess.run(
        [sys.executable, "-c", program, str(argument)],
        check=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), **environment},
    )
