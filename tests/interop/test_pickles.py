"""PyTorch's files: what published code saves is read, what runs code is not."""

import io
import os
import re
import shlex
import zipfile

import numpy as np
import pytest

from jdd import data, networks
from jdd.cli import distill, import_published
from jdd.errors import UserError
from jdd.experts import ExpertStore
from jdd.interop import FORMATS, export, params_from_torch, pickles, published
from jdd.interop.importing import import_set
from jdd.synthetic import SyntheticSet
from tests.interop import fakes
from tests.interop.test_export import made
from tests.interop.test_published import LABELS, RECIPE, network_of, spec_of

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def tensors():
    """A set as the optimisers leave it."""
    images = torch.tensor(fakes.images(), requires_grad=True)
    return images, torch.tensor(LABELS.astype(np.int64))


def save(value, path, zipped=True):
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.parametrize("kind", ["hard", "logits", "probabilities", "one-hot", "float"])
def test_images_best(digits, tmp_path, kind):
    images, labels = tensors()
    soft = torch.randn(20, 10)
    stored = {
        "hard": labels,
        "logits": soft,
        "probabilities": soft.softmax(1),
        "one-hot": torch.eye(10)[labels],
        "float": labels.float(),  # as DataDAM's first sets are
    }[kind]
    path = save(images, tmp_path / "images_best.pt")
    save(stored, tmp_path / "labels_best.pt")
    if kind == "logits":  # DATM and PAD alone store it
        save(torch.tensor(0.02), tmp_path / "lr_best.pt")
    made = import_set(published.read(path), digits, RECIPE)
    np.testing.assert_array_equal(made.images, fakes.images().transpose(0, 2, 3, 1))
    if kind in ("logits", "probabilities"):
        wanted = np.asarray(soft.softmax(1))
        shares = np.exp(made.labels) / np.exp(made.labels).sum(1, keepdims=True)
        np.testing.assert_allclose(shares, wanted, atol=1e-5)
    else:
        np.testing.assert_array_equal(made.labels, LABELS)
    assert (made.learning_rate is None) == (kind != "logits")


@pytest.mark.parametrize("zipped", [True, False])
def test_results_of_several_experiments(tmp_path, zipped):
    pairs = [[torch.randn(20, 1, 8, 8), tensors()[1]] for _ in range(3)]
    accuracies = [np.float64(0.5), np.float64(0.7), np.float64(0.9)]
    value = {"data": pairs, "accs_all_exps": {"ConvNet": accuracies, "MLP": []}}
    path = save(value, tmp_path / "res_DM_MNIST_ConvNet_2ipc.pt", zipped)
    for number, at in ((0, 2), (1, 0), (3, 2)):
        published_set = published.read(path, number)
        np.testing.assert_array_equal(published_set.images.transpose(0, 3, 1, 2), pairs[at][0])
        assert (published_set.number, published_set.sets) == (at + 1, 3)
    assert published_set.accuracies == {"ConvNet": (0.5, 0.7, 0.9)}
    with pytest.raises(UserError, match=r"`number` 4: .* holds 3 sets"):
        published.read(path, 4)


def test_a_pair_of_images_and_labels(tmp_path):
    images, labels = tensors()
    published_set = published.read(
        save([images.detach().cpu(), labels.cpu()], tmp_path / "data.pt")
    )
    np.testing.assert_array_equal(published_set.labels, LABELS)
    made = import_set(published_set, data.load("digits"), RECIPE)
    pixels = data.load("digits").preprocess.unclipped(made.images)
    np.testing.assert_allclose(pixels, published_set.images, atol=1e-5)


@pytest.mark.parametrize("soft", [False, True])
def test_our_export_comes_back(digits, tmp_path, soft):
    stored = made(digits, soft)
    path = export(stored, digits.preprocess, tmp_path / "set", "pt")
    (images,) = published.find([path])
    back = import_set(published.read(images), digits, RECIPE)
    assert "pt" in FORMATS
    np.testing.assert_array_equal(back.images, stored.images)
    np.testing.assert_array_equal(back.labels, stored.labels)
    assert float(back.learning_rate) == pytest.approx(float(stored.learning_rate))


