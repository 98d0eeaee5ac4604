"""Sets and experts of published repositories: Flax's checkpoints, and what is made of any file."""

import importlib.util

import numpy as np
import pytest
from flax import serialization

from jdd import data, networks
from jdd.errors import SettingError, UserError
from jdd.experts import ExpertSettings, ExpertSpec, ExpertStore, open_compatible
from jdd.interop import published
from jdd.interop.importing import import_experts, import_set
from jdd.interop.published import FoundExperts, FoundSet
from jdd.interop.torch import TorchLayout
from jdd.synthetic import SyntheticSet
from jdd.training import Recipe
from tests.interop import fakes

RECIPE = Recipe(options={"width": 8, "depth": 2}, epochs=2)
LABELS = np.repeat(np.arange(10, dtype=np.int32), 2)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def found_set(**changes):
    images = fakes.images().transpose(0, 2, 3, 1)
    return FoundSet(images, LABELS)._replace(**changes)


@pytest.mark.parametrize("write", [fakes.frepo, fakes.rcig])
def test_flaxs_checkpoints(digits, tmp_path, write):
    images, targets = write(tmp_path)
    (path,) = published.find([tmp_path])
    published_set = published.read(path)
    usual = import_set(published_set, digits, RECIPE)
    np.testing.assert_allclose(usual.labels, targets / published_set.temperature, rtol=1e-6)
    made = import_set(published_set, digits, RECIPE, temperature=0.5, method="theirs")
    np.testing.assert_array_equal(made.images, images)
    np.testing.assert_allclose(made.labels, targets / 0.5, rtol=1e-6)
    assert (made.classes() == LABELS).all() and made.info.ipc == 2
    made.save(tmp_path / "set")
    loaded = SyntheticSet.load(tmp_path / "set", digits)
    assert loaded.info.method == "theirs" and loaded.info.recipe == RECIPE
    np.testing.assert_array_equal(loaded.images, images)


def test_images_normalised_by_other_constants_are_the_same_pixels(digits):
    theirs = ([0.3], [0.7])
    made = import_set(found_set(), digits, RECIPE, mean_std=theirs)
    pixels = digits.preprocess.unclipped(made.images)
    np.testing.assert_allclose(pixels, found_set().images * 0.7 + 0.3, atol=1e-5)
    with pytest.raises(SettingError, match="`temperature` 1: the file's labels are no targets"):
        import_set(found_set(), digits, RECIPE, temperature=1)
    with pytest.raises(SettingError, match=r"`std` \[1\.0, 1\.0\]: 1 are needed, one a channel"):
        import_set(found_set(), digits, RECIPE, mean_std=([0.3], [1.0, 1.0]))
    for std in (0.0, -0.5):
        with pytest.raises(SettingError, match=rf"`std` \[{std}\]: each has to be above 0"):
            import_set(found_set(), digits, RECIPE, mean_std=([0.3], [std]))


def test_hard_labels_in_any_order_and_a_step_size(digits):
    order = np.random.default_rng(0).permutation(20)
    mixed = found_set(images=found_set().images[order], labels=LABELS[order], learning_rate=0.02)
    made = import_set(mixed, digits, RECIPE)
    np.testing.assert_array_equal(made.labels, LABELS)
    assert float(made.learning_rate) == pytest.approx(0.02)
    by_class = np.sort(np.asarray(made.images).reshape(10, 2, -1), axis=1)
    np.testing.assert_array_equal(by_class, np.sort(found_set().images.reshape(10, 2, -1), axis=1))


@pytest.mark.parametrize("even", [True, False])
def test_soft_labels_lie_class_by_class_where_they_tell_the_classes(digits, even):
    order = np.random.default_rng(0).permutation(20)
    logits = 3 * np.eye(10, dtype=np.float32)[LABELS]
    if not even:
        logits[0] = logits[-1]
    mixed = found_set(images=found_set().images[order], labels=logits[order])
    made = import_set(mixed, digits, RECIPE)
    kept = np.argsort(LABELS[order], kind="stable") if even else np.arange(20)
    np.testing.assert_array_equal(made.labels, mixed.labels[kept])
    hard = import_set(found_set(images=mixed.images[kept]), digits, RECIPE)
    np.testing.assert_array_equal(made.images, hard.images)


