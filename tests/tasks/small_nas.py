"""Small settings of the search, and a set for it."""

import numpy as np

from jdd.synthetic import SetInfo, SyntheticSet, from_real
from jdd.tasks.nas import NasSettings

SETTINGS = NasSettings(epochs=6, full_epochs=2, real_images=500)


def real_set(dataset, ipc=1):
    """A set of real images in the place of a distilled one."""
    images, labels = from_real(dataset.train, dataset, ipc, np.random.default_rng(5))
    info = SetInfo(dataset.name, dataset.class_names, dataset.preprocess.spec(), ipc)
    return SyntheticSet(images, labels, None, info)
