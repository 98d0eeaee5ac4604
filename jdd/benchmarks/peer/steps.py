"""One step of each case in PyTorch."""

# PyTorch has no types where it is not installed.
# mypy: disallow-subclassing-any=False, warn-return-any=False, disallow-untyped-decorators=False

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jdd.benchmarks.cases import CLASSES, Problem
from jdd.benchmarks.peer.augment import augment
from jdd.benchmarks.peer.network import (
    ConvNet,
    attention,
    gradient_distance,
    mean_distance,
)
from jdd.training import Recipe

_TEST_BATCH = 256  # as in the published evaluation

Step = Callable[[], float]
"""makes one step, and returns its loss (of a test: its accuracy)"""


def device() -> torch.device:
    """PyTorch's GPU, where it has one and JAX is on one; else the CPU."""
    on_gpu = jax.default_backend() == "gpu" and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


class Peer:
    """The steps of one problem, from the same images, settings and experts as ours, on `device()`.

    Attributes:
      images: the synthetic images `(n, c, h, w)`, which steps move; None without a method.
    """

    def __init__(
        self,
        problem: Problem,
        seed: int = 0,
        fresh: Callable[[], ConvNet] | None = None,
        channels_last: bool = False,
    ) -> None:
        """Real images are preprocessed once and kept, as the published code does.

        Args:
          problem: what `jdd.benchmarks.cases` made.
          seed: of PyTorch's random numbers.
          fresh: makes the networks; None: random ones.
          channels_last: how images and kernels lie in memory; their axes are NCHW either way.
        """
        torch.manual_seed(seed)
        dataset = problem.dataset
        layout = torch.channels_last if channels_last else torch.contiguous_format
        self._problem, self._rng = problem, np.random.default_rng(seed)
        self._device, self._layout = device(), layout
        make = fresh or (lambda: ConvNet(dataset.image_shape, CLASSES, problem.width))

        def placed() -> ConvNet:
            return make().to(self._device, memory_format=layout)

        self._fresh = placed
        self._real = self._placed(dataset.preprocess(dataset.train.images))
        self._labels = torch.from_numpy(dataset.train.labels.astype(np.int64)).to(self._device)
        self._members = [np.flatnonzero(dataset.train.labels == c) for c in range(CLASSES)]
        self.images: Tensor | None = None
        if problem.synthetic is not None:
            self.images = self._placed(problem.synthetic.images).requires_grad_()
            settings = problem.settings
            self._optimizer = torch.optim.SGD(
                [self.images], lr=settings.lr_img, momentum=settings.mom_img
            )

    def step(self) -> Step:
        """The case's step, of trajectory matching with a random expert."""
        kind = self._problem.case.kind
        if kind == "train":
            return self._train_step()
        if kind == "test":
            return self._test_step()
        if kind == "mtt":
            start = torch.cat([p.detach().reshape(-1) for p in self._fresh().parameters()])
            return self.trajectory_step(start, start + 0.01 * torch.randn_like(start))
        return self._step_by_class(_MATCHED[kind])

    def _placed(self, images: Any) -> Tensor:
        return _nchw(images).to(self._device).contiguous(memory_format=self._layout)

    def _indices(self, chosen: np.ndarray) -> Tensor:
        return torch.from_numpy(chosen).to(self._device, non_blocking=True)

    def _train_step(self) -> Step:
        network, recipe = self._fresh(), Recipe()
        optimizer = torch.optim.SGD(
            network.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
        )

        def step() -> float:
            loss = F.cross_entropy(network(self._real), self._labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    def _test_step(self) -> Step:
        network = self._fresh().eval()

        @torch.no_grad()
        def step() -> float:
            batches = zip(
                self._real.split(_TEST_BATCH), self._labels.split(_TEST_BATCH), strict=True
            )
            right = torch.stack([(network(x).argmax(1) == labels).sum() for x, labels in batches])
            return int(right.sum()) / len(self._real)

        return step

    def _step_by_class(self, loss_of_class: Callable[..., Tensor]) -> Step:
        problem, images = self._problem, self.images
        assert images is not None
        ipc = problem.case.ipc

        def step() -> float:
            network = self._fresh()
            loss = torch.zeros((), device=self._device)
            for label in range(CLASSES):
                chosen = self._rng.permutation(self._members[label])
                real = self._real[self._indices(chosen[: problem.settings.batch_real])]
                synthetic = images[label * ipc : (label + 1) * ipc]
                seed = int(self._rng.integers(2**31))
                real, synthetic = (
                    augment(
                        batch,
                        problem.strategy,
                        torch.Generator().manual_seed(seed),
                        siamese=True,
                    )
                    for batch in (real, synthetic)
                )
                loss = loss + loss_of_class(network, synthetic, real, label, problem.settings)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            return loss.item()

        return step

    def trajectory_step(self, start: Tensor, target: Tensor) -> Step:
        """A student's steps from `start` towards `target`: all parameters as one vector each."""
        problem, images = self._problem, self.images
        assert images is not None
        settings, network = problem.settings, self._fresh()
        rate = torch.tensor(settings.lr_init, device=self._device, requires_grad=True)
        rate_optimizer = torch.optim.SGD([rate], lr=settings.lr_lr, momentum=settings.mom_img)
        labels = torch.arange(CLASSES, device=self._device).repeat_interleave(problem.case.ipc)
        shapes = {name: p.shape for name, p in network.named_parameters()}
        generator = torch.Generator().manual_seed(int(self._rng.integers(2**31)))

        def logits(flat: Tensor, batch: Tensor) -> Tensor:
            pieces = flat.split([shape.numel() for shape in shapes.values()])
            params = {
                name: piece.view(shape)
                for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
            }
            result: Tensor = torch.func.functional_call(network, params, (batch,))
            return result

        def step() -> float:
            student = start.clone().requires_grad_()
            for _ in range(settings.syn_steps):
                chosen = self._indices(self._rng.permutation(len(images)))
                batch = augment(images[chosen], problem.strategy, generator)
                loss = F.cross_entropy(logits(student, batch), labels[chosen])
                (gradient,) = torch.autograd.grad(loss, student, create_graph=True)
                student = student - rate * gradient
            distance = ((student - target) ** 2).sum() / ((start - target) ** 2).sum()
            self._optimizer.zero_grad()
            rate_optimizer.zero_grad()
            distance.backward()
            self._optimizer.step()
            rate_optimizer.step()
            return distance.item()

        return step


def _dc(network: ConvNet, synthetic: Tensor, real: Tensor, label: int, _: Any) -> Tensor:
    params = list(network.parameters())

    def gradients(images: Tensor, create_graph: bool) -> list[Tensor]:
        labels = torch.full((len(images),), label, device=images.device)
        loss = F.cross_entropy(network(images), labels)
        return list(torch.autograd.grad(loss, params, create_graph=create_graph))

    theirs = [g.detach() for g in gradients(real, create_graph=False)]
    return gradient_distance(gradients(synthetic, create_graph=True), theirs)


def _dm(network: ConvNet, synthetic: Tensor, real: Tensor, _: int, __: Any) -> Tensor:
    network.requires_grad_(False)
    return mean_distance(network.embed(synthetic), network.embed(real).detach())


def _datadam(network: ConvNet, synthetic: Tensor, real: Tensor, _: int, settings: Any) -> Tensor:
    network.requires_grad_(False)
    with torch.no_grad():
        their_maps, theirs = network.trace(real)
    our_maps, ours = network.trace(synthetic)
    total = settings.balance * mean_distance(ours, theirs)
    for a, b in zip(our_maps[:-1], their_maps[:-1], strict=True):
        maps = (attention(m, settings.power) for m in (a, b))
        total = total + mean_distance(*maps)
    return settings.loss_scale * total


_MATCHED: dict[str, Callable[..., Tensor]] = {"dc": _dc, "dm": _dm, "datadam": _datadam}


def _nchw(images: Any) -> Tensor:
    return torch.from_numpy(np.array(np.moveaxis(np.asarray(images), 3, 1), order="C"))
