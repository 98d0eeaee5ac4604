"""Orbax's part of `jdd.checkpoints`; apart, as loading it takes a third as long as loading JAX."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

# Orbax reports each file it opens at INFO and each default it takes at WARNING.
logging.getLogger("absl").setLevel(logging.ERROR)


def save(path: Path, arrays: Any, info: Mapping[str, Any]) -> None:
    """Writes NumPy arrays and a JSON header into the new directory `path`."""
    with _checkpointer() as checkpointer:
        checkpointer.save(
            path,
            ocp.args.Composite(
                arrays=ocp.args.StandardSave(arrays), info=ocp.args.JsonSave(dict(info))
            ),
        )
    for marker in path.rglob("commit_success.txt"):
        marker.write_text("committed\n")  # Orbax writes the path here, which a set outlives


def restore(path: Path, target: Any) -> Any:
    """The arrays in `path`, in the structure of `target`, or as dictionaries where it is None."""
    arguments = ocp.args.Composite(arrays=ocp.args.StandardRestore(target))
    with _checkpointer() as checkpointer:
        return checkpointer.restore(path, arguments)["arrays"]


def shapes(path: Path) -> Any:
    """The arrays in `path` by shape and type alone; none of their numbers is read."""
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=_alone())
    return handler.metadata(path / "arrays").tree


def _checkpointer() -> ocp.Checkpointer:
    """Orbax's, for this process alone: arrays are replicated, so it need not wait for others."""
    alone = _alone()
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(multiprocessing_options=alone),
        arrays=ocp.StandardCheckpointHandler(multiprocessing_options=alone),
        info=ocp.JsonCheckpointHandler(multiprocessing_options=alone),
    )
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _alone() -> ocp.options.MultiprocessingOptions:
    if not jax.distributed.is_initialized():
        return ocp.options.MultiprocessingOptions()
    here = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=here, active_processes={here}, barrier_sync_key_prefix=f"process{here}"
    )
