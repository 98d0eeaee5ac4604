"""Real data sets: `load` finds, reads and prepares one; `to_device` makes it ready for JAX."""

from jdd.data.dataset import Dataset as Dataset
from jdd.data.dataset import Split as Split
from jdd.data.registry import NAMES as NAMES
from jdd.data.registry import load as load
from jdd.data.splits import RealData as RealData
from jdd.data.splits import hold_out as hold_out
from jdd.data.splits import sample_class as sample_class
from jdd.data.splits import sample_positions as sample_positions
from jdd.data.splits import subset as subset
from jdd.data.splits import to_device as to_device
