"""What all tests share: XLA's settings, a store of compiled programs, the real data."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

from jdd.cli.platform import tune_xla

_CACHE = os.environ.get("JAX_COMPILATION_CACHE_DIR")
os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = "-1"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.0"
tune_xla()  # as the scripts have it, and before anything loads JAX

import jax  # noqa: E402
import pytest  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    """Compiled programs, and what jdd keeps, are in pytest's cache: for scripts and later runs.

    Without the slow tests programs are compiled with less optimization, as most of the time goes
    into compiling; the slow ones, and all tests alongside them, have them as users do.
    """
    if "not slow" in config.option.markexpr:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_backend_optimization_level=1"
    if getattr(config, "cache", None) is None:
        return
    directory = _CACHE or str(config.cache.mkdir("jax"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = directory
    jax.config.update("jax_compilation_cache_dir", directory)
    if "JDD_CACHE_DIR" not in os.environ:
        kept = config.cache.mkdir("jdd")
        for pictures in kept.glob("images-*"):  # of folders that earlier tests made
            pictures.unlink(missing_ok=True)
        os.environ["JDD_CACHE_DIR"] = str(kept)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The directories of long tests come first, so that no worker is left waiting for them."""
    items.sort(key=lambda item: item.path.parent.name not in ("cli", "tasks"))


@pytest.fixture(scope="module", autouse=True)
def _forget() -> Iterator[None]:
    """Compiled programs go with the module that needed them, or a worker comes to hold 6 GB."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Where the datasets' files lie; without it, tests on them are skipped."""
    directory = os.environ.get("JDD_DATA_DIR")
    if not directory:
        pytest.skip("no datasets: set JDD_DATA_DIR to the directory that holds their files")
    return Path(directory)
