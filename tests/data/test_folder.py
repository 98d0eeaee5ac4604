"""Images in folders of a class each, and Tiny ImageNet's layout, written small."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jdd import data
from jdd.data.class_names import IMAGENET_SUBSETS
from jdd.errors import UserError

COLOURS = {"cat": (200, 0, 0), "dog": (0, 150, 0), "eel": (0, 0, 100)}


def picture(path, colour, size=(6, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def pets(tmp_path):
    """Two training images and a test image of each class, PNG and JPEG."""
    for name, colour in COLOURS.items():
        picture(tmp_path / "pets" / "train" / name / "a.png", colour)
        picture(tmp_path / "pets" / "train" / name / "more" / "b.JPEG", colour)
        picture(tmp_path / "pets" / "test" / name / "c.png", colour)
    (tmp_path / "pets" / "train" / "cat" / "notes.txt").write_text("not an image")
    return tmp_path / "pets"


def test_a_folder_a_class(pets, tmp_path, monkeypatch):
    monkeypatch.delenv("JDD_DATA_DIR", raising=False)
    loaded = data.load(f"folder:{pets}")
    assert loaded.class_names == ("cat", "dog", "eel") and loaded.image_shape == (6, 6, 3)
    np.testing.assert_array_equal(loaded.train.labels, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(loaded.test.images[:, 3, 3], list(COLOURS.values()))
    difference = loaded.train.images[:, 3, 3].astype(int) - np.repeat(list(COLOURS.values()), 2, 0)
    assert np.abs(difference).max() <= 4  # what JPEG costs
    computed = loaded.train.images.reshape(-1, 3) / 255
    np.testing.assert_allclose(loaded.preprocess.mean, computed.mean(0), atol=1e-6)
    for named in (data.load("folder:pets", tmp_path), data.load("folder:pets/", tmp_path)):
        np.testing.assert_array_equal(named.train.images, loaded.train.images)
    monkeypatch.chdir(tmp_path)
    assert len(data.load("folder:pets").train) == 6
    assert data.short_name(f"folder:{pets}") == data.short_name("folder:pets") == "folder-pets"


def test_the_middle_square_is_taken(pets):
    """A wide image: red in the middle third, green on both sides."""
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, :, 1], wide[:, 10:20] = 255, (255, 0, 0)
    Image.fromarray(wide).save(pets / "test" / "cat" / "c.png")
    with pytest.raises(UserError, match="`image_size` none: a number of pixels is needed, as"):
        data.load(f"folder:{pets}")
    loaded = data.load(f"folder:{pets}", image_size=5)
    assert loaded.image_shape == (5, 5, 3)
    np.testing.assert_array_equal(loaded.test.images[0, 2, 1:4], [[255, 0, 0]] * 3)
    assert loaded.test.images[0, :, 0, 0].min() > 150  # its edge, which bilinear scaling mixes


def test_a_picture_too_thin_to_scale_is_refused(pets):
    picture(pets / "test" / "cat" / "c.png", COLOURS["cat"], (20_000, 1))
    with pytest.raises(UserError, match=r"c\.png: 20000×1 pixels are too thin for `image_size` 64"):
        data.load(f"folder:{pets}", image_size=64)


def test_links_to_folders_are_followed_once(pets, tmp_path):
    """One of them leads to the folder that holds it, and to the other classes."""
    picture(tmp_path / "elsewhere" / "d.png", COLOURS["cat"])
    for name, target in (("else", tmp_path / "elsewhere"), ("again", "else"), ("up", "..")):
        (pets / "train" / "cat" / name).symlink_to(target)
    assert data.load(f"folder:{pets}").train.labels.tolist() == [0, 0, 0, 1, 1, 2, 2]
    shutil.rmtree(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"2 of 8 images cannot .*cat/again does .*cat/else does"):
        data.load(f"folder:{pets}")


def test_a_folder_that_cannot_be_read_is_named(pets, monkeypatch):
    """Root may read all, so the system's call refuses here."""
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "more":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UserError, match=r"cat/more cannot be read \(Permission denied\)"):
        data.load(f"folder:{pets}")


