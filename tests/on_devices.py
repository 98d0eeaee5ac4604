"""Computes the cases of `test_sharding` on 1, 2 and 8 of this process's devices.

`python -m tests.on_devices OUT CASE=1,2,8 …` leaves `<case> on <devices>`, for how many parts the
work was divided into `<case> in <devices>`, and for the sizes of its arrays `<case> leaves` in OUT.
"""

import sys
import tempfile
from pathlib import Path
from unittest import mock

from jdd.cli.platform import tune_xla

tune_xla()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from jdd import data, evaluation, experts, methods, networks, sharding, training  # noqa: E402
from jdd.experts import ExpertSettings, ExpertSpec, Segment  # noqa: E402
from jdd.training import Recipe  # noqa: E402
from tests.methods import small  # noqa: E402

NETWORK = networks.create("ConvNet", small.CLASSES, width=4, depth=2)


def matching(method, settings, batch_real=6):
    made = method(settings(batch_real=batch_real), NETWORK)
    (*_, (images, _, loss)) = small.two_updates(made, small.start(2), small.digits(8))
    return [images, loss]


# At these rates images and step size move by much more than they are rounded to.
MTT = {"syn_steps": 3, "lr_img": 1000.0, "lr_lr": 10.0, "lr_init": 0.1}


def mtt():
    return of_mtt(methods.MttSettings(**MTT, segments=3, dsa=False), 2)


def of_mtt(settings, ipc):
    method = methods.mtt(settings, NETWORK)
    synthetic, state = method.init(jax.random.key(0), small.start(ipc), None)
    count = settings.segments
    each = [
        NETWORK.init(jax.random.key(i), jnp.zeros((1, 8, 8, 1)))["params"] for i in range(2 * count)
    ]
    segment = Segment(sharding.stack(each[:count]), sharding.stack(each[count:]))
    synthetic, _, metrics = jax.jit(method.update)(synthetic, state, None, segment)
    moved = synthetic.images - small.start(ipc).images
    return [moved, synthetic.learning_rate - settings.lr_init, metrics["loss"]]


def batches():
    """Batches divided where there are fewer models than devices: of 24 images, some augmented."""
    with mock.patch.object(sharding, "LEAST_PIXELS", 1):
        divided = [
            of_mtt(methods.MttSettings(**MTT, segments=2), 8),
            of_mtt(methods.MttSettings(**MTT, memory="tesla"), 8),
            matching(methods.dm, methods.DmSettings, 8),
            matching(methods.datadam, methods.DatadamSettings, 8),
            trained_experts(expert_optimizer="gsam", num_experts=1, batch_train=24),
        ]
    return divided


def trained_experts(**changes):
    settings = ExpertSettings(**{"num_experts": 3, "train_epochs": 2, "batch_train": 10, **changes})
    spec = ExpertSpec("digits", {"image_shape": [8, 8, 1]}, "ConvNet", {}, 0.1, settings)
    with tempfile.TemporaryDirectory() as place:
        store = experts.open_or_create(Path(place) / "experts", spec, NETWORK)
        real = small.digits(20)
        count = settings.num_experts
        experts.train_experts(store, NETWORK, "crop_cutout", real, real, count)
        return [store.read(i, 2) for i in range(count)]


def fresh_networks():
    recipe = Recipe(epochs=3, learning_rate=0.1, augmentation="crop")
    trainer = training.Trainer.of(NETWORK, recipe, 6)
    keys = [jax.random.key(i) for i in range(5)]
    states = sharding.stack([training.init(trainer, key, (8, 8, 1)) for key in keys])
    rates = training.schedule(recipe)
    return [
        train(trainer, states, small.start(2).data(), rates, 3).params
        for train in (evaluation.train_many, evaluation.train_many_at_length)
    ]


def divided_data():
    """Real images of which each device keeps some: sampled by class, trained on, predicted."""
    images, devices = small.digits(20).images, jax.sharding.get_mesh().size
    if devices > 1:
        kept = {shard.data.shape[0] for shard in images.array.addressable_shards}
        assert kept == {-(-images.shape[0] // devices)}, "not divided"
        assert jax.eval_shape(lambda: small.digits(20)).images.shape == images.shape
    networks = [
        matching(methods.dm, methods.DmSettings),
        matching(methods.dc, methods.DcSettings),
        trained_experts(),
        trained_experts(num_experts=1, batch_train=24),
    ]
    return [*networks, predicted()]


def predicted():
    digits = data.load("digits")
    many = data.to_device(digits.train, digits.preprocess)
    variables = NETWORK.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    return [training.predict(NETWORK, variables, many)]


WORK = {
    "dc": lambda: matching(methods.dc, methods.DcSettings),
    "dm": lambda: matching(methods.dm, methods.DmSettings),
    "mtt": mtt,
    "experts": trained_experts,
    "networks": fresh_networks,
    "batches": batches,
    "predict": predicted,
    "divided data": divided_data,
}


def main(out, *cases):
    results = {}
    divided = jax.shard_map
    for case, counts in (one.split("=") for one in cases):
        for count in map(int, counts.split(",")):
            parts = [1]

            def noted(*args, parts=parts, **options):
                parts.append(jax.sharding.get_abstract_mesh().size)
                return divided(*args, **options)

            jax.shard_map = noted
            with sharding.devices(count, divide_data=case.startswith("divided")):
                numbers = [np.ravel(leaf) for leaf in jax.tree.leaves(WORK[case]())]
            jax.shard_map = divided
            results[f"{case} on {count}"] = np.concatenate(numbers)
            results[f"{case} leaves"] = np.asarray([leaf.size for leaf in numbers])
            results[f"{case} in {count}"] = np.asarray(max(parts))
    np.savez(out, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
