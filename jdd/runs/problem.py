"""What a run works on, made from its settings in one place: run, dry run, experts and tasks."""

import dataclasses
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jdd import data, networks, plugins, randomness, synthetic
from jdd.augment import strategy_for
from jdd.data import Dataset, DeviceData, Split
from jdd.errors import SettingError, UserError
from jdd.experts import ExpertSpec
from jdd.methods import Method, registry, with_precision
from jdd.networks import NetworkLike
from jdd.runs import directory
from jdd.runs.moved import located
from jdd.runs.settings import PRECISIONS, RunSettings
from jdd.synthetic import Decoder, SetInfo, SyntheticSet


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything that a run needs, checked."""

    settings: RunSettings
    dataset: Dataset
    train: Split
    """of the real training images, those that the run may use"""
    validation: Split
    """those held out, by which sets are chosen, the same for every seed; the test images where
    sets are chosen as papers do"""
    network: NetworkLike
    method: Method
    """its updates in the precision that the run wants"""
    start: SyntheticSet
    """with hard labels unless it is a stored set with others"""

    @cached_property
    def expert_spec(self) -> ExpertSpec:
        """What experts must be made from to serve the run."""
        return self.settings.expert_spec(self.dataset.preprocess.spec(), self.dataset.fingerprint)

    @cached_property
    def expert_images(self) -> Split:
        """The real images that experts are trained on."""
        count = self.settings.experts.real_images
        return data.subset(self.train, count, seed=0) if count else self.train

    @property
    def strategy(self) -> str:
        """The dataset's DSA."""
        return strategy_for(self.dataset.name)

    def real_data(self) -> DeviceData | None:
        """The real images for the method, on the device; None where it needs none."""
        if not self.method.needs.real_images:
            return None
        return data.to_device(self.train, self.dataset.preprocess, self.dataset.num_classes)

    def on_device(self, split: Split) -> DeviceData:
        """A split to train on or to test with, on the device."""
        return data.to_device(split, self.dataset.preprocess)


def prepare(settings: RunSettings, data_dir: str | None = None) -> Problem:
    """Loads the dataset, splits it, and makes network, method and start; nothing is written.

    Args:
      settings: of the run.
      data_dir: where the dataset's files are; see `jdd.data.load`.

    Raises:
      UserError: something in the settings or the data that the user can mend.
    """
    loop = settings.loop
    return problem_of(
        settings,
        data.load(settings.dataset, data_dir, loop.image_size or None, loop.preprocessing),
    )


def problem_of(settings: RunSettings, dataset: Dataset) -> Problem:
    """`prepare` for a dataset that is loaded."""
    train, validation = dataset.train, dataset.test
    if settings.evaluation.choose == "validation":
        train, validation = data.hold_out(
            train,
            settings.evaluation.held_out,
            seed=0,
            otherwise="more real images are needed, or `choose` last, which holds out none",
        )
    network = create_network(settings.network, dataset, **settings.options)
    gives = settings.method_settings.network_gives
    networks.check_own(settings.network, network, dataset.image_shape, dataset.num_classes, gives)
    method = registry.create(settings.method, settings.method_settings, network)
    problem = Problem(
        settings=settings,
        dataset=dataset,
        train=train,
        validation=validation,
        network=network,
        method=with_precision(method, PRECISIONS[settings.loop.precision]),
        start=_start(settings, dataset, train),
    )
    _check_experts(problem)
    return problem


def with_seed(problem: Problem, seed: int) -> Problem:
    """The same problem with another seed: another start, and nothing loaded or made again."""
    settings = dataclasses.replace(problem.settings, seed=seed)
    start = _start(settings, problem.dataset, problem.train)
    return dataclasses.replace(problem, settings=settings, start=start)


def create_network(name: str, dataset: Dataset, **options: Any) -> NetworkLike:
    """A network for a dataset.

    Raises:
      UserError: unknown name or option, or a network that does not fit the dataset's images.
    """
    network: NetworkLike = networks.create(name, dataset.num_classes, **options)
    networks.check_own(name, network, dataset.image_shape, dataset.num_classes)
    variable_shapes(network, dataset)
    return network


def variable_shapes(network: NetworkLike, dataset: Dataset) -> Any:
    """Shapes of the network's variables; raises `UserError` where it does not fit the images."""
    images = jax.ShapeDtypeStruct((1, *dataset.image_shape), jnp.float32)
    return jax.eval_shape(lambda images: network.init(jax.random.key(0), images), images)


def load_set(path: str | Path, data_dir: str | None = None) -> tuple[SyntheticSet, Dataset]:
    """A stored set and its dataset, preprocessed as it was; where the user's data have moved, the
    set names their new place.

    Raises:
      UserError: either cannot be loaded, or they do not fit.
    """
    stored = read_set(path)
    dataset = dataset_of(stored, path, data_dir)
    return stored.replace(info=dataclasses.replace(stored.info, dataset=dataset.name)), dataset


def read_set(path: str | Path) -> SyntheticSet:
    """A stored set; its plugins are loaded where its dataset or network is not known without."""
    stored = SyntheticSet.load(path)
    info = stored.info
    if not data.is_known(info.dataset) or info.recipe.network not in networks.names():
        plugins.load_again(info.plugins)
    return stored


