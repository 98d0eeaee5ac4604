"""Class-incremental learning with a distilled set as the memory of what was seen before.

The classes come in parts, one a step. After each step a network is tested on the test images of all
classes seen so far and, as nothing tells it which part an image is of, chooses among all of them.
It has a logit for every class from the start; those of classes not yet seen are masked where it
predicts (the mask of GDumb: Prabhu, Torr and Dokania 2020). In training they stay: no label asks
for them, so they only fall.

The memory of a class is its images of the set, or as many real ones, chosen class by class. The set
itself was made with all classes at hand. Distribution and attention matching take each class by
itself, so theirs is what a learner could have made step by step; experts, whose trajectories or
labels the other methods use, have seen all classes.
"""

from jdd.tasks.continual.compare import Comparison as Comparison
from jdd.tasks.continual.compare import Outcome as Outcome
from jdd.tasks.continual.settings import FINETUNE_EPOCHS as FINETUNE_EPOCHS
from jdd.tasks.continual.settings import METHODS as METHODS
from jdd.tasks.continual.settings import ContinualSettings as ContinualSettings
from jdd.tasks.continual.settings import build as build
from jdd.tasks.continual.settings import herding_settings as herding_settings
