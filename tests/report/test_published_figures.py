"""The figures of papers that stand alongside ours, one by one."""

import dataclasses

import pytest

from jdd.report import results
from jdd.runs import RunResult
from tests.pages import ROOT

# At 1, 10 and 50 images per class, read off the tables again: DC's and DSA's from the repository's
# readme, the coresets' from DC's table 1, MTT's on MNIST from re-runs, all others from the papers.
_FIGURES = """
random   mnist    64.9 95.1 97.9 re-run
herding  mnist    89.2 93.7 94.8 re-run
k_center mnist    89.3 84.4 97.4 re-run
dc       mnist    91.7 97.4 98.8 repository, last
dsa      mnist    88.7 97.8 99.2 repository, last
dm       mnist    89.7 97.5 98.6 paper, last
mtt      mnist    91.4 97.3 98.5 re-run, best on test
frepo    mnist    93.0 98.6 99.2 paper, best on test
idc      mnist    94.2 98.4 99.1 repository, last
datadam  mnist    –    –    –    –
random   cifar10  14.4 26.0 43.4 re-run
herding  cifar10  21.5 31.6 40.4 re-run
k_center cifar10  21.5 14.7 27.0 re-run
dc       cifar10  28.3 44.9 53.9 repository, last
dsa      cifar10  28.8 52.1 60.6 repository, last
dm       cifar10  26.0 48.9 63.0 paper, last
datadam  cifar10  32.0 54.2 67.0 paper, best on test
mtt      cifar10  46.3 65.3 71.6 paper, best on test
datm     cifar10  46.9 66.8 76.1 paper, best on test
pad      cifar10  47.2 67.4 77.0 paper, best on test
frepo    cifar10  46.8 65.5 71.7 paper, best on test
idc      cifar10  50.6 67.5 74.5 repository, last
ncfm     cifar10  49.5 71.8 77.4 paper, best on test
bptt     cifar10  –    69.4 –    paper, best on test
"""


@pytest.mark.parametrize("line", _FIGURES.strip().splitlines())
def test_what_was_published(line):
    method, dataset, *figures, kind = line.split(maxsplit=5)
    run = RunResult.load(ROOT / "docs/results/mnist/dm-ipc1-seed0/result.json")
    for ipc, figure in zip((1, 10, 50), figures, strict=True):
        of = dataclasses.replace(run, method=method, dataset=dataset, ipc=ipc)
        cells = next(
            text for text in results.page([of]).splitlines() if text.startswith("| 1 ")
        ).split("|")
        assert cells[8].strip() == (figure if figure == "–" else f"{figure} ({kind})")
