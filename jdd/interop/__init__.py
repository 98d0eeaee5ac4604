"""Other people's formats."""

from jdd.interop.export import FORMATS as FORMATS
from jdd.interop.export import export as export
from jdd.interop.export import format_of as format_of
from jdd.interop.guide import WITH_PIXELS as WITH_PIXELS
from jdd.interop.guide import lacking as lacking
from jdd.interop.guide import no_pixels as no_pixels
from jdd.interop.importing import import_experts as import_experts
from jdd.interop.importing import import_set as import_set
from jdd.interop.importing import published_recipe as published_recipe
from jdd.interop.torch import params_from_torch as params_from_torch
