"""MHIST's layout, written small: a CSV and a folder of PNGs."""

import numpy as np
import pytest
from PIL import Image

from jdd import data
from jdd.errors import UserError

HEADER = "Image Name,Majority Vote Label,Number of Annotators who Selected SSA (Out of 7),Partition"
COLOURS = {"a.png": (255, 0, 0), "b.png": (0, 128, 0), "c.png": (0, 0, 255), "d.png": (9, 8, 7)}
ROWS = ["a.png,HP,0,train", "b.png,SSA,6,train", "c.png,SSA,7,test", "d.png,HP,3,train"]


def write_set(folder, header=HEADER, rows=ROWS):
    (folder / "images").mkdir(parents=True)
    (folder / "annotations.csv").write_text("\n".join([header, *rows]) + "\n")
    for name, colour in COLOURS.items():
        Image.new("RGB", (224, 224), colour).save(folder / "images" / name)
    return folder


@pytest.mark.parametrize("folder", ["", "mhist", "MHIST"])
def test_mhist(tmp_path, folder):
    write_set(tmp_path / folder)
    mhist = data.load("mhist", tmp_path)
    assert mhist.image_shape == (128, 128, 3)
    np.testing.assert_array_equal(mhist.train.labels, [0, 1, 0])
    np.testing.assert_array_equal(mhist.test.labels, [1])
    colours = [COLOURS[name] for name in ("a.png", "b.png", "d.png")]
    np.testing.assert_array_equal(mhist.train.images[:, 64, 64], colours)
    assert mhist.class_names == ("HP", "SSA")
    expected = (mhist.train.images / 255).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(mhist.preprocess.mean, expected, rtol=1e-5)


def test_other_sizes(tmp_path):
    write_set(tmp_path)
    assert data.load("mhist", tmp_path, image_size=224).image_shape == (224, 224, 3)
    assert data.load("mhist", tmp_path, image_size=32).image_shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"header": HEADER.replace("Partition", "Part")}, "no column 'Partition'"),
        ({"rows": [*ROWS, "a.png,XYZ,0,train"]}, "line 6: Majority Vote Label 'XYZ'"),
        ({"rows": [*ROWS, "a.png,HP,0,val"]}, "line 6: Partition 'val'"),
        ({"rows": [*ROWS, "gone.png,HP,0,test"]}, "gone.png does not exist"),
        (
            {"rows": [*ROWS, "../a.png,HP,0,test"]},
            "line 6: Image Name '../a.png' is no file's name",
        ),
        ({"rows": [*ROWS, "/etc/passwd,HP,0,test"]}, "line 6: Image Name '/etc/passwd'"),
        ({"rows": [*ROWS, ",HP,0,test"]}, "line 6: Image Name ''"),
        ({"rows": [*ROWS, "a.png"]}, "line 6: Majority Vote Label 'None'"),
        ({"rows": ROWS[:2]}, "partition test: no images"),
    ],
)
def test_a_bad_table(tmp_path, changes, words):
    write_set(tmp_path, **changes)
    with pytest.raises(UserError, match=words) as raised:
        data.load("mhist", tmp_path)
    assert "\n" not in str(raised.value)


def test_a_damaged_image(tmp_path):
    path = write_set(tmp_path) / "images" / "b.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match=r"b.png: not a complete PNG"):
        data.load("mhist", tmp_path)


def test_an_image_of_another_size(tmp_path):
    Image.new("RGB", (10, 20)).save(write_set(tmp_path) / "images" / "d.png")
    with pytest.raises(UserError, match=r"d.png: 20×10 pixels"):
        data.load("mhist", tmp_path)
