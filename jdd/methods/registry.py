"""Methods by name. A further method is one file next to this one, and one line here.

A method of one's own registers itself from outside the package: `register`.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jdd import networks
from jdd.data.shapes import SHAPES, Traits
from jdd.errors import UserError, unknown, unknown_value
from jdd.evaluation import EvaluationSettings
from jdd.experts import ExpertSettings
from jdd.methods import borrowed
from jdd.methods.base import Method, MethodSettings
from jdd.methods.bptt import PRESETS as BPTT_PRESETS
from jdd.methods.bptt import BpttSettings, bptt
from jdd.methods.check import try_out
from jdd.methods.coresets import PRESETS as CORESET_PRESETS
from jdd.methods.coresets import CoresetSettings, RandomSettings, herding, k_center, random
from jdd.methods.datadam import PRESETS as DATADAM_PRESETS
from jdd.methods.datadam import DatadamSettings, datadam
from jdd.methods.datm import PRESETS as DATM_PRESETS
from jdd.methods.datm import DatmSettings, datm
from jdd.methods.dc import DC_PRESETS, DSA_PRESETS, DcSettings, dc, dsa
from jdd.methods.dm import PRESETS as DM_PRESETS
from jdd.methods.dm import DmSettings, dm
from jdd.methods.frepo import PRESETS as FREPO_PRESETS
from jdd.methods.frepo import FrepoSettings, frepo
from jdd.methods.idc import PRESETS as IDC_PRESETS
from jdd.methods.idc import IdcSettings, idc
from jdd.methods.mtt import PRESETS as MTT_PRESETS
from jdd.methods.mtt import MttSettings, mtt
from jdd.methods.ncfm import PRESETS as NCFM_PRESETS
from jdd.methods.ncfm import NcfmSettings, ncfm
from jdd.methods.pad import PRESETS as PAD_PRESETS
from jdd.methods.pad import PadSettings, pad
from jdd.methods.presets import NETWORK, Cell, Preset, cell, check_name
from jdd.networks import NetworkLike
from jdd.settings import Settings, defaults


@dataclass(frozen=True)
class MethodEntry:
    """What the loop and the command line need to know of a method."""

    factory: Callable[..., Method]
    """`(settings, network)` → the method"""
    settings: type[MethodSettings]
    presets: Mapping[str, Preset] = field(default_factory=dict)
    """by the preset's name; without one the settings' own defaults are used"""
    is_coreset: bool = False
    """whether it chooses real images: whatever the start, and without any updates"""


METHODS: dict[str, MethodEntry] = {
    "random": MethodEntry(random, RandomSettings, is_coreset=True),
    "herding": MethodEntry(herding, CoresetSettings, CORESET_PRESETS, is_coreset=True),
    "k_center": MethodEntry(k_center, CoresetSettings, CORESET_PRESETS, is_coreset=True),
    "dc": MethodEntry(dc, DcSettings, DC_PRESETS),
    "dsa": MethodEntry(dsa, DcSettings, DSA_PRESETS),
    "dm": MethodEntry(dm, DmSettings, DM_PRESETS),
    "datadam": MethodEntry(datadam, DatadamSettings, DATADAM_PRESETS),
    "ncfm": MethodEntry(ncfm, NcfmSettings, NCFM_PRESETS),
    "frepo": MethodEntry(frepo, FrepoSettings, FREPO_PRESETS),
    "idc": MethodEntry(idc, IdcSettings, IDC_PRESETS),
    "bptt": MethodEntry(bptt, BpttSettings, BPTT_PRESETS),
    "mtt": MethodEntry(mtt, MttSettings, MTT_PRESETS),
    "datm": MethodEntry(datm, DatmSettings, DATM_PRESETS),
    "pad": MethodEntry(pad, PadSettings, PAD_PRESETS),
}
_BUILT_IN = frozenset(METHODS)
SUITED = "; to suit them: "
"""in a note, before the settings that are changed for data of the user's"""
_PLAIN = Preset({name: {1: {}} for name in SHAPES}, "digits")


def names() -> tuple[str, ...]:
    """The names of all methods, sorted."""
    return tuple(sorted(METHODS))


def entry(name: str) -> MethodEntry:
    """A method's entry; raises `UserError` naming the nearest for an unknown name."""
    if name not in METHODS:
        raise unknown_value("method", name, METHODS, "; one of your own: name its file by `plugin`")
    return METHODS[name]


def create(name: str, settings: Any, network: Any) -> Method:
    """The method `name` with its settings and network."""
    rates = tuple(f.name for f in dataclasses.fields(settings) if f.name.startswith("lr_"))
    made = entry(name).factory(settings, network)
    is_open = made.rates == Method._field_defaults["rates"]  # one of a user's own may name them
    return made._replace(rates=rates) if rates and is_open else made