def test_whitened_images_have_the_labels_of_the_others(tmp_path, monkeypatch):
    """MTT's code writes images_5.pt, images_zca_5.pt and labels_5.pt."""
    there = {"images_zca_5.pt": np.zeros((2, 1, 8, 8), np.float32), "labels_5.pt": np.arange(2)}
    monkeypatch.setattr(published, "_value", lambda path: there[path.name])
    assert published.read(tmp_path / "images_zca_5.pt").labels.tolist() == [0, 1]


def test_several_images_in_one(digits):
    made = import_set(found_set(), digits, RECIPE, factor=2)
    assert made.images.shape == (80, 8, 8, 1) and made.info.ipc == 2
    np.testing.assert_array_equal(made.storage, found_set().images)
    np.testing.assert_array_equal(made.labels, np.repeat(np.arange(10), 8))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images": np.zeros((20, 8, 8, 3), np.float32)}, "holds images of 8×8×3, digits here"),
        ({"labels": np.zeros(20, np.int32)}, "not as many of each of the 10 classes"),
        ({"labels": LABELS + 1}, "not as many of each of the 10 classes"),
        ({"labels": np.zeros((20, 7), np.float32)}, r"labels of shape \(20, 7\)"),
        ({"images": np.zeros((7, 8, 8, 1), np.float32), "labels": LABELS[:7]}, "holds 7 images"),
        ({"learning_rate": -1.0}, "step size is no positive number"),
    ],
)
def test_sets_that_are_not_of_this_dataset(digits, changes, words):
    with pytest.raises(UserError, match=words):
        import_set(found_set(**changes), digits, RECIPE)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "neither a file of torch.save nor a checkpoint of Flax"),
        (b"hello", "neither a file of torch.save nor a checkpoint of Flax"),
        ({"params": {"x_proto": np.zeros((2, 4, 4, 1))}}, "the labels are not 2, one an image"),
        ({"params": {"x_proto": np.zeros((0, 4, 4, 1))}}, "the images are no numbers in 4 axes"),
        ({"params": {"y_proto": np.zeros((2, 2))}}, "the images are no numbers in 4 axes"),
        (
            {"params": {"x_proto": np.full((2, 4, 4, 1), np.nan), "y_proto": np.zeros((2, 2))}},
            "the images are not finite",
        ),
        ({"weights": np.zeros(3)}, "holds neither a set nor experts"),
        ({"data": []}, "holds neither a set nor experts"),
    ],
)
def test_other_files_are_refused(tmp_path, content, words):
    path = tmp_path / "checkpoint_1"
    written = content if isinstance(content, bytes) else serialization.msgpack_serialize(content)
    path.write_bytes(written)
    with pytest.raises(UserError, match=words):
        published.read(path)


def test_a_cut_off_checkpoint_is_refused(tmp_path):
    fakes.frepo(tmp_path)
    (path,) = published.find([tmp_path])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="is damaged, or neither"):
        published.read(path)


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="PyTorch is installed")
def test_pytorchs_files_need_pytorch(tmp_path):
    (tmp_path / "images_best.pt").write_bytes(b"PK")
    with pytest.raises(UserError, match="this format needs torch: pip install torch"):
        published.read(tmp_path / "images_best.pt")


