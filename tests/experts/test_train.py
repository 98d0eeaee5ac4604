"""Training experts: the same bits interrupted or not, added later or at once, killed or not."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jdd import checkpoints, data, experts, networks, training
from jdd.errors import Interrupted, UserError
from jdd.experts import ExpertSettings, ExpertSpec, ExpertStore, description
from jdd.experts import train as module

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 3
NETWORK = networks.create("MLP", 10, width=8)


def setup(directory, count, **changes):
    digits = data.load("digits")
    train, validation = data.hold_out(digits.train, 0.1, seed=0)
    train = data.subset(train, 200, seed=0)
    settings = {"train_epochs": EPOCHS, "batch_train": 10, "lr_teacher": 0.5, **changes}
    spec = ExpertSpec(
        dataset="digits",
        preprocessing=digits.preprocess.spec(),
        network="MLP",
        options={"width": 8},
        held_out=0.1,
        settings=ExpertSettings(num_experts=count, **settings),
    )
    store = experts.open_or_create(directory, spec, NETWORK)
    return store, *(data.to_device(s, digits.preprocess) for s in (train, validation))


def trained(directory, count, **options):
    store, train, validation = setup(directory, count, **options.pop("settings", {}))
    experts.train_experts(store, NETWORK, "crop_scale", train, validation, count, **options)
    return ExpertStore.open(directory)


def content(store, count):
    return [
        np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(store.read(e, t))]).tobytes()
        for e in range(count)
        for t in range(EPOCHS + 1)
    ]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Two experts, trained at once."""
    store = trained(tmp_path_factory.mktemp("both"), 2)
    return content(store, 2), store.accuracies


def test_an_expert_is_the_training_loops_trajectory(tmp_path):
    """Epoch t of expert i: t epochs of the loop that evaluation is trained by."""
    store, train, validation = setup(tmp_path, 1)
    experts.train_experts(store, NETWORK, "crop_scale", train, validation, 1)
    recipe = store.spec.settings.recipe("MLP", {"width": 8}, "crop_scale")
    trainer = training.Trainer.of(NETWORK, recipe, 200)
    key = jax.random.fold_in(jax.random.key(0), 0)
    begun = training.init(trainer, key, (8, 8, 1))
    for epoch in range(EPOCHS + 1):
        state = training.run_jit(trainer, begun, train, training.schedule(recipe), epoch)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            store.read(0, epoch),
            dict(state.params),
        )
    variables = {"params": state.params}
    expected = training.accuracy(NETWORK, variables, validation)
    assert store.accuracies == pytest.approx([expected], abs=0.01)


def test_a_curriculum_by_difficulty_keeps_the_hardest_images_out(tmp_path):
    """Of images that the curriculum never comes to, nothing may matter; of the others each does."""
    settings = {"curriculum": "pad", "initial_fraction": 0.4, "full_from_epoch": 1.0}
    settings |= {"first_drop_epoch": 1.0, "second_drop_epoch": 1.0}
    ranks = np.random.default_rng(0).permutation(200) / 200

    def bits(name, changed):
        store, train, validation = setup(tmp_path / name, 1, **settings)
        images = np.array(train.images)
        images[changed] = 255 - images[changed]
        train = dataclasses.replace(train, images=jax.numpy.asarray(images))
        experts.train_experts(store, NETWORK, "none", train, validation, 1, ranks=ranks)
        return content(ExpertStore.open(tmp_path / name), 1)

    plain = bits("plain", np.zeros(200, bool))
    assert bits("hardest", ranks >= 0.8) == plain  # in its last epoch it takes those below 0.8
    harder = bits("harder", ranks >= 0.6)
    assert harder[:3] == plain[:3] and harder[3] != plain[3]
    assert bits("easiest", ranks < 0.1)[1] != plain[1]


def test_experts_differ_and_learn(both):
    bits, accuracies = both
    assert len(set(bits)) == len(bits)
    assert len(accuracies) == 2 and min(accuracies) > 0.2


def test_interrupted_at_every_epoch_it_ends_in_the_same_bits(tmp_path, both):
    stops = 0
    while stops < 20:
        try:
            store = trained(tmp_path, 2, should_stop=lambda: True)
            break
        except Interrupted:
            stops += 1
            assert list(tmp_path.glob("state/*")) or ExpertStore.open(tmp_path).complete
    assert stops == 2 * (EPOCHS - 1) + 1
    assert (content(store, 2), store.accuracies) == both
    assert not (tmp_path / "state").exists()