def create_method(name: str, network: NetworkLike, **settings: Any) -> Method:
    """A method by name: `create_method("dm", network, iterations=100, lr_img=1.0)`.

    Args:
      name: one of `names()`.
      network: what its updates train or look through.
      **settings: values of the method's settings; their defaults are those of the papers or of
        their code; the presets have those of a dataset and number of images per class.

    Returns:
      `init(key, synthetic, data)` and `update(synthetic, state, data, segment)`: pure functions.

    Raises:
      UserError: an unknown name or setting, or a value out of range.
    """
    fields = {f.name for f in dataclasses.fields(entry(name).settings)}
    for field_name in settings:
        if field_name not in fields:
            raise unknown(f"setting of {name}", field_name, fields)
    return create(name, entry(name).settings(**settings), network)


def preset(name: str, method: str, dataset: str, ipc: int, traits: Traits | None = None) -> Cell:
    """The preset's values for a run by field name, and from where they are borrowed.

    Args:
      name: of the preset.
      method: of the run.
      dataset: of the run.
      ipc: images per class.
      traits: of data of the user's (`jdd.data.traits`): its settings are those of the data most
        like it, changed to suit it.

    Raises:
      UserError: unknown preset or method; it names the nearest.
    """
    check_name(name)
    method_entry = entry(method)
    result = cell(name, method_entry.presets.get(name, _PLAIN), dataset, ipc, traits)
    if traits is not None and result.source:
        result = _suited(result, method_entry.settings, name == "quick", traits)
    return result if name in method_entry.presets else result._replace(note="")


def _suited(original: Cell, settings: type[MethodSettings], quick: bool, traits: Traits) -> Cell:
    """Borrowed settings, changed to suit the images; the note says what was changed."""
    kinds: list[type[Settings]] = [EvaluationSettings]
    if settings().needs.segments is not None:
        kinds.append(ExpertSettings)
    all_defaults = networks.options(NETWORK)
    all_defaults |= {n: value for kind in (*kinds, settings) for n, value in defaults(kind).items()}
    changes = borrowed.changes(
        original.values,
        all_defaults,
        traits,
        original.source,
        quick=quick,
        of_all_classes=settings.real_batch_of_all_classes,
    )
    words = ", ".join(f"{name} {value}" for name, value in changes.items())
    note = original.note and (
        f"{original.note}, whose images are most like these ({traits})"
        + (SUITED + words if words else "")
    )
    return original._replace(values={**original.values, **changes}, note=note)


def register(
    name: str,
    factory: Callable[..., Method],
    settings: type[MethodSettings],
    presets: Mapping[str, Preset] | None = None,
    *,
    is_coreset: bool = False,
) -> None:
    """Makes a method of one's own known by name, and says what it lacks.

    The method is traced once on two small images, without being run.

    Args:
      name: what it is called wherever a method is named.
      factory: `(settings, network)` → `Method`.
      settings: a frozen dataclass derived from `MethodSettings`, every field with a default; a
        method that makes updates has an integer field `iterations`.
      presets: by "quick", "paper" or "released"; where there is none, the settings' defaults.
      is_coreset: whether it chooses real images, and makes no updates.

    Raises:
      UserError: the name is taken, or something is missing; the message says what.
    """
    title = f"method '{name}'"
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UserError(f"{title}: letters, digits, -, _ and . make a name, as it is a directory's")
    if name in _BUILT_IN:
        raise UserError(f"{title}: there is one of this name already, choose another")
    if not (isinstance(settings, type) and issubclass(settings, MethodSettings)):
        raise UserError(f"{title}: its settings are to be a class derived from MethodSettings")
    if "__dataclass_fields__" not in vars(settings):
        raise UserError(f"{title}: {settings.__name__} is to be a @dataclass(frozen=True)")
    fields = {f.name: f for f in dataclasses.fields(settings)}
    bare = [n for n, f in fields.items() if "help" not in f.metadata]
    if bare:
        raise UserError(
            f"{title}: declare the field {bare[0]} of {settings.__name__} by "
            "jdd.settings.setting(…)"
        )
    for declared in fields.values():
        if problem := _problem_of(declared):
            raise UserError(f"{title}: the field {declared.name} of {settings.__name__} {problem}")
    if not is_coreset and "iterations" not in fields:
        raise UserError(
            f"{title}: {settings.__name__} has no field 'iterations': no update would be made"
        )
    for preset_name in presets or {}:
        check_name(preset_name)
    made = MethodEntry(factory, settings, presets or {}, is_coreset)
    try_out(title, made.factory, made.settings())
    METHODS[name] = made


_KINDS = (int, float, bool, str)


def _problem_of(declared: "dataclasses.Field[Any]") -> str:
    """What is wrong with a field of a method's settings, if anything."""
    kind = type(declared.default)
    if kind not in _KINDS:
        return f"has a default of type {kind.__name__}: int, float, bool and str are settings"
    written = getattr(declared.type, "__name__", declared.type)  # where it is not evaluated, a name
    if written in [each.__name__ for each in _KINDS] and written != kind.__name__:
        return f"is {written}, and its default {declared.default!r} is {kind.__name__}"
    if declared.name == "iterations" and kind is not int:
        return "is to be a whole number"
    return ""
