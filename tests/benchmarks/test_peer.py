"""The peer's steps are ours: equal weights and images give equal losses and moved images."""

import copy
import dataclasses

import jax
import numpy as np
import pytest

from jdd.benchmarks import cases
from jdd.benchmarks.cases import Case
from jdd.experts import Segment
from jdd.interop import params_from_torch
from jdd.methods import matching

torch = pytest.importorskip("torch")

from jdd.benchmarks.peer.augment import augment  # noqa: E402
from jdd.benchmarks.peer.network import ConvNet  # noqa: E402
from jdd.benchmarks.peer.steps import Peer  # noqa: E402

WIDTH = 8
REAL = 16  # of each class, all of which an update draws, so that no draw is left to chance


def as_ours(problem, network):
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return params_from_torch(problem.network, state, problem.dataset.image_shape)


def moved(problem, images):
    """How far a step has moved the images, NHWC."""
    now = images.detach().numpy().transpose(0, 2, 3, 1) if torch.is_tensor(images) else images
    return np.asarray(now) - np.asarray(problem.synthetic.images)


def check(problem, losses, images):
    ours, theirs = losses
    assert ours == pytest.approx(theirs, rel=1e-4)
    by_us, by_them = (moved(problem, v) for v in images)
    error = np.linalg.norm(by_us - by_them) / np.linalg.norm(by_them)
    assert np.linalg.norm(by_them) > 0 and error < 1e-3


def problem_of(kind, dataset, **options):
    case = Case(kind, dataset, 2, REAL, augmented=False, **options)
    problem = cases.problem(case, WIDTH, stored=REAL)
    assert problem.strategy == "none"
    # At the cases' own rate the images would move by hardly more than they are rounded to.
    return problem._replace(settings=dataclasses.replace(problem.settings, lr_img=1.0))


@pytest.mark.parametrize("kind", ["dc", "dm", "datadam"])
def test_methods_that_match_class_by_class(kind, monkeypatch):
    problem = problem_of(kind, "mnist" if kind == "dc" else "cifar10")
    torch.manual_seed(1)
    network = ConvNet(problem.dataset.image_shape, 10, WIDTH)
    variables = as_ours(problem, network)
    monkeypatch.setattr(matching, "fresh_network", lambda *_: variables)
    step = cases.step(problem)
    synthetic, _, metrics = jax.jit(step.function)(*step.arguments)

    peer = Peer(problem, fresh=lambda: copy.deepcopy(network))
    loss = peer.step()()
    check(problem, (float(metrics["loss"]), loss), (synthetic.images, peer.images))


def test_trajectory_matching():
    problem = problem_of("mtt", "mnist", syn_steps=3)
    torch.manual_seed(2)
    networks = [ConvNet(problem.dataset.image_shape, 10, WIDTH) for _ in range(2)]
    begin, end = (
        jax.tree.map(lambda leaf: leaf[None], as_ours(problem, network)["params"])
        for network in networks
    )
    step = cases.step(problem._replace(segment=Segment(begin, end)))
    synthetic, _, metrics = jax.jit(step.function)(*step.arguments)

    flat = [torch.nn.utils.parameters_to_vector(n.parameters()).detach() for n in networks]
    peer = Peer(problem)
    loss = peer.trajectory_step(*flat)()
    check(problem, (float(metrics["loss"]), loss), (synthetic.images, peer.images))


def test_training_and_testing():
    case = Case("train", "cifar10", batch=32)
    problem = cases.problem(case, WIDTH)
    torch.manual_seed(3)
    network = ConvNet(problem.dataset.image_shape, 10, WIDTH)
    params = as_ours(problem, network)["params"]
    step = cases.step(problem)
    state = step.arguments[0]._replace(params=params)
    train = jax.jit(step.function)

    peer = Peer(problem, fresh=lambda: network).step()
    for _ in range(3):  # momentum and weight decay show from the second step on
        state = train(state, *step.arguments[1:])
        assert float(state.loss) == pytest.approx(peer(), rel=1e-4)

    tested = cases.problem(Case("test", "cifar10", batch=600), WIDTH)
    step = cases.step(tested)
    logits = step.function({"params": state.params}, *step.arguments[1:])
    right = float(np.mean(np.argmax(logits, 1) == tested.dataset.train.labels))
    assert Peer(tested, fresh=lambda: network).step()() == pytest.approx(right, abs=2 / 600)


@pytest.mark.parametrize("kind", ["color", "crop", "cutout", "flip", "scale", "rotate"])
def test_siamese_augmentation_is_one_transform(kind):
    images = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).reshape(2, 3, 8, 8)
    images[1] = images[0]

    def drawn(batch, seed, siamese):
        return augment(batch, kind, torch.Generator().manual_seed(seed), siamese)

    seen = []
    for seed in range(6):
        one, two = drawn(images, seed, True)
        torch.testing.assert_close(one, two)
        torch.testing.assert_close(drawn(images[:1], seed, True)[0], one)
        seen.append(one)
    assert any(not torch.allclose(images[0], image) for image in seen)
    apart = [drawn(images, seed, False) for seed in range(6)]
    assert any(not torch.allclose(a, b) for a, b in apart)


def test_what_the_transforms_do():
    image = torch.zeros(1, 1, 9, 9)
    image[0, 0, 4, 4] = 1.0

    def drawn(kind, seed):
        return augment(image, kind, torch.Generator().manual_seed(seed))[0, 0]

    for seed in range(8):
        assert drawn("crop", seed).sum() in (0, 1)  # shifted by whole pixels
        assert drawn("crop", seed)[3:6, 3:6].sum() == 1  # by 9 / 8 at most
        for kind in ("scale", "rotate"):
            torch.testing.assert_close(drawn(kind, seed), image[0, 0], atol=1e-5, rtol=0)
        whole = torch.ones(1, 1, 9, 9)
        cut = augment(whole, "cutout", torch.Generator().manual_seed(seed))[0, 0]
        assert 81 - 25 <= cut.sum() <= 81 - 4  # a square of 5, at most half of it outside each way
    flipped = augment(
        torch.arange(9.0).expand(1, 1, 9, 9), "flip", torch.Generator().manual_seed(0)
    )[0, 0, 0]
    assert flipped.tolist() in (list(range(9)), list(range(8, -1, -1)))