def dataset_of(
    stored: SyntheticSet, where: str | Path = "the set", data_dir: str | None = None
) -> Dataset:
    """The dataset that a stored set is of, preprocessed as it was.

    Args:
      stored: the set.
      where: its place. Where nothing says in which directory the data are, its run may.
      data_dir: see `jdd.data.load`; or the new place of a folder or file that has moved.

    Raises:
      UserError: it cannot be loaded, or is not as it was.
    """
    of_run = directory.data_dir_of(Path(where))
    name = located(stored.info.dataset, where, data_dir, of_run)
    stored = stored.replace(info=dataclasses.replace(stored.info, dataset=name))
    if data_dir is None and not os.environ.get("JDD_DATA_DIR"):
        data_dir = of_run
    height, width = stored.images.shape[1:3]
    size = height if height == width else None
    try:
        dataset = data.load(name, data_dir, size, stored.info.preprocessing["kind"])
    except UserError as error:  # `dataset` is no setting where a set is given
        prefix, text = "`dataset` ", str(error)
        if not text.startswith(prefix):
            raise
        raise UserError(f"{where} is a set of {text.removeprefix(prefix)}") from None
    stored.check_fits(dataset, where)
    return dataset


def _check_experts(problem: Problem) -> None:
    """Raises `UserError` where the method wants segments that the run's experts cannot give."""
    settings, needs = problem.settings, problem.method.needs
    if needs.segments is None:
        return
    needs.segments.check(settings.experts.train_epochs)
    count = settings.experts.real_images
    if count > len(problem.train):
        raise SettingError(
            "real_images", count, f"the training split has {len(problem.train)} here"
        )
    images, steps = len(problem.expert_images), settings.experts.epoch_steps
    most = -(-images // settings.experts.batch_train)
    if steps > most:
        raise SettingError("epoch_steps", steps, f"a pass over {images} images has {most}")
    applied = needs.label_logits or needs.real_images  # experts as they are, to images
    if applied and "batch_stats" in variable_shapes(problem.network, problem.dataset):
        raise UserError(
            f"{settings.method} needs a network without batch norm, as experts keep no statistics: "
            "`norm` instance, or another `network`"
        )


def _start(settings: RunSettings, dataset: Dataset, train: Split) -> SyntheticSet:
    info = SetInfo(
        dataset=dataset.name,
        class_names=dataset.class_names,
        preprocessing=dataset.preprocess.spec(),
        ipc=settings.ipc,
        init=settings.init,
        method=settings.method,
        settings=dataclasses.asdict(settings.method_settings),
        seed=settings.seed,
        recipe=settings.recipe(strategy_for(dataset.name)),
        plugins=plugins.loaded(),
        fingerprint=dataset.fingerprint,
    )
    decoder = synthetic.decoder_for(settings.storage, dataset, train)
    _check_real_images(settings, dataset, train, decoder.encoded(settings.ipc))
    if settings.init == "real":
        rng = randomness.generator(settings.seed, "init")
        images, _ = synthetic.from_real(train, dataset, decoder.encoded(settings.ipc), rng)
        return SyntheticSet.encode(images, info, decoder)
    if settings.init == "noise":
        key = randomness.key(settings.seed, "init")
        shape = dataset.preprocess.image_shape
        noise = decoder.noise(key, dataset.num_classes, settings.ipc, shape)
        return SyntheticSet.store(noise, info, decoder)
    return _from_stored(SyntheticSet.load(settings.init, dataset), settings, info, decoder)


def _check_real_images(settings: RunSettings, dataset: Dataset, train: Split, wanted: int) -> None:
    """Raises `UserError` where a class has fewer real images than the start or the random images
    to compare with take."""
    drawn = settings.init == "real" or settings.evaluation.eval_random
    for label, name in enumerate(dataset.class_names):
        available = int((train.labels == label).sum())
        if not available or (settings.init == "real" and wanted == settings.ipc):
            synthetic.check_ipc(settings.ipc if drawn else 1, available, name)
        elif drawn and wanted > available:
            out = "" if settings.init == "real" else "; or switch `eval_random` off"
            some = "random images to compare with are" if out else "these store"
            problem = f"{some} {wanted} real images a class, and '{name}' has {available}{out}"
            raise SettingError("ipc", settings.ipc, problem)


def _from_stored(
    stored: SyntheticSet, settings: RunSettings, info: SetInfo, decoder: Decoder
) -> SyntheticSet:
    """A stored set class by class, or, where it stores pixels, its images encoded."""
    stored = stored.by_class()
    if stored.decoder == synthetic.IDENTITY != decoder:
        wanted = decoder.encoded(settings.ipc)
        if stored.info.ipc != wanted:
            raise UserError(
                f"{settings.init} holds {stored.info.ipc} images per class: {wanted} are needed in "
                f"the place of {settings.ipc}"
            )
        encoded = SyntheticSet.encode(stored.images, info, decoder)
        if encoded.labels.shape[0] == stored.labels.shape[0]:  # the same images, in their order
            encoded = encoded.replace(labels=stored.labels)
        return encoded.replace(learning_rate=stored.learning_rate)
    if stored.decoder != decoder:
        raise UserError(
            f"{settings.init} stores other numbers than this run: give its `decoder`, `factor`, "
            "`formation` and `coefficients`"
        )
    if stored.info.ipc != settings.ipc:
        raise UserError(
            f"{settings.init} holds {stored.info.ipc} images per class: use `ipc` {stored.info.ipc}"
        )
    return stored.replace(info=info)
