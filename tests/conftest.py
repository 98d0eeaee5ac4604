"""What all tests share: XLA's settings, a store of compiled programs, the real data."""

import os
from pathlib import Path

from jdd.cli.arguments import tune_xla

tune_xla()  # as the scripts have it, and before anything loads JAX

import jax  # noqa: E402
import pytest  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    """Compiled programs are kept in pytest's cache: by a second run, and for scripts that run."""
    if getattr(config, "cache", None) is None:
        return
    directory = os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.cache.mkdir("jax")))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
    jax.config.update("jax_compilation_cache_dir", directory)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Where the data sets' files lie; without it, tests on them are skipped."""
    directory = os.environ.get("JDD_DATA_DIR")
    if not directory:
        pytest.skip("no data sets: set JDD_DATA_DIR to the directory that holds their files")
    return Path(directory)
