"""What lies around the parameters of a store of experts, checked before any of them is read.

`store.json` says what the experts are, `progress.json` how far they have come, and
`parameters/zarr.json` how the array is laid out. The first two hold their own checksum; a store of
jdd 0.1 has none.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jdd import checkpoints, files, records
from jdd.errors import UserError
from jdd.experts.settings import ExpertSpec

Shapes = tuple[tuple[tuple[str, ...], tuple[int, ...]], ...]
"""the name of each parameter, as its path in Flax's nested dictionaries, and its shape"""

_CHECKSUM = "sha256"
_MOST_EXPERTS = 10**6
_MOST_PARTS = 32  # of a parameter's name


class Header(NamedTuple):
    """`store.json`."""

    spec: ExpertSpec
    parameters: Shapes

    @property
    def size(self) -> int:
        """Parameters of one network."""
        return sum(math.prod(shape) for _, shape in self.parameters)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Header":
        """The inverse of what `write_header` writes; raises `ValueError` for what it would not."""
        fields = {name: each for name, each in value.items() if name != "format_version"}
        header = records.build(cls, fields)
        names = [name for name, _ in header.parameters]
        for before, name in zip([(), *names], names, strict=False):
            # In order, so that one that is another's parent comes right before it.
            if not before < name or (before and name[: len(before)] == before):
                raise ValueError("'parameters' are not in order")
            if len(name) > _MOST_PARTS:
                raise ValueError(f"'parameters' has a name of {len(name)} parts")
        for name, shape in header.parameters:
            if not all(side > 0 for side in shape):
                raise ValueError(f"'parameters' has the shape {shape} for {'.'.join(name)}")
        return header


class Progress(NamedTuple):
    """`progress.json`, of the experts that are trained to their end."""

    accuracies: tuple[float, ...]
    """of each on the validation split, fractions of 1"""
    seconds: float = 0.0
    """what training took, scores of difficulty included; 0 where it is not known"""
    checksums: tuple[tuple[str, ...], ...] = ()
    """of each expert's epochs, from the initialisation on; none for one of an older jdd"""


def read_header(path: Path) -> Header:
    """Reads `store.json`; raises `UserError` where it is damaged or of another version."""
    with _or_train_again(path.parent):
        value = _unsealed(path)
    version = value.get("format_version")
    if version != checkpoints.FORMAT_VERSION:
        raise UserError(
            f"the experts in {path.parent} have format version {version}, this jdd reads version "
            f"{checkpoints.FORMAT_VERSION}: train them again in another directory"
        )
    with _or_train_again(path.parent):
        return records.parse(value, Header, path)


def write_header(path: Path, header: Header) -> None:
    """Writes `store.json`."""
    value = {"spec": header.spec.to_json(), "parameters": header.parameters}
    _write_sealed(path, {"format_version": checkpoints.FORMAT_VERSION, **value})


def read_progress(path: Path) -> Progress:
    """Reads `progress.json`; raises `UserError` where it is damaged."""
    with _or_train_again(path.parent):
        return records.parse(_unsealed(path), Progress, path)


def write_progress(path: Path, progress: Progress) -> None:
    """Writes `progress.json`."""
    _write_sealed(path, progress._asdict())


def zarr_metadata(experts: int, header: Header) -> dict[str, Any]:
    """The array of so many experts, as `zarr.json` describes it: a chunk an epoch."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [experts, header.spec.settings.train_epochs + 1, header.size],
        "data_type": header.spec.settings.expert_dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1, 1, header.size]}},
        "chunk_key_encoding": {"name": "default"},
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "crc32c"},
        ],
        # A chunk that is not there must not pass for parameters.
        "fill_value": "NaN",
    }


def check_zarr(path: Path, header: Header) -> None:
    """Raises `UserError` where `zarr.json` describes another array than such a store has.

    TensorStore would read by it: numbers of another type or order, or as many as end the process.
    """
    with _or_train_again(path.parent.parent):
        value = files.read_json(path)
        try:
            experts = value["shape"][0]
            within = type(experts) is int and 0 < experts <= _MOST_EXPERTS
            expected = zarr_metadata(experts, header)
            further = [each for name, each in value.items() if name not in expected]
            fits = within and not any(further) and {n: value.get(n) for n in expected} == expected
        except (TypeError, KeyError, IndexError, AttributeError):
            fits = False
        if not fits:
            raise UserError(f"{path} describes another array than store.json")


@contextlib.contextmanager
def _or_train_again(directory: Path) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{error}; remove {directory} and train its experts again") from None


def _write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    files.write_json(path, {**value, _CHECKSUM: _digest(value)})


def _unsealed(path: Path) -> dict[str, Any]:
    value = files.read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged: it holds no fields")
    checksum = value.pop(_CHECKSUM, None)
    if checksum is not None and checksum != _digest(value):
        raise UserError(f"{path} is damaged: it is not as it was written")
    return value


def _digest(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
