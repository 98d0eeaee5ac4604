"""The store of experts: rounding, damage, what does not fit."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
import tensorstore as ts

from jdd import networks
from jdd.errors import UserError
from jdd.experts import (
    ExpertSpec,
    ExpertStore,
    default_directory,
    open_compatible,
)
from tests.experts.small_store import EPOCHS, EXPERTS, STANDARD, filled, leaves, params, spec_of

OLD = Path(__file__).resolve().parents[1] / "fixtures" / "experts-0.1"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_epoch_comes_back_rounded_to_the_stored_type(tmp_path, dtype):
    store = filled(tmp_path, dtype)
    kind = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16}[dtype]
    for expert, epoch in [(0, 0), (2, 4), (1, 3)]:
        for stored, original in zip(
            leaves(store.read(expert, epoch)), leaves(params(expert, epoch)), strict=True
        ):
            assert stored.dtype == np.float32
            np.testing.assert_array_equal(stored, original.astype(kind).astype(np.float32))
    assert store.complete == 3 and store.accuracies == [0.5, 0.6, 0.7]


def chunk(directory, expert, epoch):
    return directory / "parameters" / "c" / str(expert) / str(epoch) / "0"


def test_one_epoch_is_one_file(tmp_path):
    filled(tmp_path)
    sizes = {
        chunk(tmp_path, e, t).stat().st_size for e in range(EXPERTS) for t in range(EPOCHS + 1)
    }
    assert sizes == {18 * 4 + 4}  # the parameters and a checksum


@pytest.mark.parametrize("damage", ["cut off", "one byte flipped", "empty", "missing"])
def test_a_damaged_epoch_is_refused_and_the_others_are_read(tmp_path, damage):
    filled(tmp_path)
    file = chunk(tmp_path, 1, 2)
    content = bytearray(file.read_bytes())
    if damage == "one byte flipped":
        content[17] ^= 1
    else:
        content = content[: {"cut off": len(content) // 2, "empty": 0, "missing": 0}[damage]]
    file.write_bytes(content)
    if damage == "missing":
        file.unlink()
    store = ExpertStore.open(tmp_path)
    with pytest.raises(UserError, match=r"expert 1, epoch 2.*train them again") as caught:
        store.read(1, 2)
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(leaves(store.read(1, 3))[0], leaves(params(1, 3))[0])


@pytest.mark.parametrize("replacement", ["copied", "a link", "a pipe", "a link to the directory"])
def test_another_epoch_in_its_place_is_refused(tmp_path, replacement):
    """TensorStore's checksum does not know where a chunk belongs, and it would wait for a pipe."""
    store = filled(tmp_path)
    place = chunk(tmp_path, 1, 2)
    if replacement == "copied":
        shutil.copy(chunk(tmp_path, 0, 3), place)
    elif replacement == "a link to the directory":
        shutil.rmtree(place.parent)
        place.parent.symlink_to(chunk(tmp_path, 0, 3).parent)
    else:
        place.unlink()
        place.symlink_to(chunk(tmp_path, 0, 3)) if replacement == "a link" else os.mkfifo(place)
    with pytest.raises(UserError, match=r"damaged at expert 1, epoch 2 \("):
        ExpertStore.open(tmp_path).read(1, 2)
    assert store.read(1, 3)


def test_an_expert_is_complete_once_all_its_epochs_are_there(tmp_path):
    store = filled(tmp_path)
    store.extend(4)
    for epoch in range(EPOCHS):
        store.write(3, epoch, params(3, epoch))
    with pytest.raises(UserError, match=r"expert 3, epoch 4 .missing"):
        store.finish([0.8])
    assert store.complete == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [EXPERTS, EPOCHS + 1, 2**40]},
        {"shape": [2**40, EPOCHS + 1, 18]},
        {"shape": [True, EPOCHS + 1, 18]},
        {"data_type": "int32"},
        {"fill_value": 0.0},
        {"codecs": [{"name": "bytes", "configuration": {"endian": "big"}}]},
        {"chunk_key_encoding": {"name": "v2"}},
        {"storage_transformers": [{"name": "x"}]},
    ],
    ids=lambda changes: str(changes)[:24],
)
def test_an_array_of_another_layout_is_refused_before_it_is_opened(tmp_path, monkeypatch, changes):
    filled(tmp_path)
    file = tmp_path / "parameters" / "zarr.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    monkeypatch.setattr(ts, "open", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(UserError, match=r"zarr\.json describes another array than store\.json"):
        ExpertStore.open(tmp_path)


