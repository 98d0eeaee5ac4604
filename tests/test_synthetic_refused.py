"""Sets that are damaged, do not fit or cannot be used are refused in one line."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import pytest

import jdd
from jdd import SyntheticSet, checkpoints, data, files
from jdd.errors import UserError
from tests.small_set import a_set


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset": "mnist"}, "is a set of 'mnist', not of 'digits': use `dataset` mnist"),
        ({"mean": [0.5]}, r"other preprocessing: stored with mean \[0.5\], asked with"),
        ({"kind": "zca"}, "stored with zca, asked with standard"),
        ({"image_shape": [28, 28, 1]}, "stored for 28×28×1 images, asked for 8×8×1"),
    ],
)
def test_a_set_that_does_not_fit_is_refused(digits, tmp_path, change, words):
    made = a_set(digits)
    if "dataset" in change:
        info = dataclasses.replace(made.info, **change)
    else:
        info = dataclasses.replace(made.info, preprocessing={**made.info.preprocessing, **change})
    dataclasses.replace(made, info=info).save(tmp_path)
    with pytest.raises(UserError, match=words):
        SyntheticSet.load(tmp_path, digits)
    if "image_shape" not in change:  # which the images themselves do not have
        assert SyntheticSet.load(tmp_path).info.to_json() == info.to_json()


def test_another_version_and_another_checkpoint_are_refused(digits, tmp_path):
    folder = a_set(digits).save(tmp_path)
    file = folder / "info" / "metadata"
    header = json.loads(file.read_text())
    for change, words in [
        ({"format_version": 2}, "format version 2"),
        ({"set": None}, "not of a synthetic set"),
        ({"set": {"dataset": "digits"}}, "damaged"),
        ({"set": {**header["set"], "recipe": {"colour": 1}}}, "damaged"),
    ]:
        file.write_text(json.dumps({**header, **change}))
        if change != {"format_version": 2}:
            with pytest.raises(UserError, match="info/metadata' is not as it was written"):
                SyntheticSet.load(tmp_path)
        files.write_json(folder / "checksums.json", checkpoints._checksums(folder))
        with pytest.raises(UserError, match=words):
            SyntheticSet.load(tmp_path)


def places_of(value, at=()):
    yield at
    if isinstance(value, (dict, list)):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, each in inner:
            yield from places_of(each, (*at, key))


def test_every_edit_of_the_description_is_noticed(digits, tmp_path):
    """Each value in it replaced, each field taken out."""
    file = a_set(digits).save(tmp_path) / "info" / "metadata"
    whole = file.read_text()
    places = [place for place in places_of(json.loads(whole)) if place]
    assert len(places) > 50
    for place in places:
        for edit in ("replaced", "taken out"):
            header = json.loads(whole)
            parent = header
            for key in place[:-1]:
                parent = parent[key]
            if edit == "replaced":
                parent[place[-1]] = 7 if parent[place[-1]] != 7 else 8
            else:
                del parent[place[-1]]
            file.write_text(json.dumps(header))
            with pytest.raises(UserError, match=r"damaged|format version 7"):
                SyntheticSet.load(tmp_path)
    file.write_text(whole)
    SyntheticSet.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": -1}, "'seed' is -1"),
        ({"ipc": 0}, "10 classes of 0 images"),
        ({"class_names": []}, "0 classes of 2 images"),
        ({"class_names": "digits"}, "'class_names' is 'digits', a list is needed"),
        ({"recipe": {"epochs": "many"}}, "'recipe.epochs' is 'many', a whole number is needed"),
        ({"recipe": {"epochs": 0}}, "`epochs` 0: at least 1"),
        ({"preprocessing": {"kind": "zoom"}}, "'preprocessing.kind' is 'zoom'"),
        ({"preprocessing": {"kind": "zca", "image_shape": [8, 8]}}, "has 2 entries, 3 are needed"),
        ({"plugins": [3]}, r"'plugins\[0\]' is 3, fields are needed"),
    ],
)
def test_a_description_that_cannot_be_is_refused_by_its_field(digits, tmp_path, change, words):
    """Also where somebody has made the checksums fit."""
    folder = a_set(digits).save(tmp_path)
    header = json.loads((folder / "info" / "metadata").read_text())
    header["set"] = {**header["set"], **change}
    (folder / "info" / "metadata").write_text(json.dumps(header))
    files.write_json(folder / "checksums.json", checkpoints._checksums(folder))
    with pytest.raises(UserError, match=words):
        SyntheticSet.load(tmp_path)


def test_a_set_is_checked_where_it_is_evaluated_and_where_a_run_starts(digits):
    made = a_set(digits)
    made = made.replace(labels=made.labels.at[4].set(99))
    with pytest.raises(UserError, match="a label is outside 0 to 9"):
        jdd.evaluate(made, digits)
    loop = jdd.distillation.Loop(1, 1)
    with pytest.raises(UserError, match="a label is outside 0 to 9"):
        jdd.distill(None, made, None, jax.random.key(0), loop)


def test_a_set_that_was_being_replaced_is_found(digits, tmp_path):
    """What is left where a process is killed between the two renames of a replacement."""
    folder = a_set(digits).save(tmp_path)
    folder.rename(tmp_path / ".synthetic.old")
    shutil.copytree(tmp_path / ".synthetic.old", tmp_path / ".synthetic.new")
    for place in (tmp_path, folder):
        assert float(SyntheticSet.load(place).learning_rate) == pytest.approx(0.02)
    a_set(digits, rate=0.5).save(tmp_path)
    assert float(SyntheticSet.load(tmp_path).learning_rate) == 0.5
    assert [p.name for p in tmp_path.iterdir()] == ["synthetic"]


def test_nothing_there_is_said(tmp_path):
    for place, words in ((tmp_path, "holds no checkpoint"), (tmp_path / "no", "does not exist")):
        with pytest.raises(UserError, match=words):
            SyntheticSet.load(place)
    (tmp_path / "store.json").write_text("{}")
    with pytest.raises(UserError, match="holds experts, not a synthetic set"):
        SyntheticSet.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {"storage": s.storage.at[3, 2, 1, 0].set(jnp.nan)}, "is not finite"),
        (lambda s: {"labels": s.labels.at[4].set(99)}, "a label is outside 0 to 9"),
        (lambda s: {"labels": s.labels.at[4].set(-1)}, "a label is outside 0 to 9"),
        (lambda s: {"labels": s.labels[:5]}, "labels of shape"),
        (lambda s: {"labels": jnp.zeros((20, 3))}, "labels of shape"),
        (lambda s: {"labels": s.labels.astype(jnp.float32)}, "its labels are float32: classes are"),
        (lambda s: {"labels": s.labels > 4}, "its labels are bool"),
        (lambda s: {"labels": jnp.ones((20, 10), jnp.int32)}, "labels are int32: .* logits floats"),
        (lambda s: {"labels": jnp.full((20, 10), jnp.inf)}, "label logits are not finite"),
        (lambda s: {"storage": s.storage[:, :7]}, "its images have the shape"),
        (lambda s: {"storage": s.storage[..., 0]}, "its images have the shape"),
        (lambda s: {"storage": s.labels}, "no numbers"),
        (lambda s: {"learning_rate": jnp.float32(0)}, "step size is no positive number"),
        (lambda s: {"learning_rate": jnp.float32(jnp.nan)}, "step size is no positive number"),
    ],
)
def test_a_set_that_nothing_can_be_trained_on_is_refused(digits, tmp_path, change, words):
    made = a_set(digits)
    made.replace(**change(made)).save(tmp_path)
    with pytest.raises(UserError, match=words):
        SyntheticSet.load(tmp_path)
