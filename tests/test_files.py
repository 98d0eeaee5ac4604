"""Files that are old or new, lines of JSON, directories with one writer, where the cache is."""

import errno
import fcntl
import json
import os
from pathlib import Path

import pytest

from jdd import files, locks
from jdd.errors import UserError


class Killed(BaseException):
    pass


def test_json_is_old_or_new(tmp_path, monkeypatch):
    path = tmp_path / "value.json"
    files.write_json(path, {"a": 1})

    def dying(self, target):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", dying)
        with pytest.raises(Killed):
            files.write_json(path, {"a": 2})
    assert files.read_json(path) == {"a": 1}
    path.write_text('{"a": ')
    with pytest.raises(UserError, match=r"value\.json cannot be read as JSON"):
        files.read_json(path)
    with pytest.raises(UserError, match="does not exist"):
        files.read_json(tmp_path / "none.json")


def test_lines_are_json_and_cut_off_ones_go(tmp_path):
    path = tmp_path / "lines"
    for i in range(4):
        files.append_line(path, {"iteration": i, "loss": float("nan") if i == 1 else 0.5})
    with path.open("a") as file:
        file.write('{"iteration": 4, "lo')
    files.filter_lines(path, lambda line: line["iteration"] < 3)
    rows = [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]
    assert rows == [{"iteration": i, "loss": None if i == 1 else 0.5} for i in range(3)]


def test_a_byte_that_is_no_text_costs_its_line_alone(tmp_path):
    path = tmp_path / "lines"
    path.write_bytes(
        b'{"iteration": 1}\n\xff{"iteration": 2}\n' + b"[" * 99999 + b'\n{"iteration": 3}'
    )
    files.filter_lines(path, lambda line: line["iteration"] < 9)
    assert path.read_text() == '{"iteration": 1}\n{"iteration": 3}\n'


def test_a_directory_that_has_gone_is_named(tmp_path):
    with pytest.raises(UserError, match="lines cannot be written"):
        files.append_line(tmp_path / "gone" / "lines", {"iteration": 1})


def test_what_replaces_a_file_is_on_the_disk_first(tmp_path, monkeypatch):
    order = []
    flush, replace = files.flush, Path.replace
    monkeypatch.setattr(files, "flush", lambda path: (order.append(path), flush(path)))
    monkeypatch.setattr(Path, "replace", lambda a, b: (order.append("replaced"), replace(a, b))[1])
    files.write_text(tmp_path / "text", "a")
    assert order[1:] == ["replaced", tmp_path] and order[0].name.startswith(".text.part")


@pytest.mark.parametrize("kind", ["pipe", "device", "directory", "NUL", "long", "loop", "missing"])
def test_what_is_no_file_is_named_at_once(tmp_path, kind):
    path = tmp_path / "file"
    words = "is a directory, a pipe or a device"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
        words = "cannot be read"
    else:
        path = tmp_path / {"NUL": "a\0b", "long": "a" * 300, "missing": "none"}[kind]
        words = "does not exist" if kind == "missing" else "is no path"
    for read in (files.read_bytes, files.read_json, lambda path: list(files.read_lines(path))):
        with pytest.raises(UserError, match=words) as caught:
            read(path)
        assert len(str(caught.value)) < 250 and "\n" not in str(caught.value)


def test_no_more_is_read_than_is_allowed(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert files.read_bytes(tmp_path / "file", 5) == b"12345"
    with pytest.raises(UserError, match="has 5 bytes, at most 4 are read"):
        files.read_bytes(tmp_path / "file", 4)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"1" * 400, "400 digits"),
        (b"[" * 40 + b"]" * 40, "nested more than 32 deep"),
        (b"[" * 10**5, "recursion|nested"),
        (rb'{"a": ["\ud800"]}', "surrogates not allowed"),
        (rb'{"a\u0000": 1}', "a text with a NUL"),
        (b'{"a": "\xff"}', "can't decode byte 0xff"),
        (b"1" * 5000, "5000 digits"),
        (b"", "Expecting value"),
    ],
)
def test_json_that_no_code_could_handle_is_refused(tmp_path, content, words):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError, match=f"file cannot be read as JSON .*({words})"):
        files.read_json(tmp_path / "file")


def test_a_directory_has_one_writer(tmp_path):
    with (
        locks.locked(tmp_path / "run"),
        pytest.raises(UserError, match="is writing there: `wait`"),
        locks.locked(tmp_path / "run"),
    ):
        pass
    with locks.locked(tmp_path / "run"):
        pass
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="it is a file"),
        locks.locked(tmp_path / "file"),
    ):
        pass


def test_a_file_system_without_locks_is_written_with_a_word(tmp_path, monkeypatch, capsys):
    def refuse(handle, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locks.locked(tmp_path):
        assert locks.owner(tmp_path) is None
    assert "cannot be locked (No locks available)" in capsys.readouterr().err


def test_cache_directory_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("JDD_CACHE_DIR", str(tmp_path / "named"))
    assert files.cache_dir() == tmp_path / "named"
    monkeypatch.delenv("JDD_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert files.cache_dir() == tmp_path / "jdd"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.cache_dir() == tmp_path / ".cache" / "jdd"
