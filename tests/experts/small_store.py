"""A store of small experts, whose parameters are known."""

import numpy as np

from jdd.experts import (
    ExpertSettings,
    ExpertSpec,
    ExpertStore,
)

EXPERTS, EPOCHS = 3, 4

STANDARD = {"kind": "standard", "image_shape": [8, 8, 1], "mean": [0.3], "std": [0.4]}


def spec_of(**changes):
    settings = {"num_experts": EXPERTS, "train_epochs": EPOCHS, **changes.pop("settings", {})}
    values = {
        "dataset": "digits",
        "preprocessing": STANDARD,
        "network": "ConvNet",
        "options": {"width": 8, "depth": 2},
        "held_out": 0.1,
        **changes,
    }
    return ExpertSpec(settings=ExpertSettings(**settings), **values)


def params(expert, epoch):
    rng = np.random.default_rng([expert, epoch])
    return {
        "block": {"kernel": rng.standard_normal((3, 2)).astype(np.float32)},
        "classifier": {
            "kernel": rng.standard_normal((2, 4)).astype(np.float32),
            "bias": rng.standard_normal(4).astype(np.float32),
        },
    }


def filled(directory, dtype="float32"):
    store = ExpertStore.create(directory, spec_of(settings={"expert_dtype": dtype}), params(0, 0))
    for expert in range(EXPERTS):
        for epoch in range(EPOCHS + 1):
            store.write(expert, epoch, params(expert, epoch))
    store.finish([0.5, 0.6, 0.7])
    return ExpertStore.open(directory)


def leaves(tree):
    return [tree["block"]["kernel"], tree["classifier"]["bias"], tree["classifier"]["kernel"]]
