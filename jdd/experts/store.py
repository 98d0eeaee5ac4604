"""Expert trajectories on disk: one array, of which one (expert, epoch) is read by itself."""

import hashlib
import math
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from flax.traverse_util import flatten_dict, unflatten_dict

from jdd import checkpoints, distributed, files
from jdd.errors import SettingError, UserError
from jdd.experts import description
from jdd.experts.description import Header, Progress, Shapes
from jdd.experts.settings import ExpertSpec

_CACHE_BYTES = 1_000_000_000
_CHECKSUM_BYTES = 4  # at the end of each chunk: TensorStore's own
_UNFINISHED = (
    "parameters",
    "difficulty",
    "progress.json",
    ".lock",
)  # what is there before store.json is


def _unfinished(parameters: Path) -> bool:
    """Whether there is nothing, or only what a store leaves that was stopped while being made."""
    names = {path.name for path in parameters.glob("*")}
    return {name for name in names if not name.endswith(".__lock")} <= {"zarr.json"}


class ExpertStore:
    """A directory with `store.json` (what the experts are), `progress.json` and `parameters/`.

    `parameters/` is a Zarr array `(experts, epochs + 1, parameters)`, one chunk with a checksum for
    each (expert, epoch), written by TensorStore. Entry 0 of the middle axis is the initialisation.
    `progress.json` has a checksum of each chunk too, which knows its place.
    """

    def __init__(self, directory: Path, header: Header) -> None:
        self.directory = directory
        self.spec = header.spec
        self._header = header
        self._checksums: tuple[tuple[str, ...], ...] = ()
        self._array: Any = None

    @classmethod
    def create(cls, directory: Path, spec: ExpertSpec, params: Any) -> "ExpertStore":
        """Starts a store for experts whose parameters look like `params`."""
        store = cls(directory, Header(spec, shapes_of(params)))
        if distributed.is_primary():
            directory.mkdir(parents=True, exist_ok=True)
            store._open(create=True)
            description.write_progress(directory / "progress.json", Progress(()))
            description.write_header(directory / "store.json", store._header)
        distributed.barrier(f"created {directory}")
        if not distributed.is_primary():
            store._open(create=False)
        return store

    @classmethod
    def open(cls, directory: Path) -> "ExpertStore | None":
        """The store in `directory`, or None where there is none and one may be made.

        Raises:
          UserError: there is one, but damaged or of another format version; or the directory holds
            something else.
        """
        files.check_path(directory / "store.json")
        if not (directory / "store.json").exists():
            if directory.exists() and not directory.is_dir():
                raise SettingError("experts", directory, "it is a file, name a directory")
            names = [path.name for path in directory.glob("*") if not files.is_part(path)]
            foreign = [name for name in names if name not in _UNFINISHED]
            if foreign or not _unfinished(directory / "parameters"):
                stores = sorted(p.parent for p in directory.glob("*/store.json"))
                if stores:
                    raise UserError(
                        f"{directory} holds {len(stores)} stores of experts, and is none: leave "
                        f"`experts` out, or name one of them, such as {stores[0]}"
                    )
                raise UserError(
                    f"{directory} holds no experts but other files "
                    f"({(foreign or ['parameters'])[0]}): choose another `experts` directory"
                )
            return None
        store = cls(directory, description.read_header(directory / "store.json"))
        store._open(create=False)
        store._checksums = store._progress().checksums
        return store

    def check_network(self, params: Any) -> None:
        """Raises `UserError` where the experts are no networks whose parameters look like these."""
        if shapes_of(params) != self._header.parameters:
            raise UserError(
                f"the experts in {self.directory} have other parameters than {self.spec.network} "
                "here: choose another `experts` directory"
            )

    def extend(self, experts: int) -> None:
        """Makes room for `experts` experts in all."""
        more = experts > self._array.shape[0]
        if more and distributed.is_primary():
            try:
                self._array = self._array.resize(exclusive_max=[experts, None, None]).result()
            except (ValueError, OSError) as error:
                raise self._unwritable(error) from None
        distributed.barrier(f"extended {self.directory}")
        if more and not distributed.is_primary():
            self._open(create=False)

    @property
    def complete(self) -> int:
        """How many experts are trained to their end."""
        return len(self.accuracies)

    @property
    def accuracies(self) -> list[float]:
        """Validation accuracy of each complete expert, fractions of 1."""
        return list(self._progress().accuracies)

    @property
    def seconds(self) -> float:
        """What training them took, scores of difficulty included; 0 where it is not known."""
        return self._progress().seconds

    def spent(self, seconds: float) -> None:
        """Adds to `seconds`."""
        if distributed.is_primary():
            progress = self._progress()
            total = round(progress.seconds + seconds, 2)
            description.write_progress(self._progress_file, progress._replace(seconds=total))

    def finish(self, accuracies: list[float]) -> None:
        """Marks further experts, as many as there are accuracies, as complete.

        Raises:
          UserError: an epoch of theirs is missing or damaged.
        """
        if distributed.is_primary():
            progress = self._progress()
            first, epochs = len(progress.accuracies), self.spec.settings.train_epochs + 1
            old = (*progress.checksums, *[()] * (first - len(progress.checksums)))
            new = tuple(
                tuple(_checksum(self._read(expert, epoch)) for epoch in range(epochs))
                for expert in range(first, first + len(accuracies))
            )
            complete = Progress((*progress.accuracies, *accuracies), progress.seconds, (*old, *new))
            description.write_progress(self._progress_file, complete)
        distributed.barrier(f"finished experts of {self.directory}")
        self._checksums = self._progress().checksums

    def write(self, expert: int, epoch: int, params: Any) -> None:
        """Stores the parameters of one (expert, epoch)."""
        if not distributed.is_primary():
            return
        if not (self.directory / "store.json").exists():  # TensorStore would make half of one
            raise UserError(f"{self.directory} has gone: another process moved or removed it")
        flat = flatten_dict(params)
        names = [name for name, _ in self._header.parameters]
        vector = np.concatenate([np.asarray(flat[name]).reshape(-1) for name in names])
        try:
            self._array[expert, epoch].write(vector.astype(self._array.dtype.numpy_dtype)).result()
        except (ValueError, OSError) as error:
            raise self._unwritable(error) from None

    def read(self, expert: int, epoch: int) -> Any:
        """The parameters of one (expert, epoch), float32 NumPy arrays in Flax layout.

        Raises:
          UserError: they are not there, or damaged.
        """
        stored = self._read(expert, epoch)
        checksums = self._checksums[expert] if expert < len(self._checksums) else ()
        if checksums and checksums[epoch : epoch + 1] != (_checksum(stored),):
            raise self._unreadable(expert, epoch, "not as it was written")
        vector = np.asarray(stored, np.float32)
        if not np.isfinite(vector).all():
            raise self._unreadable(expert, epoch, "not finite")
        shapes = [shape for _, shape in self._header.parameters]
        parts = np.split(vector, np.cumsum([math.prod(shape) for shape in shapes])[:-1])
        names = [name for name, _ in self._header.parameters]
        return unflatten_dict(
            {n: part.reshape(s) for n, s, part in zip(names, shapes, parts, strict=True)}
        )

    def _read(self, expert: int, epoch: int) -> np.ndarray:
        """The chunk of one (expert, epoch), of the stored type; a file of its length, in place."""
        root = os.path.realpath(self.directory / "parameters")
        chunk = f"{root}/c/{expert}/{epoch}/0"
        length = self._header.size * self._array.dtype.numpy_dtype.itemsize + _CHECKSUM_BYTES
        try:
            status = os.lstat(chunk)
            if os.path.realpath(chunk) != chunk or not stat.S_ISREG(status.st_mode):
                raise self._unreadable(expert, epoch, "a link or a pipe in the place of a file")
            if status.st_size != length:
                raise self._unreadable(expert, epoch, f"{status.st_size} bytes of {length}")
            return np.asarray(self._array[expert, epoch].read().result())
        except FileNotFoundError:
            raise self._unreadable(expert, epoch, "missing") from None
        except UserError:
            raise
        except (ValueError, OSError) as error:
            raise self._unreadable(expert, epoch, str(error)[:120]) from None

    def _unreadable(self, expert: int, epoch: int, why: str) -> UserError:
        return UserError(
            f"the experts in {self.directory} are damaged at expert {expert}, epoch {epoch} "
            f"({why}): remove the directory and train them again"
        )

    @property
    def _progress_file(self) -> Path:
        return self.directory / "progress.json"

    def _progress(self) -> Progress:
        return description.read_progress(self._progress_file)

    def _unwritable(self, error: Exception) -> UserError:
        # TensorStore's own, half written.
        for left in (self.directory / "parameters").rglob("*.__lock"):
            left.unlink(missing_ok=True)
        return UserError(f"{self.directory} cannot be written ({checkpoints.why(error)})")

    def _open(self, create: bool) -> None:
        place = self.directory / "parameters"
        spec: dict[str, Any] = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(place.absolute())},
            "context": {"cache_pool": {"total_bytes_limit": _CACHE_BYTES}},
            "recheck_cached_data": False,
        }
        if create:
            experts = self.spec.settings.num_experts
            spec["metadata"] = description.zarr_metadata(experts, self._header)
        else:
            description.check_zarr(place / "zarr.json", self._header)
        try:
            self._array = ts.open(
                spec, create=create, delete_existing=create, open=not create
            ).result()
        except (ValueError, OSError) as error:
            if create:
                raise self._unwritable(error) from None
            raise UserError(f"{place} cannot be opened ({str(error)[:120]})") from None


def shapes_of(params: Any) -> Shapes:
    """Name and shape of each parameter of a pytree in Flax layout."""
    return tuple((name, tuple(leaf.shape)) for name, leaf in sorted(flatten_dict(params).items()))


def _checksum(stored: np.ndarray) -> str:
    content = np.ascontiguousarray(stored).view(np.uint8).data
    return hashlib.blake2b(content, digest_size=16).hexdigest()
