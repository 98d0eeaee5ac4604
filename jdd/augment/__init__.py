"""Augmentation: DSA for distilling, per image for evaluating digits, CutMix for training."""

from jdd.augment._transforms import DsaSettings as DsaSettings
from jdd.augment.dsa import WITH_FLIP as WITH_FLIP
from jdd.augment.dsa import WITHOUT_FLIP as WITHOUT_FLIP
from jdd.augment.dsa import Draw as Draw
from jdd.augment.dsa import augment as augment
from jdd.augment.dsa import augment_stacked as augment_stacked
from jdd.augment.dsa import check_kinds as check_kinds
from jdd.augment.dsa import draw_ahead as draw_ahead
from jdd.augment.dsa import strategy_for as strategy_for
from jdd.augment.each import EachSettings as EachSettings
from jdd.augment.each import augment_each as augment_each
from jdd.augment.mixing import Mixed as Mixed
from jdd.augment.mixing import cutmix as cutmix
