"""Expert trajectories on disk: one array, of which one (expert, epoch) is read by itself."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from flax.traverse_util import flatten_dict, unflatten_dict

from jdd import checkpoints, distributed, files
from jdd.errors import SettingError, UserError
from jdd.experts.settings import ExpertSpec

_CACHE_BYTES = 1_000_000_000
_UNFINISHED = (
    "parameters",
    "difficulty",
    "progress.json",
    ".lock",
)  # what is there before store.json is


def _unfinished(parameters: Path) -> bool:
    """Whether there is nothing, or only what a store leaves that was stopped while being made."""
    return not parameters.exists() or {p.name for p in parameters.glob("*")} <= {"zarr.json"}


class ExpertStore:
    """A directory with `store.json` (what the experts are), `progress.json` and `parameters/`.

    `parameters/` is a Zarr array `(experts, epochs + 1, parameters)`, one chunk with a checksum for
    each (expert, epoch), written by TensorStore. Entry 0 of the middle axis is the initialisation.
    """

    def __init__(self, directory: Path, header: dict[str, Any]) -> None:
        self.directory = directory
        self.spec = ExpertSpec.from_json(header["spec"])
        self._shapes = {tuple(name): tuple(shape) for name, shape in header["parameters"]}
        self._array: Any = None

    @classmethod
    def create(cls, directory: Path, spec: ExpertSpec, params: Any) -> "ExpertStore":
        """Starts a store for experts whose parameters look like `params`."""
        shapes = [[list(k), list(v.shape)] for k, v in sorted(flatten_dict(params).items())]
        header = {
            "format_version": checkpoints.FORMAT_VERSION,
            "spec": spec.to_json(),
            "parameters": shapes,
        }
        store = cls(directory, header)
        if distributed.is_primary():
            directory.mkdir(parents=True, exist_ok=True)
            store._open(create=True)
            files.write_json(directory / "progress.json", {"accuracies": []})
            files.write_json(directory / "store.json", header)
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
        if not (directory / "store.json").exists():
            if directory.exists() and not directory.is_dir():
                raise SettingError("experts", directory, "it is a file, name a directory")
            foreign = [p.name for p in directory.glob("*") if p.name not in _UNFINISHED]
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
        header = files.read_json(directory / "store.json")
        if not isinstance(header, dict):
            raise UserError(f"{directory / 'store.json'} is damaged: train them again")
        version = header.get("format_version")
        if version != checkpoints.FORMAT_VERSION:
            raise UserError(
                f"the experts in {directory} have format version {version}, this jdd reads version "
                f"{checkpoints.FORMAT_VERSION}: train them again in another directory"
            )
        try:
            store = cls(directory, header)
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{directory / 'store.json'} is damaged: train them again") from None
        store._open(create=False)
        return store

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
        path = self.directory / "progress.json"
        try:
            return [float(value) for value in files.read_json(path)["accuracies"]]
        except (KeyError, TypeError, ValueError) as error:
            why = f": {error}" if isinstance(error, UserError) else " is damaged"
            raise UserError(
                f"{path}{why}; remove {self.directory} and train its experts again"
            ) from None

    @property
    def seconds(self) -> float:
        """What training them took, scores of difficulty included; 0 where it is not known."""
        return float(files.read_json(self.directory / "progress.json").get("seconds", 0.0))

    def spent(self, seconds: float) -> None:
        """Adds to `seconds`."""
        if distributed.is_primary():
            progress = {"accuracies": self.accuracies, "seconds": round(self.seconds + seconds, 2)}
            files.write_json(self.directory / "progress.json", progress)

    def finish(self, accuracies: list[float]) -> None:
        """Marks further experts, as many as there are accuracies, as complete."""
        progress = {"accuracies": self.accuracies + accuracies, "seconds": self.seconds}
        files.write_json(self.directory / "progress.json", progress)
        distributed.barrier(f"finished experts of {self.directory}")

    def write(self, expert: int, epoch: int, params: Any) -> None:
        """Stores the parameters of one (expert, epoch)."""
        if not distributed.is_primary():
            return
        if not (self.directory / "store.json").exists():  # TensorStore would make half of one
            raise UserError(f"{self.directory} has gone: another process moved or removed it")
        flat = flatten_dict(params)
        vector = np.concatenate([np.asarray(flat[name]).reshape(-1) for name in self._shapes])
        try:
            self._array[expert, epoch].write(vector.astype(self._array.dtype.numpy_dtype)).result()
        except (ValueError, OSError) as error:
            raise self._unwritable(error) from None

    def read(self, expert: int, epoch: int) -> Any:
        """The parameters of one (expert, epoch), float32 NumPy arrays in Flax layout.

        Raises:
          UserError: they are not there, or damaged.
        """
        try:
            vector = self._array[expert, epoch].read().result()
        except (ValueError, OSError) as error:
            raise UserError(
                f"the experts in {self.directory} are damaged at expert {expert}, epoch {epoch} "
                f"({str(error)[:120]}): remove the directory and train them again"
            ) from None
        vector = np.asarray(vector, np.float32)
        if not np.isfinite(vector).all():  # a chunk that is not there reads as NaN
            raise UserError(
                f"the experts in {self.directory} lack expert {expert}, epoch {epoch}: remove the "
                "directory and train them again"
            )
        sizes = [int(np.prod(shape)) for shape in self._shapes.values()]
        parts = np.split(vector, np.cumsum(sizes)[:-1])
        return unflatten_dict(
            {n: p.reshape(s) for (n, s), p in zip(self._shapes.items(), parts, strict=True)}
        )

    def _unwritable(self, error: Exception) -> UserError:
        for left in (self.directory / "parameters").rglob(
            "*.__lock"
        ):  # TensorStore's, half written
            left.unlink(missing_ok=True)
        return UserError(f"{self.directory} cannot be written ({checkpoints.why(error)})")

    def _open(self, create: bool) -> None:
        settings = self.spec.settings
        size = sum(int(np.prod(shape)) for shape in self._shapes.values())
        spec: dict[str, Any] = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str((self.directory / "parameters").absolute())},
            "context": {"cache_pool": {"total_bytes_limit": _CACHE_BYTES}},
            "recheck_cached_data": False,
        }
        if create:
            spec["metadata"] = {
                "shape": [settings.num_experts, settings.train_epochs + 1, size],
                "data_type": settings.expert_dtype,
                "chunk_grid": {
                    "name": "regular",
                    "configuration": {"chunk_shape": [1, 1, size]},
                },
                "codecs": [
                    {"name": "bytes", "configuration": {"endian": "little"}},
                    {"name": "crc32c"},
                ],
                # A chunk that is not there must not pass for parameters.
                "fill_value": "NaN",
            }
        try:
            self._array = ts.open(
                spec, create=create, delete_existing=create, open=not create
            ).result()
        except (ValueError, OSError) as error:
            if create:
                raise self._unwritable(error) from None
            raise UserError(
                f"the experts in {self.directory} cannot be opened ({str(error)[:120]}): remove "
                "the directory and train them again"
            ) from None
