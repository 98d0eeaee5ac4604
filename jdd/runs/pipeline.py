"""A run from end to end."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jdd import data as real_data
from jdd import difficulty, evaluation, experts, networks, randomness, storage, synthetic
from jdd.augment import strategy_for
from jdd.data import Dataset
from jdd.difficulty import DifficultySpec
from jdd.distillation import Loop, distill
from jdd.errors import UserError
from jdd.experts import ExpertSpec, ExpertStore, SegmentSource
from jdd.methods import registry
from jdd.methods.base import Method, with_precision
from jdd.report import pictures
from jdd.report.console import Stage, say
from jdd.runs import directory as rundir
from jdd.runs.judging import judge, machine, validator
from jdd.runs.settings import PRECISIONS, RunSettings
from jdd.synthetic import SetInfo, SyntheticSet

Stop = Callable[[], bool]
_EXAMPLES = 20  # real images a class whose mean logits stand for the class


def run(
    settings: RunSettings,
    out: Path,
    *,
    data_dir: str | None = None,
    experts_dir: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    should_stop: Stop = lambda: False,
    began: float | None = None,
    command: str = "",
) -> dict[str, Any]:
    """Distils a data set and judges the outcome.

    Args:
      settings: what to do.
      out: the run's directory; it then holds `synthetic/`, `state/`, `settings.json`,
        `metrics.jsonl`, `images/` and `result.json`.
      data_dir: where the data set's files are; see `jdd.data.load`.
      experts_dir: a store of experts, used where it fits and made where there is none. By default
        one is kept beside `out` for each way of training them.
      resume: go on from the newest state in `out`, and give a finished run's result back.
      overwrite: replace a run that is in `out`.
      should_stop: asked often; once it is true the state is stored and `Interrupted` raised.
      began: `time.monotonic()` when the command began, if that was before this call.
      command: what makes the same run again, for the result.

    Returns:
      What `result.json` holds.

    Raises:
      UserError: something in the settings, the data or the directories that the user can mend.
      Interrupted: see `should_stop`.
    """
    began = time.monotonic() if began is None else began
    loop = settings.loop
    dataset = real_data.load(
        settings.dataset, data_dir, loop.image_size or None, loop.preprocessing
    )
    train, validation = split(settings, dataset)
    network = fitting_network(settings, dataset)
    start = start_of(settings, dataset, train)
    method = method_of(settings, network)
    spec = settings.expert_spec(dataset.preprocess.spec())
    experts_dir = experts_dir or experts.default_directory(out, spec)
    trajectories = registry.entry(settings.method).trajectories
    check_trajectories(settings, network, dataset)
    if trajectories:
        if experts_dir.resolve() == out.resolve():
            raise UserError(f"--experts and --out are both {out}: choose two directories")
        experts.fitting(experts_dir, spec)
        expert_images(settings, train)

    finished = rundir.check(out, settings.to_json(), resume=resume, overwrite=overwrite)
    if finished is not None:
        say(f"{out} holds the finished run: its result")
        return finished
    say(
        f"{settings.method} on {settings.dataset}, {settings.ipc} per class from {settings.init}, "
        f"preset {settings.preset}: {settings.iterations} iterations into {out}"
    )
    with storage.locked(out):
        # Again, as another process may have been here between the first look and the lock.
        rundir.check(out, settings.to_json(), resume=resume, overwrite=overwrite)
        on_device = real_data.to_device(train, dataset.preprocess, dataset.num_classes)
        segments = None
        if trajectories:
            store = ready_experts(
                settings, experts_dir, spec, network, dataset, train, validation, should_stop
            )
            segments = segments_of(settings, store)
            if registry.entry(settings.method).soft:
                start = _with_soft_labels(settings, dataset, train, network, store, start)
        rundir.claim(out, settings.to_json(), overwrite=overwrite)
        stored = storage.StateKeeper(out / "state").iterations()
        if stored and stored[-1] <= settings.iterations:
            say(f"going on from iteration {stored[-1]} of {settings.iterations}")
        watch = _Watch(out, dataset, settings)
        with watch.stage:
            outcome = distill(
                method,
                start,
                on_device,
                randomness.key(settings.seed, "method"),
                Loop(settings.iterations, settings.evaluation.eval_every, loop.chunk),
                evaluate=validator(
                    settings, network, evaluation.real(validation, dataset), should_stop
                ),
                listener=watch,
                directory=out,
                segments=segments,
                should_stop=should_stop,
            )
        result = judge(settings, dataset, network, train, outcome, should_stop)
        result["chosen"] = registry.entry(settings.method).chooses
        result["devices"] = len(outcome.final.images.sharding.device_set)
        result["device_kind"] = jax.devices()[0].device_kind
        result["machine"] = machine()
        result["command"] = command
        result["out"] = str(out)
        result["seconds"] = round(time.monotonic() - began, 2)
        pictures.save_picture(out / "images" / "best.png", outcome.best, dataset.preprocess)
        storage.write_json(out / "result.json", result)
    return result


def fitting_network(settings: RunSettings, dataset: Dataset) -> nn.Module:
    """The run's network; raises `UserError` where it does not fit the data set's images."""
    network = networks.create(settings.network, dataset.num_classes, **settings.options)
    check_network(network, dataset)
    return network


def check_trajectories(settings: RunSettings, network: nn.Module, dataset: Dataset) -> None:
    """Raises `UserError` where the run matches trajectories, but none that its experts have."""
    entry = registry.entry(settings.method)
    if not entry.trajectories:
        return
    chosen = settings.method_settings
    experts.check_window(
        settings.experts.train_epochs, chosen.expert_epochs, chosen.max_start_epoch
    )
    if entry.soft and has_statistics(network, dataset):
        raise UserError(
            f"{settings.method} needs a network without batch norm, as its labels come from "
            "experts, of which no statistics are kept: --norm instance, or another --network"
        )


def method_of(settings: RunSettings, network: nn.Module) -> Method:
    """The run's method, its updates in the precision that the run wants."""
    method = registry.create(settings.method, settings.method_settings, network)
    return with_precision(method, PRECISIONS[settings.loop.precision])


