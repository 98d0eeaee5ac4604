"""Flax Linen networks and their registry."""

from jdd.networks.base import Network as Network
from jdd.networks.registry import OPTION_WORDS as OPTION_WORDS
from jdd.networks.registry import create as create
from jdd.networks.registry import names as names
from jdd.networks.registry import options as options