def convnet():
    """The published ConvNet, of width 8 and depth 2, for grey images of 8 × 8."""

    def block(channels):
        norm = torch.nn.GroupNorm(8, 8, affine=True)
        convolution = torch.nn.Conv2d(channels, 8, kernel_size=3, padding=1)
        return convolution, norm, torch.nn.ReLU(inplace=True), torch.nn.AvgPool2d(2, 2)

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.features = torch.nn.Sequential(*block(1), *block(8))
            self.classifier = torch.nn.Linear(8 * 2 * 2, 10)

        def forward(self, images):
            return self.classifier(self.features(images).flatten(1))

    return Net()


def buffer(path, real, experts=2, epochs=3, on_cpu=False):
    """Trains experts on real images and saves them as `buffer.py` does; the last network."""
    images = torch.tensor(np.asarray(real[0]).transpose(0, 3, 1, 2))
    labels = torch.tensor(real[1].astype(np.int64))
    trajectories = []
    for _ in range(experts):
        net, timestamps = convnet(), []

        def snapshot(net=net, timestamps=timestamps):
            kept = [p.detach().cpu() for p in net.parameters()]
            # On a GPU, .cpu() copies; here it does not, as published code on a CPU.
            timestamps.append(kept if on_cpu else [p.clone() for p in kept])

        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        snapshot()
        for _ in range(epochs):
            for first in range(0, len(images), 64):
                some = slice(first, first + 64)
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(net(images[some]), labels[some]).backward()
                optimizer.step()
            snapshot()
        trajectories.append(timestamps)
    torch.save(trajectories, path)
    return net


@pytest.mark.slow
def test_experts_of_published_code_are_distilled_with(digits, tmp_path, capsys, monkeypatch):
    real = (digits.preprocess(digits.train.images[:500]), digits.train.labels[:500])
    buffer(tmp_path / "replay_buffer_0.pt", real, experts=1)
    net = buffer(tmp_path / "replay_buffer_1.pt", real, experts=1)
    options = ["--dataset", "digits", "--preprocessing", "standard", "--width", "8", "--depth", "2"]
    store = tmp_path / "experts"
    arguments = [str(tmp_path), *options, "--no-expert-dsa", "--lr-teacher", "0.1"]
    assert import_published.main([*arguments, "--out", str(store)]) == 0
    out = capsys.readouterr().out
    opened = ExpertStore.open(store)
    assert opened.complete == 2 and min(opened.accuracies) > 0.5

    network = network_of(spec_of(digits))
    test = digits.preprocess(digits.test.images[:50])
    theirs = net(torch.tensor(np.asarray(test).transpose(0, 3, 1, 2))).detach()
    ours = network.apply({"params": opened.read(1, 3)}, test)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    same = params_from_torch(networks.create("ConvNet", 10, width=8, depth=2), state, (8, 8, 1))
    np.testing.assert_array_equal(
        same["params"]["classifier"]["kernel"], opened.read(1, 3)["classifier"]["kernel"]
    )

    command = shlex.split(re.search(r"try: python bin/distill\.py (.*)", out)[1])
    small = "--iterations 2 --syn-steps 2 --max-start-epoch 1 --expert-epochs 1 --eval-epochs 1"
    small += " --eval-networks 1 --no-eval-random --full-data-epochs 0 --eval-every 2"
    monkeypatch.chdir(tmp_path)
    assert distill.main([*command, *small.split(), "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "result.json").exists()


def test_experts_made_on_a_cpu_are_all_the_last_epoch(digits, tmp_path):
    real = (digits.preprocess(digits.train.images[:64]), digits.train.labels[:64])
    path = tmp_path / "replay_buffer_0.pt"
    buffer(path, real, experts=1, epochs=12, on_cpu=True)
    with pytest.raises(UserError, match="on a CPU stores the last epoch in the place of every one"):
        published.read(path)


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("value", [Evil(), [torch.zeros(2), Evil()], torch.nn.Linear(2, 2)])
def test_nothing_in_a_file_is_run(tmp_path, monkeypatch, value, zipped):
    monkeypatch.chdir(tmp_path)
    path = save(value, tmp_path / "images_best.pt", zipped)
    with pytest.raises(UserError, match=r"it holds more than tensors \(.*\), and nothing in it is"):
        published.read(path)
    assert not (tmp_path / "evil").exists()


def nested():
    value = [torch.zeros(2)]
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.zeros(1).expand(10**9), "its tensors share their numbers"),
        (torch.zeros(10**6, device="meta"), "has no numbers of its own"),
        (nested(), "nested too deep or too long"),
        (torch.zeros(3), "the images are no numbers in 4 axes"),
        (torch.zeros(0, 1, 8, 8), "the images are no numbers in 4 axes"),
        (torch.full((20, 1, 8, 8), torch.nan), "the images are not finite"),
        (torch.zeros(20, 1, 8, 8, dtype=torch.int64), "the images are no numbers in 4 axes"),
        (torch.zeros(19, 1, 8, 8), "the labels are not 19, one an image"),
        ({"net": torch.zeros(3)}, "holds neither a set nor experts"),
        ([[[torch.zeros(3)]], 7], "holds experts of one epoch, or of several lengths"),
        ([[[torch.zeros(3)], 7]], "holds experts of other than parameters"),
        ("text", "holds neither a set nor experts"),
    ],
)
def test_other_values_are_refused(tmp_path, value, words):
    path = save(value, tmp_path / "images_best.pt")
    save(tensors()[1], tmp_path / "labels_best.pt")
    with pytest.raises(UserError, match=words):
        published.read(path)