@pytest.mark.parametrize("name", ["testing", "valid", "Test", "Validation"])
def test_a_test_split_of_another_name_is_refused(pets, name):
    (pets / "test").rename(pets / name)
    with pytest.raises(UserError, match=f"{name}/ is not read, rename it to test/"):
        data.load(f"folder:{pets}")


def test_a_path_with_the_mark_of_a_subset(pets, tmp_path):
    place = pets.rename(tmp_path / "weird #1")
    assert len(data.load(f"folder:{place}").train) == 6
    assert data.traits(f"folder:{place}").classes == 3
    assert "/" not in data.short_name(f"folder:{place}/train")
    for name in (f"{tmp_path}/odd #1", f"{place}#1"):
        with pytest.raises(UserError, match="; # begins the name of a subset"):
            data.load(f"folder:{name}")


def test_folders_within_classes_are_no_splits(pets):
    for split in ("train", "test"):
        for name in COLOURS:
            place = pets / split / name
            place.rename(pets / "moved")
            place.mkdir()
            (pets / "moved").rename(place / "first")
    loaded = data.load(f"folder:{pets}")
    assert loaded.class_names == ("cat", "dog", "eel")
    assert str(loaded) == "3 classes (cat, dog, eel), 6 training and 3 test images"


def test_val_stands_in_for_test(pets):
    (pets / "test").rename(pets / "val")
    assert len(data.load(f"folder:{pets}").test) == 3


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda pets: (pets / "train").rename(pets / "tr"), "no train/ in it, but test/"),
        (lambda pets: (pets / "train" / "fox").mkdir(), "no training image is of class 'fox'$"),
        (lambda pets: (pets / "train" / "fo\nx").mkdir(), r"class name 'fo\\nx' is no text on one"),
        (lambda pets: (pets / "test" / "fox").mkdir(), "test/fox: there is no such class in"),
        (
            lambda pets: (pets / "test" / "dog" / "x.png").write_text("x"),
            "not a complete PNG or JPEG",
        ),
        (lambda pets: picture(pets / "train" / "eel" / "x.png", (0, 0, 0), (9, 9)), "9×9"),
    ],
)
def test_what_is_wrong_is_said(pets, harm, words):
    harm(pets)
    with pytest.raises(UserError, match=words) as raised:
        data.load(f"folder:{pets}")
    assert "\n" not in str(raised.value)


def test_what_is_hidden_is_passed_over(pets):
    expected = len(data.load(f"folder:{pets}").train)
    (pets / "train" / "cat" / ".thumbs").mkdir()
    picture(pets / "train" / "cat" / ".thumbs" / "0.png", (0, 0, 0), (2, 2))
    (pets / "train" / "cat" / "set.png").mkdir()
    assert len(data.load(f"folder:{pets}").train) == expected


def test_a_name_of_other_bytes_is_refused(pets):
    (pets / "train" / os.fsdecode(b"caf\xe9")).mkdir()
    with pytest.raises(UserError, match=r"'caf\\udce9' is not UTF-8, rename the folder"):
        data.load(f"folder:{pets}")


def test_all_damaged_images_are_named(pets):
    for place in ("cat/x.png", "dog/y.jpg"):
        (pets / "train" / place).write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"2 of 11 images cannot .*cat/x.png.*; .*dog/y.jpg"):
        data.load(f"folder:{pets}")


@pytest.mark.parametrize("flat", [False, True])
def test_a_test_split_is_drawn_by_class_where_there_is_none(pets, flat):
    for name, colour in COLOURS.items():
        for i in range(8):
            picture(pets / "train" / name / f"{i}.webp", colour)
    shutil.rmtree(pets / "test")
    if flat:
        for folder in [*(pets / "train").iterdir()]:
            folder.rename(pets / folder.name)
        (pets / "train").rmdir()
    loaded, again = (data.load(f"folder:{pets}") for _ in range(2))
    assert np.bincount(loaded.test.labels).tolist() == [2, 2, 2]
    assert np.bincount(loaded.train.labels).tolist() == [8, 8, 8]
    np.testing.assert_array_equal(loaded.test.images, again.test.images)


