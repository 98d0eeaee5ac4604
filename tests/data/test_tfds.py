"""TFDS through its own builders: small sets that TFDS itself prepares here, without TensorFlow.

TFDS encodes an image without TensorFlow when it is given as a PNG file.
"""

import importlib.util
import io
import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from jdd import data
from jdd.data import tfds as reader
from jdd.errors import UserError

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("array_record")

TRAIN, TEST = 700, 30  # more than the reader takes in one go


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "PNG")
    file.seek(0)
    return file


def pixels_of(i, shape=(28, 28, 1)):
    return np.random.default_rng(i).integers(0, 256, shape, dtype=np.uint8)


def prepare(folder, set_name="mnist", splits=(("train", TRAIN), ("test", TEST))):
    """Prepares a set under TFDS's name for it; image i is `pixels_of(i)`, its label i % 10."""

    class Small(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("3.0.1")
        name = set_name

        def _info(self):
            features = {
                "image": tfds.features.Image(shape=(28, 28, 1)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(n) for split, n in splits}

        def _generate_examples(self, n):
            for i in range(n):
                yield i, {"image": png(pixels_of(i)), "label": i % 10}

    tfds.disable_progress_bar()
    builder = Small(data_dir=str(folder), file_format="array_record")
    builder.download_and_prepare()
    return builder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    return folder, prepare(folder)


def check(split, n):
    """TFDS shuffles when it prepares, so images are found by their content."""
    expected = {pixels_of(i).tobytes(): i % 10 for i in range(n)}
    read = {
        image.tobytes(): int(label) for image, label in zip(split.images, split.labels, strict=True)
    }
    assert read == expected
    assert split.images.shape == (n, 28, 28, 1)


def test_a_builder_is_read(prepared):
    train, test = reader.read_prepared(prepared[1], num_classes=10)
    check(train, TRAIN)
    check(test, TEST)


def test_metadata_name_no_code_to_run(prepared, tmp_path):
    shutil.copytree(prepared[0], tmp_path / "set")
    (path,) = (tmp_path / "set").rglob("features.json")
    ran = tmp_path / "ran"
    (tmp_path / "hostile.py").write_text(f"open({str(ran)!r}, 'w')\n")
    text = path.read_text()
    name = "tensorflow_datasets.core.features.class_label_feature.ClassLabel"
    assert name in text
    sys.path.insert(0, str(tmp_path))
    try:
        for changed, words in (
            (text.replace(name, "hostile.Feature"), "names the class 'hostile.Feature'"),
            (text[:100], "cannot be read as JSON"),
            ("[" * 100000, "cannot be read as JSON"),
            ('{"featuresDict": 3}', "cannot be opened"),
        ):
            path.write_text(changed)
            with pytest.raises(UserError, match=words):
                data.load("mnist", tmp_path / "set")
    finally:
        sys.path.remove(str(tmp_path))
    assert not ran.exists()


def test_load_finds_a_set_prepared_in_the_directory(prepared, capsys):
    mnist = data.load("mnist", prepared[0])
    check(mnist.train, TRAIN)
    check(mnist.test, TEST)
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "")


def test_load_finds_a_set_prepared_in_tfds_own_directory(prepared, monkeypatch):
    monkeypatch.delenv("JDD_DATA_DIR", raising=False)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(prepared[0]))
    check(data.load("mnist").test, TEST)


def test_a_missing_split(tmp_path):
    prepare(tmp_path, splits=(("train", 3),))
    with pytest.raises(UserError, match="no split 'test'"):
        data.load("mnist", tmp_path)


def test_labels_out_of_range(prepared):
    with pytest.raises(UserError, match="label 9 is outside 0 to 1"):
        reader.read_prepared(prepared[1], num_classes=2)


def test_a_damaged_file(tmp_path):
    builder = prepare(tmp_path, splits=(("train", 20), ("test", 3)))
    (path,) = (tmp_path / "mnist").rglob("*train.array_record*")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(UserError, match="split 'train' cannot be read") as raised:
        reader.read_prepared(builder, num_classes=10)
    assert "\n" not in str(raised.value)


def test_a_folder_without_a_prepared_set_is_not_one(tmp_path):
    (tmp_path / "mnist").mkdir()
    with pytest.raises(UserError, match="no mnist there"):
        data.load("mnist", tmp_path)


without_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed"
)


@without_tensorflow
def test_the_older_format_needs_tensorflow(tmp_path):
    prepare(tmp_path, splits=(("train", 20), ("test", 3)))
    (path,) = (tmp_path / "mnist").rglob("dataset_info.json")
    info = json.loads(path.read_text()) | {"fileFormat": "tfrecord"}
    path.write_text(json.dumps(info))
    with pytest.raises(UserError, match=r"tfrecord, which TensorFlow reads: .*pip install tensor"):
        data.load("mnist", tmp_path)


@without_tensorflow
def test_a_download_needs_tensorflow(tmp_path, monkeypatch):
    monkeypatch.delenv("JDD_DATA_DIR", raising=False)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match="through TFDS needs TensorFlow") as raised:
        data.load("svhn")
    assert str(tmp_path) in str(raised.value)
    assert "JDD_DATA_DIR" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_download_needs_a_network(tmp_path, monkeypatch):
    monkeypatch.delenv("JDD_DATA_DIR", raising=False)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    monkeypatch.setattr(reader, "_has_tensorflow", lambda: True)
    monkeypatch.setattr(reader, "_HOSTS", ("http://localhost:9",))  # nothing listens there
    with pytest.raises(UserError, match="needs a network, and there is none"):
        data.load("svhn")


def test_a_download_that_fails(tmp_path, monkeypatch, capsys):
    def fail(self):
        raise OSError("No space left on device\nand more lines")

    monkeypatch.delenv("JDD_DATA_DIR", raising=False)
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    for name, answer in (("_has_tensorflow", True), ("_online", True), ("_tame_tensorflow", None)):
        monkeypatch.setattr(reader, name, lambda answer=answer: answer)
    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
    with pytest.raises(UserError, match=r"failed \(No space left on device\); try again") as raised:
        data.load("svhn")
    assert "\n" not in str(raised.value)
    assert capsys.readouterr().err.startswith("downloading svhn through TFDS")