def test_experts_added_later_are_those_trained_at_once(tmp_path, both):
    first = trained(tmp_path, 1)
    assert first.complete == 1
    store = trained(tmp_path, 2)
    assert (content(store, 2), store.accuracies) == both
    again = trained(tmp_path, 1)
    assert again.complete == 2


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", range(6))
def test_killed_at_any_write_it_resumes_to_the_same_bits(tmp_path, both, monkeypatch, moment):
    """Raises, as a kill would end it, in the middle of a sequence of writes to the store."""
    count = 0

    def dying(original):
        def write(*arguments):
            nonlocal count
            count += 1
            if count == 2 * moment + 1:
                raise Killed
            return original(*arguments)

        return write

    with monkeypatch.context() as patched:
        patched.setattr(module, "SAVE_SECONDS", 0.0)
        for owner, name in [
            (ExpertStore, "write"),
            (ExpertStore, "finish"),
            (checkpoints.StateCheckpoints, "save"),
            (checkpoints.StateCheckpoints, "clear"),
        ]:
            patched.setattr(owner, name, dying(getattr(owner, name)))
        with pytest.raises(Killed):
            trained(tmp_path, 2)
    store = trained(tmp_path, 2)
    assert (content(store, 2), store.accuracies) == both


@pytest.mark.slow
def test_killed_by_a_signal_it_resumes_to_the_same_bits(tmp_path, both):
    program = (
        "import sys, pathlib\n"
        "from tests.experts import test_train as t\n"
        "t.module.SAVE_SECONDS = 0.0\n"
        "t.trained(pathlib.Path(sys.argv[1]), 2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, env=environment
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("parameters/c/0/2/0")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    store = trained(tmp_path, 2)
    assert (content(store, 2), store.accuracies) == both


def test_a_state_of_other_experts_is_not_taken(tmp_path, both, monkeypatch):
    """As where a GPU trains several at once: the state of five is no start for eight."""
    with pytest.raises(Interrupted):
        trained(tmp_path, 1, should_stop=lambda: True)
    with monkeypatch.context() as patched:
        patched.setattr(module, "models_per_call", lambda wanted: wanted)
        store = trained(tmp_path, 2)
    assert store.complete == 2
    assert content(store, 2) == both[0]


@pytest.mark.parametrize(
    "settings",
    [
        {"lr_teacher": 1e20},
        # One step, whose loss is from before it.
        {"lr_teacher": 1e39, "train_epochs": 1, "epoch_steps": 1},
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_a_diverging_expert_is_said(tmp_path, settings):
    with pytest.raises(UserError, match=r"diverged in epoch .*: lower `lr_teacher`"):
        trained(tmp_path, 1, settings=settings)


def test_later_states_of_other_experts_do_not_outlive_the_new_ones(tmp_path, both, monkeypatch):
    """Two were trained at once and stopped in their second epoch; now one at a time is."""
    with monkeypatch.context() as patched:
        patched.setattr(module, "models_per_call", lambda wanted: wanted)
        patched.setattr(module, "SAVE_SECONDS", -1.0)
        asked = []
        with pytest.raises(Interrupted):
            trained(tmp_path, 2, should_stop=lambda: asked.append(1) or len(asked) > 1)
    with pytest.raises(Interrupted):
        trained(tmp_path, 2, should_stop=lambda: True)
    states = checkpoints.StateCheckpoints(tmp_path / "state")
    assert states.iterations() == [1], "of the new training alone"
    store = trained(tmp_path, 2)
    assert (content(store, 2), store.accuracies) == both


def test_a_store_without_its_progress_is_none(tmp_path, monkeypatch):
    """Killed before its progress was written: it must not be taken for a damaged one."""

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(description, "write_progress", killed)
        with pytest.raises(KeyboardInterrupt):
            setup(tmp_path, 1)
    assert ExpertStore.open(tmp_path) is None
    assert trained(tmp_path, 1).complete == 1


def test_a_store_of_half_written_experts_is_started_again(tmp_path):
    """Killed before the description was written: what is there is no store yet."""
    store, *_ = setup(tmp_path, 1)
    (tmp_path / "store.json").unlink()
    store = trained(tmp_path, 1)
    assert store.complete == 1
