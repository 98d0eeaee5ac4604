"""Other people's formats."""

from jdd.interop.export import FORMATS as FORMATS
from jdd.interop.export import export as export
from jdd.interop.torch import params_from_torch as params_from_torch