def check_network(network: nn.Module, dataset: Dataset) -> None:
    """Raises `UserError` where the network does not fit the data set's images."""
    _shapes(network, dataset)


def has_statistics(network: nn.Module, dataset: Dataset) -> bool:
    """Whether the network has batch norm."""
    return "batch_stats" in _shapes(network, dataset)


def _shapes(network: nn.Module, dataset: Dataset) -> Any:
    images = jax.ShapeDtypeStruct((1, *dataset.image_shape), jax.numpy.float32)
    return jax.eval_shape(network.init, jax.random.key(0), images)


def dataset_of(stored: SyntheticSet, where: str, data_dir: str | None) -> Dataset:
    """The data set that a stored set is of, preprocessed as it was.

    Raises:
      UserError: it cannot be loaded, or is not as it was.
    """
    height, width = stored.images.shape[1:3]
    dataset = real_data.load(
        stored.info.dataset,
        data_dir,
        height if height == width else None,
        stored.info.preprocessing["kind"],
    )
    stored.check_fits(dataset, where)
    return dataset


def split(settings: RunSettings, dataset: Dataset) -> tuple[real_data.Split, real_data.Split]:
    """(train, validation) of the real training images; the same for every seed of a run."""
    return real_data.hold_out(dataset.train, settings.evaluation.held_out, seed=0)


def ready_experts(
    settings: RunSettings,
    directory: Path,
    spec: ExpertSpec,
    network: nn.Module,
    dataset: Dataset,
    train: real_data.Split,
    validation: real_data.Split,
    should_stop: Stop,
) -> ExpertStore:
    """The store in `directory`, with as many experts as the run wants: missing ones are trained."""
    wanted, epochs = settings.experts.num_experts, settings.experts.train_epochs
    there = experts.fitting(directory, spec)
    if there is not None and there.complete >= wanted:
        say(f"experts: {wanted} in {directory}")
        return there
    with storage.locked(directory):
        store = experts.prepare(directory, spec, network)
        missing = wanted - store.complete
        say(f"experts: training {missing} of {epochs} epochs into {directory}")
        began = time.monotonic()
        images = expert_images(settings, train)
        ranks = None
        if (scored := spec.difficulty_spec()) is not None:
            scores = difficulty_of(
                directory / "difficulty", scored, network, dataset, images, should_stop
            )
            ranks = difficulty.ranks(scores, images.labels)
        with Stage("experts' epochs") as stage:
            experts.train_experts(
                store,
                network,
                strategy_for(settings.dataset),
                evaluation.real(images, dataset),
                evaluation.real(validation, dataset),
                wanted,
                ranks=ranks,
                should_stop=should_stop,
                progress=stage.at,
            )
    mean = sum(store.accuracies[:wanted]) / wanted
    say(f"experts: {100 * mean:.1f} % on validation, {time.monotonic() - began:.0f} s")
    return store


def difficulty_of(
    directory: Path,
    spec: DifficultySpec,
    network: nn.Module,
    dataset: Dataset,
    images: real_data.Split,
    should_stop: Stop,
) -> np.ndarray:
    """The scores in `directory`, float32 `(n,)`; they are made and stored where they are missing.

    Raises:
      UserError: those there are of something else, or a setting is out of range.
      Interrupted: nothing is stored then.
    """
    there = difficulty.load(directory, spec, images.labels)
    storage.wait_for_all(f"looked into {directory}")
    if there is not None:
        say(f"difficulty: {spec.settings.score} of {len(images)} images in {directory}")
        return there
    spec.settings.check()
    say(f"difficulty: {spec.settings.score} of {len(images)} images into {directory}")
    with Stage("epochs of the networks that score") as stage:
        scores = difficulty.score(
            spec.settings,
            network,
            strategy_for(dataset.name),
            evaluation.real(images, dataset),
            stage.watched(should_stop),
        )
    difficulty.save(directory, spec, scores, images.labels)
    return scores


