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


SEEDS = range(8)


def transformed(image, kind, seed):
    """One image `(h, w)`."""
    return augment(image[None, None], kind, torch.Generator().manual_seed(seed))[0, 0].numpy()


def test_crop_and_cutout():
    dot = torch.zeros(9, 9)
    dot[4, 4] = 1.0
    for seed in SEEDS:
        moved = transformed(dot, "crop", seed)
        assert moved.sum() == 1 and moved[3:6, 3:6].sum() == 1  # by 9 / 8 pixels at most
        whole = transformed(torch.ones(9, 9), "cutout", seed)
        assert 3 * 3 <= 81 - whole.sum() <= 5 * 5  # a square of 5 whose centre is inside


@pytest.mark.parametrize("kind", ["scale", "rotate"])
def test_scale_and_rotate_slopes(kind):
    y, x = np.mgrid[-7:8, -7:8].astype(np.float32)
    inside = (abs(y) < 5) & (abs(x) < 5)  # what is sampled from outside is zero
    slopes = []
    for seed in SEEDS:
        slope = transformed(torch.from_numpy(x), kind, seed)[inside]
        (by_x, by_y), misfit, *_ = np.linalg.lstsq(
            np.stack([x[inside], y[inside]], 1), slope, rcond=None
        )
        assert misfit < 1e-6
        slopes.append((by_x, by_y))
    across, down = np.array(slopes).T
    assert np.ptp(across) > 1e-3
    if kind == "scale":
        np.testing.assert_allclose(down, 0, atol=1e-5)
        assert 1 / 1.2 <= across.min() < 1 < across.max() <= 1.2
    else:
        np.testing.assert_allclose(across**2 + down**2, 1, atol=1e-4)
        assert down.min() < 0 < down.max() and abs(down).max() <= np.sin(np.deg2rad(15))


def test_flip_and_color():
    image = torch.arange(9.0).repeat(9, 1)
    rows = {tuple(transformed(image, "flip", seed)[0]) for seed in SEEDS}
    assert rows == {tuple(range(9)), tuple(range(8, -1, -1))}
    for seed in SEEDS:  # of grey images contrast alone changes the spread, brightness the mean
        changed = transformed(image, "color", seed)
        assert 0.5 <= np.std(changed) / np.std(image.numpy()) <= 1.5
        assert abs(changed.mean() - 4.0) <= 0.5 + 1e-5