def test_what_a_directory_stands_for(tmp_path):
    for name in ("checkpoint_9", "checkpoint_10000", "images_best.pt", "replay_buffer_2.pt"):
        (tmp_path / name).touch()
    (tmp_path / "replay_buffer_10.pt").touch()
    names = [path.name for path in published.find([tmp_path])]
    assert names == ["replay_buffer_2.pt", "replay_buffer_10.pt"]
    for name in names:
        (tmp_path / name).unlink()
    assert published.find([tmp_path]) == [tmp_path / "images_best.pt"]
    (tmp_path / "images_best.pt").unlink()
    assert published.find([tmp_path]) == [tmp_path / "checkpoint_10000"]
    (tmp_path / "res_DM_MNIST_ConvNet_1ipc.pt").touch()
    (tmp_path / "res_DM_MNIST_ConvNet_10ipc.pt").touch()
    with pytest.raises(UserError, match="holds 2 sets: name one"):
        published.find([tmp_path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no replay_buffer_\*\.pt, images_best\.pt"):
        published.find([tmp_path / "empty"])


def spec_of(digits, **options):
    return ExpertSpec(
        "digits",
        digits.preprocess.spec(),
        "ConvNet",
        {"width": 8, "depth": 2, **options},
        0.0,
        ExpertSettings(),
    )


def network_of(spec):
    return networks.create(spec.network, 10, **spec.options)


def test_experts_of_two_files_become_a_store(digits, tmp_path):
    spec, told = spec_of(digits), []
    every = fakes.trajectories(experts=3)
    buffers = [FoundExperts(every[:2]), FoundExperts(every[2:])]
    network, place = network_of(spec), tmp_path / "store"
    store = import_experts(iter(buffers), place, spec, network, digits, lambda *at: told.append(at))
    assert store.complete == 3 and store.spec.settings.train_epochs == 3
    assert store.spec.settings.num_experts == 3 and told[-1][0] <= told[-1][1]
    layout = TorchLayout(network, digits.image_shape)
    for expert, trajectory in enumerate(every):
        for epoch, tensors in enumerate(trajectory):
            ours, theirs = store.read(expert, epoch), layout.params(tensors)
            kernel = ours["classifier"]["kernel"]
            np.testing.assert_array_equal(kernel, theirs["classifier"]["kernel"])
            np.testing.assert_array_equal(
                ours["block_1"]["conv"]["kernel"], tensors[4].transpose(2, 3, 1, 0)
            )
    assert all(0 <= accuracy <= 1 for accuracy in store.accuracies)
    assert open_compatible(place, store.spec, network) is not None
    with pytest.raises(SettingError, match=r"`out` .*store: it exists already"):
        import_experts(iter(buffers), place, spec, network, digits)


def changed(kind):
    """Experts with something wrong, and what is said of it."""
    every = fakes.trajectories()
    if kind == "nan":
        every[1][2][0][0] = np.nan
    elif kind == "missing":
        every[0][0] = every[0][0][:-1]
    elif kind == "shape":
        every[1][1][4] = every[1][1][4][:, :-1]
    return [FoundExperts(every)]


@pytest.mark.parametrize(
    ("buffers", "words"),
    [
        (changed("nan"), "expert 2 is not finite at epoch 2"),
        (changed("missing"), "9 parameters, this ConvNet on .* has 10: name its `network`"),
        (changed("shape"), r"'features\.4\.weight' has shape \(8, 7, 3, 3\)"),
        ([FoundExperts(fakes.trajectories(epochs=n)) for n in (1, 2)], "of 1 epochs in one file"),
        ([], "there are no experts"),
    ],
)
def test_experts_that_do_not_fit_leave_nothing(digits, tmp_path, buffers, words):
    spec = spec_of(digits)
    with pytest.raises(UserError, match=words):
        import_experts(iter(buffers), tmp_path / "store", spec, network_of(spec), digits)
    assert not list(tmp_path.iterdir())


def test_experts_with_batch_norm_are_tested_by_the_batchs_statistics(digits, tmp_path):
    spec = spec_of(digits, norm="batch")
    store = import_experts(
        iter([FoundExperts(fakes.trajectories(1, 1))]),
        tmp_path / "s",
        spec,
        network_of(spec),
        digits,
    )
    assert isinstance(store, ExpertStore) and store.complete == 1
