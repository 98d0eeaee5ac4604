"""One finished run, which the tests of all scripts share."""

from typing import NamedTuple

import pytest

from jdd.cli import distill
from tests.cli.running import SMALL


class Finished(NamedTuple):
    """A finished run."""

    out: object
    experts: object


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Made in one go; tests that change it copy it first."""
    base = tmp_path_factory.mktemp("finished")
    run = Finished(base / "run", base / "experts")
    assert distill.main([*SMALL, "--out", str(run.out), "--experts", str(run.experts)]) == 0
    return run
