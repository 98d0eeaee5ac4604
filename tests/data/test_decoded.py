"""Decoded pictures are kept: used again, noticed where they changed, made again where damaged."""

import dataclasses
import os

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jdd import data, files
from jdd.data import decoded, fingerprint, image_files
from jdd.errors import UserError
from jdd.runs import directory
from jdd.synthetic import SetInfo, SyntheticSet

CLASSES = ("cat", "dog")


@pytest.fixture
def pets(tmp_path, monkeypatch):
    """Five pictures of each class, and a cache of its own."""
    monkeypatch.setenv("JDD_CACHE_DIR", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(5):
            pixels = rng.integers(0, 256, (6, 6, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / name / f"{i}.png", compress_level=0)
    return tmp_path / "pets"


@pytest.fixture
def decodes(monkeypatch):
    """The pictures that were decoded."""
    seen, image = [], image_files._image
    monkeypatch.setattr(
        image_files, "_image", lambda path, size: seen.append(path) or image(path, size)
    )
    return seen


def same(one, other):
    np.testing.assert_array_equal(one.train.images, other.train.images)
    np.testing.assert_array_equal(one.test.images, other.test.images)
    assert one.fingerprint == other.fingerprint


def kept():
    return sorted(files.cache_dir().glob("images-*"))


def test_a_second_command_decodes_nothing(pets, decodes):
    first = data.load(f"folder:{pets}")
    assert len(decodes) == 10 and [path.suffix for path in kept()] == [".u8", ".u8"]
    same(data.load(f"folder:{pets}"), first)
    assert len(decodes) == 10
    data.load(f"folder:{pets}", image_size=3)
    assert len(decodes) == 20 and len(kept()) == 4


@pytest.mark.parametrize("change", ["touched", "replaced", "added", "removed", "renamed"])
def test_a_changed_folder_is_noticed(pets, decodes, change):
    before = data.load(f"folder:{pets}")
    path = pets / "cat" / "0.png"
    other = Image.fromarray(np.full((6, 6, 3), 7, np.uint8))
    if change == "touched":
        os.utime(path, ns=(1, 1))
    elif change == "replaced":  # of the same size, and its time set back
        old = path.stat()
        path.write_bytes((pets / "cat" / "1.png").read_bytes())
        assert path.stat().st_size == old.st_size
        os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    elif change == "added":
        other.save(pets / "cat" / "9.png")
    elif change == "removed":
        path.unlink()
    else:
        path.rename(pets / "cat" / "00.png")
    del decodes[:]
    after = data.load(f"folder:{pets}")
    assert decodes and len(kept()) == 2  # in the place of those before
    assert (after.fingerprint == before.fingerprint) == (change in ("touched", "renamed"))


@pytest.mark.parametrize("harm", ["flipped", "cut", "longer", "empty", "pipe", "directory"])
def test_what_is_damaged_is_made_again(pets, decodes, harm):
    before = data.load(f"folder:{pets}")
    for path in kept():
        content = bytearray(path.read_bytes())
        path.unlink()  # `before` has it mapped
        if harm == "flipped":
            content[decoded._START + 5] ^= 1
            path.write_bytes(content)
        elif harm in ("cut", "longer", "empty"):
            path.write_bytes({"cut": content[:-9], "longer": content + b"x", "empty": b""}[harm])
        else:
            os.mkfifo(path) if harm == "pipe" else path.mkdir()
    del decodes[:]
    same(data.load(f"folder:{pets}"), before)
    assert len(decodes) == 10
    same(data.load(f"folder:{pets}"), before)
    assert len(decodes) == (20 if harm == "directory" else 10)  # which nothing replaces


def test_a_cache_that_cannot_be_written_is_no_error(pets, monkeypatch):
    before = data.load(f"folder:{pets}")
    monkeypatch.setenv("JDD_CACHE_DIR", "/dev/null/nowhere")
    same(data.load(f"folder:{pets}"), before)
    assert before.train.images.flags.writeable is False  # mapped


def test_the_cache_is_bounded(pets, tmp_path, monkeypatch):
    """What was used longest ago goes; what is too large is not kept; nothing half-written stays."""
    data.load(f"folder:{pets}")
    first = kept()
    for path in first:
        os.utime(path, (1, 1))
    left = files.cache_dir() / "images-killed.tmp"
    left.touch()
    os.utime(left, (1, 1))
    size = sum(path.stat().st_size for path in first)
    monkeypatch.setattr(decoded, "MOST_BYTES", size)
    data.load(f"folder:{pets}", image_size=5)
    assert sum(path.stat().st_size for path in kept()) <= size and not left.exists()
    assert not set(first) <= set(kept())
    monkeypatch.setattr(decoded, "MOST_BYTES", 10)
    before = kept()
    data.load(f"folder:{pets}", image_size=4)
    assert kept() == before


def test_a_picture_that_changes_while_it_is_read_is_not_kept(pets, monkeypatch):
    image = image_files._image

    def changing(path, size):
        result = image(path, size)
        os.utime(path)
        return result

    monkeypatch.setattr(image_files, "_image", changing)
    data.load(f"folder:{pets}")
    assert not kept()


def test_the_fingerprint_is_of_files_and_of_their_order():
    images = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 1), np.uint8)
    labels = np.arange(9, dtype=np.int32) % 3
    one = fingerprint.of_images(images, labels)
    turned = fingerprint.of_images(images[::-1], labels[::-1])
    other = fingerprint.of_images(images, labels[::-1])
    assert fingerprint.is_same(one, turned) and one != turned
    assert not fingerprint.is_same(one, other) and not fingerprint.is_same("", "")
    assert fingerprint.differences(one, turned, in_order=False) == []
    assert "another order" in fingerprint.differences(one, turned)[0]
    assert "other images" in fingerprint.differences(one, other)[0]
    assert fingerprint.differences("", one) == fingerprint.differences(one, "") == []


