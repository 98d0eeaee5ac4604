"""What dividing a batch makes of a student's and an expert's programs, for `test_sharding`.

`python -m tests.divided_programs OUT` leaves, for this process's devices, FLOPs per device by the
number of devices, and the collectives of the programs compiled for four of them; and the images
that updates exchange where the real data is divided.
"""

import json
import re
import sys
from pathlib import Path
from unittest import mock

from jdd.cli.platform import tune_xla

tune_xla()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from jdd import methods, networks, sharding, training  # noqa: E402
from jdd.benchmarks.flops import product_flops  # noqa: E402
from jdd.experts import Segment, epoch_of_many  # noqa: E402
from jdd.training import Recipe, Trainer  # noqa: E402
from tests.methods import small  # noqa: E402

NETWORK = networks.create("ConvNet", small.CLASSES, width=4, depth=2)
COLLECTIVE = re.compile(r"= .* (all-reduce|all-gather|all-to-all|collective-permute)(-start)?\(")
IMAGES_SENT = re.compile(
    r"= u8\[([0-9,]*)\]\S* (all-reduce|all-gather|all-to-all|reduce-scatter)\("
)
STEPS, IMAGES, BATCH = 5, 120, 256


def student(memory):
    """An update of MTT: function and arguments."""
    settings = methods.MttSettings(syn_steps=STEPS, memory=memory)
    method = methods.mtt(settings, NETWORK)
    synthetic, state = method.init(jax.random.key(0), small.start(IMAGES // 3), None)
    params = NETWORK.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))["params"]
    one = jax.tree.map(lambda leaf: leaf[None], params)
    moved = jax.tree.map(lambda leaf: leaf[None] + 0.01, params)
    return method.update, (synthetic, state, None, Segment(one, moved))


def expert():
    """An epoch of an expert, of one step."""
    real = small.digits(BATCH // 2)
    trainer = Trainer.of(NETWORK, Recipe(batch_size=BATCH), real.images.shape[0], steps=1)
    trainer = trainer._replace(batch=BATCH, augmentation="crop_cutout")
    states = sharding.stack([training.init(trainer, jax.random.key(0), (8, 8, 1))])

    def epoch(states, data):
        return epoch_of_many(trainer, states, data, training.schedule(Recipe()), None)

    return epoch, (states, real)


PROGRAMS = {
    "student": lambda: student("all"),
    "student, nothing kept": lambda: student("tesla"),
    "expert": expert,
}


def exchanged():
    """By method, the shapes of the uint8 arrays that an update on four devices exchanges."""
    made = {
        "dm": methods.dm(methods.DmSettings(batch_real=6), NETWORK),
        "frepo": methods.frepo(methods.FrepoSettings(batch_real=30, pool=2), NETWORK),
        "bptt": methods.bptt(methods.BpttSettings(batch_real=30, window=2, syn_steps=3), NETWORK),
    }
    sent = {}
    with sharding.devices(4, divide_data=True):
        for name, method in made.items():
            real = small.digits(100)
            synthetic, state = method.init(jax.random.key(0), small.start(2), real)
            text = jax.jit(method.update).lower(synthetic, state, real).compile().as_text()
            sent[name] = [match.groups()[::-1] for match in IMAGES_SENT.finditer(text)]
    return sent


def rows_are_read():
    """Whether each device gets the rows that it asks for, one batch after another or at once."""
    rows = np.random.default_rng(0).integers(0, 255, (37, 4, 4, 1), dtype=np.uint8)
    positions = np.random.default_rng(1).integers(0, 37, (8, 3, 5))
    ways = {
        "map": lambda read, of: jax.lax.map(read, of),
        "vmap": lambda read, of: jax.vmap(read)(of),
        "vmap of vmap": lambda read, of: jax.vmap(jax.vmap(read))(of),
    }
    with sharding.devices(4, divide_data=True):
        placed = sharding.placed(rows)
        return {
            name: bool(
                np.array_equal(
                    sharding.sharded_map(
                        lambda rows, of, way=way: way(lambda at: rows[at], of),
                        placed,
                        jnp.asarray(positions),
                    ),
                    rows[positions],
                )
            )
            for name, way in ways.items()
        }


def main(out):
    result = {}
    with mock.patch.object(sharding, "LEAST_PIXELS", 1):
        for name, make in PROGRAMS.items():
            function, arguments = make()
            flops, collectives = {}, []
            for count in (1, 2, 4, 8):
                with sharding.devices(count):
                    flops[count] = product_flops(function, *arguments, turns=1)
                    if count == 4:
                        text = jax.jit(function).lower(*arguments).compile().as_text()
                        collectives = [match[1] for match in COLLECTIVE.finditer(text)]
            result[name] = {"flops": flops, "collectives": collectives}
    result |= {"exchanged": exchanged(), "rows": rows_are_read()}
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])