def test_every_edit_of_the_description_is_noticed(tmp_path):
    filled(tmp_path)
    for name in ("store.json", "progress.json"):
        text = (tmp_path / name).read_text()
        digits = [i for i, letter in enumerate(text) if letter.isdigit()]
        for at in digits[::3]:
            other = str((int(text[at]) + 1) % 10)
            (tmp_path / name).write_text(text[:at] + other + text[at + 1 :])
            with pytest.raises(UserError, match="train"):
                ExpertStore.open(tmp_path)
        (tmp_path / name).write_text(text)
    assert ExpertStore.open(tmp_path).complete == 3


def test_parameters_of_another_network_are_refused(tmp_path):
    network = networks.create("ConvNet", 10, width=8, depth=2)
    with pytest.raises(UserError, match="have other parameters than ConvNet here"):
        open_compatible(filled(tmp_path).directory, spec_of(), network)
    images = jax.ShapeDtypeStruct((1, 8, 8, 1), np.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), images)["params"]
    ExpertStore.create(tmp_path / "fits", spec_of(), shapes)
    assert open_compatible(tmp_path / "fits", spec_of(), network) is not None


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("store.json", '{"format_version": 1, "spec"', "store.json cannot be read"),
        ("store.json", '{"format_version": 1}', "store.json is damaged"),
        ("store.json", "[]", "store.json is damaged"),
        ("store.json", '{"format_version": 7}', "format version 7, this jdd reads version 1"),
        ("progress.json", "{}", r"progress\.json is damaged: 'accuracies' is missing; remove"),
        ("progress.json", None, "does not exist; remove"),
        ("parameters/zarr.json", "{", "cannot be read as JSON"),
        ("parameters/zarr.json", "[]", r"zarr\.json describes another array"),
        ("parameters/zarr.json", None, r"zarr\.json does not exist; remove"),
    ],
)
def test_a_damaged_description_is_refused_in_one_line(tmp_path, file, content, words):
    filled(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=words) as caught:
        _ = ExpertStore.open(tmp_path).complete
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset": "mnist"}, "stored for dataset digits, asked for mnist"),
        ({"preprocessing": {**STANDARD, "mean": [0.5]}}, r"stored with mean \[0.3\]"),
        ({"preprocessing": {**STANDARD, "kind": "zca"}}, "stored with standard"),
        ({"preprocessing": {**STANDARD, "mean": [0.3002]}}, r"stored with mean \[0.3\]"),
        ({"network": "MLP"}, "stored with network ConvNet, asked for MLP"),
        ({"options": {"width": 16, "depth": 2}}, "stored with `width` 8, asked for 16"),
        ({"held_out": 0.2}, "stored with `held_out` 0.1, asked for 0.2"),
        ({"settings": {"train_epochs": 5}}, "stored with `train_epochs` 4, asked for 5"),
        ({"settings": {"lr_teacher": 0.5}}, "stored with `lr_teacher` 0.01, asked for 0.5"),
        ({"settings": {"expert_dsa": False}}, "stored with `expert_dsa` True, asked for False"),
        ({"settings": {"expert_seed": 1}}, "stored with `expert_seed` 0, asked for 1"),
        ({"settings": {"real_images": 9}}, "stored with `real_images` 0, asked for 9"),
        ({"settings": {"expert_dtype": "bfloat16"}}, "stored with `expert_dtype` float32"),
    ],
)
def test_experts_that_do_not_fit_are_refused_with_the_difference(tmp_path, change, words):
    filled(tmp_path)
    with pytest.raises(UserError, match=words):
        open_compatible(tmp_path, spec_of(**change))
    assert default_directory(Path("out"), spec_of(**change)) != default_directory(
        Path("out"), spec_of()
    )