@pytest.mark.parametrize("labels", [LABELS + 0.5, LABELS[:, None, None], np.array(LABELS, "c8")])
def test_labels_that_are_none(tmp_path, labels):
    path = save(tensors()[0], tmp_path / "images_best.pt")
    save(torch.tensor(labels), tmp_path / "labels_best.pt")
    with pytest.raises(UserError, match="the labels"):
        published.read(path)


def test_files_that_are_damaged_or_missing(tmp_path):
    path = save(tensors()[0], tmp_path / "images_best.pt")
    with pytest.raises(UserError, match=r"labels_best\.pt does not exist"):
        published.read(path)
    save(tensors()[1], tmp_path / "labels_best.pt")
    save(torch.tensor(-1.0), tmp_path / "lr_best.pt")
    with pytest.raises(UserError, match=r"lr_best\.pt holds no positive number"):
        published.read(path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"it is damaged, or no file of torch\.save"):
        published.read(path)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    with pytest.raises(UserError, match="its entries are compressed"):
        pickles.loads(content.getvalue(), "it")
    alone = save(tensors()[0], tmp_path / "set.pt")
    with pytest.raises(UserError, match="holds images without labels"):
        published.read(alone)


def test_a_set_goes_from_file_to_evaluation(digits, tmp_path, capsys):
    images, labels = tensors()
    path = save({"data": [[images.detach(), labels]], "accs_all_exps": {}}, tmp_path / "res_x.pt")
    arguments = [path, "--dataset", "digits", "--preprocessing", "standard", "--out", "set"]
    arguments[-1] = tmp_path / "set"
    assert import_published.main([*map(str, arguments), "--depth", "2", "--width", "8"]) == 0
    assert "20 images of digits, hard labels" in capsys.readouterr().out
    loaded = SyntheticSet.load(tmp_path / "set", digits)
    assert loaded.info.recipe.options == {"width": 8, "depth": 2}
    np.testing.assert_array_equal(loaded.images, fakes.images().transpose(0, 2, 3, 1))
