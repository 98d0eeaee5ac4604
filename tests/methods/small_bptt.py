"""Small settings of back-propagation through training."""

from jdd import networks
from jdd.methods import BpttSettings
from tests.methods import small

NETWORK = networks.create("MLP", small.CLASSES, width=16)
REAL = 12  # images of each class
SETTINGS = BpttSettings(
    iterations=9,
    syn_steps=6,
    window=4,
    min_start=2,
    batch_real=small.CLASSES * REAL,
    lr_net=0.01,
    lr_img=0.1,
    clip=0.5,
    augmentation="none",
)