def expert_images(settings: RunSettings, train: real_data.Split) -> real_data.Split:
    """The real images that experts are trained on; raises `UserError` where there are too few."""
    count = settings.experts.real_images
    if not count:
        return train
    if count > len(train):
        raise UserError(f"--real-images {count}: the training split has {len(train)} here")
    return real_data.subset(train, count, seed=0)


def segments_of(settings: RunSettings, store: ExpertStore) -> SegmentSource:
    """Segments as the method's settings want them."""
    chosen = settings.method_settings
    return SegmentSource(
        store,
        experts=settings.experts.num_experts,
        expert_epochs=chosen.expert_epochs,
        start_epochs=(chosen.min_start_epoch, chosen.max_start_epoch),
        segments=chosen.segments,
        seed=settings.seed,
        first_high=getattr(chosen, "first_max_start_epoch", 0),
        grown_by=getattr(chosen, "window_grown_by", 0),
    )


def _with_soft_labels(
    settings: RunSettings,
    dataset: Dataset,
    train: real_data.Split,
    network: nn.Module,
    store: ExpertStore,
    start: SyntheticSet,
) -> SyntheticSet:
    """The set with the experts' mean logits for labels, unless it brings label logits.

    A start from real images takes such as experts classify rightly. Images that none classifies
    rightly, as noise, get the mean logits of real ones of their class.
    """
    if start.labels.ndim == 2:
        return start
    count = settings.experts.num_experts
    rng = randomness.generator(settings.seed, "init of soft labels")

    def some(wanted: int) -> jax.Array:
        at = experts.rightly_classified(store, network, train, dataset, wanted, count, rng)
        return dataset.preprocess(jax.numpy.asarray(train.images[at]))

    images, classes = start.images, np.asarray(start.labels)
    if settings.init == "real":
        images = some(settings.ipc)
    logits = experts.label_logits(store, network, images, classes, count)
    unknown = ~np.isfinite(logits).all(-1)
    if unknown.any():
        wanted = min(_EXAMPLES, int(np.bincount(train.labels).min()))
        every = np.repeat(np.arange(dataset.num_classes), wanted)
        of_real = experts.label_logits(store, network, some(wanted), every, count)
        logits[unknown] = experts.class_means(of_real, every)[classes[unknown]]
    return SyntheticSet(images, jax.numpy.asarray(logits), start.learning_rate, start.info)


class _Watch:
    """Shows a run's events: lines, a bar, pictures."""

    def __init__(self, out: Path, dataset: Dataset, settings: RunSettings) -> None:
        self.stage = Stage("updates")
        self._out, self._dataset, self._settings = out, dataset, settings
        self._dropped = 0

    def updated(self, iteration: int, iterations: int, metrics: dict[str, float]) -> None:
        """Shows loss and, where there are any, step size and dropped updates."""
        text = f"loss {metrics['loss']:.4f}"
        if "learning_rate" in metrics:
            text += f" step size {metrics['learning_rate']:.4f}"
        if metrics["dropped"] > self._dropped:
            self._dropped = int(metrics["dropped"])
            say(f"iteration {iteration}: {self._dropped} updates dropped so far")
        self.stage.at(iteration, iterations, text)

    def evaluated(self, iteration: int, synthetic: SyntheticSet, accuracy: float) -> None:
        """Says the accuracy and makes the picture."""
        say(f"iteration {iteration}: {100 * accuracy:.1f} % on validation")
        path = self._out / "images" / f"{iteration:06d}.png"
        pictures.save_picture(path, synthetic, self._dataset.preprocess)


def start_of(settings: RunSettings, dataset: Dataset, train: real_data.Split) -> SyntheticSet:
    """The set that a run starts from, with hard labels unless it is a stored one with others."""
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
    )
    for label, name in enumerate(dataset.class_names):
        synthetic.check_ipc(settings.ipc, int((train.labels == label).sum()), name)
    rate = None
    if settings.init == "real":
        rng = randomness.generator(settings.seed, "init")
        images, labels = synthetic.from_real(train, dataset, settings.ipc, rng)
    elif settings.init == "noise":
        images, labels = synthetic.from_noise(
            dataset, settings.ipc, randomness.key(settings.seed, "init")
        )
    else:
        stored = SyntheticSet.load(settings.init, dataset)
        if stored.info.ipc != settings.ipc:
            raise UserError(
                f"{settings.init} holds {stored.info.ipc} images per class: use "
                f"--ipc {stored.info.ipc}"
            )
        images, labels, rate = stored.images, stored.labels, stored.learning_rate
    return SyntheticSet(images, labels, rate, info)
