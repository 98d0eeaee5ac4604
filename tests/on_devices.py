"""Computes the cases of `test_sharding` on 1, 2 and 8 of this process's devices.

`python -m tests.on_devices OUT CASE=1,2,8 …` leaves `<case> on <devices>` and, for how many parts
the work was divided into, `<case> in <devices>` in the file OUT.
"""

import sys
import tempfile
from pathlib import Path

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


def matching(method, settings):
    made = method(settings(batch_real=6), NETWORK)
    (*_, (images, _, loss)) = small.two_updates(made, small.start(2), small.digits(8))
    return [images, loss]


def mtt():
    settings = methods.MttSettings(syn_steps=3, lr_img=2.0, lr_init=0.1, segments=3, dsa=False)
    method = methods.mtt(settings, NETWORK)
    synthetic, state = method.init(jax.random.key(0), small.start(2), None)
    each = [NETWORK.init(jax.random.key(i), jnp.zeros((1, 8, 8, 1)))["params"] for i in range(6)]
    segment = Segment(sharding.stack(each[:3]), sharding.stack(each[3:]))
    synthetic, _, metrics = jax.jit(method.update)(synthetic, state, None, segment)
    return [synthetic.images, synthetic.learning_rate, metrics["loss"]]


def trained_experts():
    settings = ExpertSettings(num_experts=3, train_epochs=2, batch_train=10)
    spec = ExpertSpec("digits", {"image_shape": [8, 8, 1]}, "ConvNet", {}, 0.1, settings)
    with tempfile.TemporaryDirectory() as place:
        store = experts.open_or_create(Path(place) / "experts", spec, NETWORK)
        real = small.digits(20)
        experts.train_experts(store, NETWORK, "crop_cutout", real, real, 3)
        return [store.read(i, 2) for i in range(3)]


def fresh_networks():
    recipe = Recipe(epochs=3, learning_rate=0.1, augmentation="crop")
    trainer = training.Trainer.of(NETWORK, recipe, 6)
    keys = [jax.random.key(i) for i in range(5)]
    states = sharding.stack([training.init(trainer, key, (8, 8, 1)) for key in keys])
    rates = training.schedule(recipe)
    return [evaluation.train_many(trainer, states, small.start(2).data(), rates, 3).params]


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
    "predict": predicted,
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
            with sharding.devices(count):
                numbers = [np.ravel(leaf) for leaf in jax.tree.leaves(WORK[case]())]
            jax.shard_map = divided
            results[f"{case} on {count}"] = np.concatenate(numbers)
            results[f"{case} in {count}"] = np.asarray(max(parts))
    np.savez(out, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