def test_heads_alone_tell_what_settings_are_chosen_by(pets, decodes, tmp_path):
    wanted = data.Traits(side=6, channels=3, classes=2, images=8, smallest=4)
    assert data.traits(f"folder:{pets}") == wanted and not decodes
    data.load(f"folder:{pets}")
    assert data.traits(f"folder:{pets}") == wanted  # of what is kept
    assert data.traits(f"folder:{pets}", image_size=9) == wanted._replace(side=9)
    for path in pets.rglob("*.png"):
        Image.new("L", (6, 8), 3).save(path)
    assert data.traits("folder:pets", tmp_path) == wanted._replace(channels=1)
    images, labels = np.zeros((10, 8, 6), np.uint8), np.arange(10) % 2
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    assert data.traits("arrays:a.npz", tmp_path) == wanted._replace(channels=1)
    assert data.traits("digits") is None and data.traits("folder:nowhere") is None


def test_deep_grey_pictures_keep_their_range(pets):
    for path in pets.rglob("*.png"):
        Image.fromarray(np.arange(36, dtype=np.uint16).reshape(6, 6) * 1820).save(path)
    loaded = data.load(f"folder:{pets}")
    wanted = (np.arange(36) * 1820 >> 8).reshape(6, 6, 1)
    np.testing.assert_array_equal(loaded.train.images[0], wanted)


def test_a_set_of_other_images_is_refused(pets, tmp_path):
    """By the fingerprint; one without any, as an older jdd wrote it, is not."""
    before = data.load(f"folder:{pets}")
    info = SetInfo(before.name, before.class_names, before.preprocess.spec(), 1,
                   fingerprint=before.fingerprint)  # fmt: skip
    stored = SyntheticSet.encode(jnp.zeros((2, 6, 6, 3)), SetInfo.from_json(info.to_json()))
    assert stored.info.fingerprint == before.fingerprint
    stored.check_fits(before)
    pets.rename(tmp_path / "moved")
    stored.check_fits(data.load(f"folder:{tmp_path / 'moved'}"))
    other = dataclasses.replace(before, fingerprint=before.fingerprint[::-1])
    with pytest.raises(UserError, match="made from other images than those of this name now"):
        stored.check_fits(other)
    with pytest.raises(UserError, match=r"is a set of 'folder:.*pets', not of 'digits'"):
        stored.check_fits(data.load("digits"))
    older = stored.replace(info=dataclasses.replace(info, fingerprint=""))
    older.check_fits(other)


def test_a_run_on_other_images_is_not_resumed():
    asked = {"dataset": "folder:pets", "fingerprint": "ab-cd"}
    assert directory.differences({"dataset": "folder:pets"}, asked) == []  # of an older jdd
    assert directory.differences(asked, asked) == []
    (words,) = directory.differences({**asked, "fingerprint": "cd-ab"}, asked)
    assert "other images" in words