def test_experts_of_other_images_are_refused_where_they_are(tmp_path):
    """By the fingerprint, which a store of an older version has not; the place stays the same."""
    filled(tmp_path)
    spec = spec_of(fingerprint="ab-cd")
    assert open_compatible(tmp_path, spec) is not None
    assert default_directory(Path("out"), spec) == default_directory(Path("out"), spec_of())
    assert spec_of(fingerprint="ba-cd").differences(spec)[0].startswith("made from other images")
    assert "another order" in spec_of(fingerprint="ab-dc").differences(spec)[0]
    moved = spec_of(fingerprint="ab-cd", dataset="folder:elsewhere")
    assert moved.differences(spec) == []
    # Statistics of jdd 0.1 have four digits.
    exact = spec_of(preprocessing={**STANDARD, "mean": [0.30003]})
    assert open_compatible(tmp_path, exact) is not None
    assert default_directory(Path("out"), exact) == default_directory(Path("out"), spec_of())


def test_experts_of_an_older_version_are_looked_for_where_it_left_them():
    directory = default_directory(Path("runs") / "one", ExpertStore.open(OLD).spec)
    assert directory == Path("runs") / "experts" / "MLP-standard-e3964595"


def test_more_or_fewer_experts_fit(tmp_path):
    filled(tmp_path)
    for count in (1, EXPERTS, 20):
        wanted = spec_of(settings={"num_experts": count})
        assert open_compatible(tmp_path, wanted) is not None
        assert default_directory(tmp_path, wanted) == default_directory(tmp_path, spec_of())


def test_making_room_keeps_what_is_there(tmp_path):
    store = filled(tmp_path)
    store.extend(5)
    store.write(4, 0, params(4, 0))
    store = ExpertStore.open(tmp_path)
    for expert, epoch in [(2, 4), (4, 0)]:
        np.testing.assert_array_equal(
            leaves(store.read(expert, epoch))[2], leaves(params(expert, epoch))[2]
        )
    with pytest.raises(UserError, match="expert 3, epoch 1"):
        store.read(3, 1)


def test_experts_of_jdd_0_1_are_read(tmp_path):
    """Their settings have today's names; what is stored is what was stored."""
    store = ExpertStore.open(shutil.copytree(OLD, tmp_path / "experts"))
    settings = store.spec.settings
    assert (settings.expert_optimizer, settings.curriculum) == ("gsam", "pad")
    assert settings.initial_fraction == 0.5 and store.accuracies == [0.5]
    np.testing.assert_array_equal(store.read(0, 1)["a"]["kernel"], np.arange(1, 7).reshape(2, 3))


def test_the_spec_survives_json():
    spec = spec_of()
    assert ExpertSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert dataclasses.replace(spec, held_out=0.3).differences(spec)


@pytest.mark.parametrize("foreign", ["settings.json", "parameters/mine.txt", "state/7/x"])
def test_a_directory_of_something_else_is_not_taken_for_experts(tmp_path, foreign):
    path = tmp_path / foreign
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    with pytest.raises(UserError, match="holds no experts but other files"):
        ExpertStore.open(tmp_path)
    assert path.read_text() == "mine"


def test_what_a_killed_command_leaves_is_no_store_and_no_hindrance(tmp_path):
    (tmp_path / "parameters").mkdir()
    for name in (".store.json.part-1-2", "parameters/zarr.json", "parameters/zarr.json.__lock"):
        (tmp_path / name).write_text("")
    assert ExpertStore.open(tmp_path) is None


def test_a_directory_of_stores_names_one_of_them(tmp_path):
    filled(tmp_path / "ConvNet-standard-1")
    with pytest.raises(UserError, match=r"holds 1 stores of experts.*such as .*ConvNet-standard-1"):
        ExpertStore.open(tmp_path)
