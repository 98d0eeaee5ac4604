"""Flax Linen networks and their registry."""

from jdd.networks.base import Network as Network
from jdd.networks.base import NetworkLike as NetworkLike
from jdd.networks.functions import from_functions as from_functions
from jdd.networks.registry import OPTION_WORDS as OPTION_WORDS
from jdd.networks.registry import check_own as check_own
from jdd.networks.registry import create as create
from jdd.networks.registry import names as names
from jdd.networks.registry import options as options
from jdd.networks.registry import register as register
