"""The settings of a run, each with where it came from."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jdd import data, networks
from jdd.errors import UserError
from jdd.methods import registry
from jdd.methods.presets import NETWORK
from jdd.runs.result import RunResult
from jdd.runs.settings import Selection, defaults_of
from jdd.settings import RENAMED, defaults, renamed

_GROUPS = {"method_settings": "method", "options": "network"}  # other names in settings.json
_OF_EXPERTS = ("experts", "difficulty")  # groups that a run without experts has, too
_NOT_SETTINGS = {"version", "preset", "command", "places", "fingerprint", "plugins"}


class Origin(NamedTuple):
    """A setting, its value, and where that came from."""

    name: str
    value: Any
    origin: str


class _Setting(NamedTuple):
    """What is known of a setting today."""

    name: str  # such as "experts.chunk", where a group before has that field, too
    default: Any = None
    preset: Any = None  # None: the preset has none


def origins(stored: Mapping[str, Any], result: RunResult) -> Iterator[Origin]:
    """Each setting of a run, but for the preset, which settings come from.

    Args:
      stored: the run's `settings.json`.
      result: of the run.
    """
    settings, overrides = _settings(stored, result), _overrides(result.command)
    by_user = "command line" if result.command else "set in Python"
    start = Selection()._asdict()
    for name in (name for name in start if name in stored and name not in _NOT_SETTINGS):
        is_override = name in overrides or stored[name] != start[name]
        yield Origin(name, stored[name], by_user if is_override else "default")

    preset = f"preset {result.preset}{', borrowed' * bool(result.note)}"
    has_experts = not settings or any(group in _OF_EXPERTS for group, _ in settings)
    for key, values in stored.items():
        group = _GROUPS.get(key, key)
        if key in _NOT_SETTINGS or not isinstance(values, Mapping):
            continue
        if group in _OF_EXPERTS and not has_experts:
            continue
        for field, value in renamed(values).items():
            each = settings.get((group, field), _Setting(field))
            is_changed = value not in (each.preset, each.default)
            origin = "preset or default"  # of a method that is not loaded, or of an older jdd
            if each.name.replace(".", "_") in overrides:
                origin = by_user
            elif value == each.preset or (is_changed and each.preset is not None and overrides):
                origin = preset
            elif value == each.default:
                origin = "default"
            elif each.default is not None and not overrides:
                origin = by_user
            elif each.default is not None and result.note:
                origin = preset
            yield Origin(each.name, value, origin)


def _overrides(command: str) -> set[str]:
    """The settings that a command names."""
    flags = (word.partition("=")[0] for word in command.split() if word.startswith("--"))
    names = (flag.removeprefix("--no-").removeprefix("--").replace("-", "_") for flag in flags)
    return {RENAMED.get(name, name) for name in names}


def _settings(stored: Mapping[str, Any], result: RunResult) -> dict[tuple[str, str], _Setting]:
    """By group and field, what is known of the run's settings; nothing where the method is not.

    Of data of the user's that are not where they were, the note of the result has to do.
    """
    places, loop = (stored.get(name) for name in ("places", "loop"))
    data_dir = places.get("data_dir") if isinstance(places, Mapping) else None
    size = loop.get("image_size") if isinstance(loop, Mapping) else None
    traits = data.traits(result.dataset, data_dir, size if isinstance(size, int) and size else None)
    selection = Selection(
        result.method, result.dataset, result.ipc, result.init, result.network, result.preset
    )
    try:
        of_run = defaults_of(selection, traits)
        cell = registry.preset(result.preset, result.method, result.dataset, result.ipc, traits)
    except UserError:  # a method, network or preset that is not known
        return {}
    settings = {}
    for name, group, field in of_run.names():
        bare = networks.options(result.network) if group.kind is None else defaults(group.kind)
        shared = cell.shared if group.name == "method" else ()
        is_preset = field in cell.values and field not in shared
        if group.kind is None and result.network != NETWORK:
            is_preset = False
        preset = group.values[field] if is_preset else None
        settings[group.name, field] = _Setting(name, bare[field], preset)
    return settings