def test_grey_images_have_one_channel_until_one_has_colour(pets):
    for path in [*pets.rglob("*.png"), *pets.rglob("*.JPEG")]:
        Image.new("L", (6, 6), 90).save(path)
    loaded = data.load(f"folder:{pets}")
    assert loaded.image_shape == (6, 6, 1) and loaded.train.images[0, 0, 0] == 90
    picture(pets / "test" / "cat" / "c.png", COLOURS["cat"])
    loaded = data.load(f"folder:{pets}")
    assert loaded.image_shape == (6, 6, 3) and loaded.test.images[0, 0, 0].tolist() == [200, 0, 0]
    np.testing.assert_allclose(loaded.train.images[0, 0, 0], 90, atol=1)


def tiny(root):
    ids = ["n02", "n01"]
    root.mkdir(parents=True)
    (root / "wnids.txt").write_text("\n".join(ids) + "\n")
    (root / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\ttailed frog\n")
    for i, name in enumerate(ids):
        picture(root / "train" / name / "images" / f"{name}_0.JPEG", (100 * i, 0, 0), (64, 64))
        picture(root / "val" / "images" / f"val_{i}.JPEG", (100 * i, 0, 0), (64, 64))
    rows = [f"val_{i}.JPEG\t{name}\t0\t0\t9\t9" for i, name in enumerate(ids)]
    (root / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    return root


@pytest.mark.parametrize("folder", ["tiny-imagenet-200", "tiny_imagenet", ""])
def test_tiny_imagenet(tmp_path, folder):
    root = tiny(tmp_path / "data" / folder if folder else tmp_path / "data")
    loaded = data.load("tiny_imagenet", tmp_path / "data")
    assert loaded.class_names == ("goldfish", "tailed frog")
    assert loaded.image_shape == (64, 64, 3)
    np.testing.assert_array_equal(loaded.train.labels, [0, 1])
    np.testing.assert_array_equal(loaded.train.images[:, 9, 9, 0] > 50, [True, False])
    np.testing.assert_array_equal(loaded.test.labels, [1, 0])
    np.testing.assert_array_equal(loaded.test.images[:, 9, 9, 0] > 50, [False, True])
    (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn99\n")
    with pytest.raises(UserError, match="damaged"):
        data.load("tiny_imagenet", tmp_path / "data")


def test_a_subset_of_imagenet(tmp_path):
    """Its classes by their places among a thousand folders, labels in the subset's order."""
    wanted = IMAGENET_SUBSETS["imagewoof"]
    for split in ("train", "val"):
        for position in range(1000):
            (tmp_path / split / f"n{position:08d}").mkdir(parents=True)
        for label, position in enumerate(wanted):
            picture(tmp_path / split / f"n{position:08d}" / "a.png", (20 * label, 0, 0))
    loaded = data.load(f"folder:{tmp_path}#imagewoof")
    assert loaded.class_names == tuple(f"n{position:08d}" for position in wanted)
    np.testing.assert_array_equal(loaded.train.labels, np.arange(10))
    np.testing.assert_array_equal(loaded.test.images[:, 0, 0, 0], 20 * np.arange(10))
    assert data.short_name(f"folder:{tmp_path}#imagewoof").endswith("-imagewoof")
    with pytest.raises(UserError, match="#imagewof': did you mean 'imagewoof'"):
        data.load(f"folder:{tmp_path}#imagewof")


def test_a_subset_needs_all_of_imagenet(pets):
    with pytest.raises(UserError, match="holds 3 classes: imagenette is of ImageNet's thousand"):
        data.load(f"folder:{pets}#imagenette")
