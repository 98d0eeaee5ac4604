"""Other people's formats."""

from jdd.interop.export import to_folder as to_folder
from jdd.interop.export import to_npz as to_npz
from jdd.interop.torch import params_from_torch as params_from_torch
