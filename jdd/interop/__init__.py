"""Other people's formats."""

from jdd.interop.torch import params_from_torch as params_from_torch
