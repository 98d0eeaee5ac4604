"""Real datasets: `load` finds, reads and prepares one; `to_device` makes it ready for JAX."""

from jdd.data.dataset import Dataset as Dataset
from jdd.data.dataset import Split as Split
from jdd.data.device import ClassIndex as ClassIndex
from jdd.data.device import DeviceData as DeviceData
from jdd.data.device import to_device as to_device
from jdd.data.registry import check_name as check_name
from jdd.data.registry import is_known as is_known
from jdd.data.registry import load as load
from jdd.data.registry import names as names
from jdd.data.registry import register as register
from jdd.data.registry import short_name as short_name
from jdd.data.registry import traits as traits
from jdd.data.shapes import Traits as Traits
from jdd.data.splits import hold_out as hold_out
from jdd.data.splits import subset as subset
