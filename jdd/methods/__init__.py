"""Distillation methods: one file each, their registry and presets."""

from jdd.methods.base import Method as Method
from jdd.methods.coresets import CoresetSettings as CoresetSettings
from jdd.methods.coresets import RandomSettings as RandomSettings
from jdd.methods.coresets import herding as herding
from jdd.methods.coresets import k_center as k_center
from jdd.methods.coresets import random as random
from jdd.methods.datadam import DatadamSettings as DatadamSettings
from jdd.methods.datadam import datadam as datadam
from jdd.methods.datm import DatmSettings as DatmSettings
from jdd.methods.datm import datm as datm
from jdd.methods.dc import DcSettings as DcSettings
from jdd.methods.dc import dc as dc
from jdd.methods.dc import dsa as dsa
from jdd.methods.dm import DmSettings as DmSettings
from jdd.methods.dm import dm as dm
from jdd.methods.mtt import MttSettings as MttSettings
from jdd.methods.mtt import mtt as mtt
from jdd.methods.pad import PadSettings as PadSettings
from jdd.methods.pad import pad as pad
from jdd.methods.registry import create as create
from jdd.methods.registry import names as names
