"""Power laws, and the sizes that an update is given."""

import jax
import numpy as np
import pytest
from scipy import stats

from jdd.benchmarks import growth
from jdd.benchmarks.growth import Point, Subject
from jdd.errors import UserError


def test_a_power_law_is_found():
    law = growth.power_law([1, 2, 4, 10], [3.0 * x**1.5 for x in (1, 2, 4, 10)])
    assert law.exponent == pytest.approx(1.5) and law.factor == pytest.approx(3)
    assert law.at(16) == pytest.approx(3 * 64)
    assert growth.power_law([4, 4], [1.0, 2.0]) is None


def test_it_is_the_regression_of_the_logarithms():
    rng = np.random.default_rng(0)
    x = np.array([10, 20, 40, 80, 160])
    y = 0.2 * x**0.7 * np.exp(rng.normal(0, 0.3, x.size))
    expected = stats.linregress(np.log(x), np.log(y))
    law = growth.power_law(list(x), list(y))
    assert law.exponent == pytest.approx(expected.slope)
    assert law.factor == pytest.approx(np.exp(expected.intercept))


def test_one_size_changes_at_a_time():
    base, axes = growth.plan(
        Subject("mtt"),
        {"ipc": (1, 10), "steps": (), "width": None, "segments": ()},
        {"ipc": None, "steps": 20, "width": 64, "segments": None},
    )
    assert base == Point(1, 20, 64, 1)
    assert axes == {"ipc": (1, 10), "width": (32, 64, 128, 256)}
    along = growth.points(Point(1, 20, 32, 1), {"ipc": (1, 10), "width": (32, 64)})
    assert along == {
        "ipc": [Point(1, 20, 32, 1), Point(10, 20, 32, 1)],
        "width": [Point(1, 20, 32, 1), Point(1, 20, 64, 1)],
    }
    assert Subject("mtt").axes() == ("ipc", "steps", "width", "segments")
    for name in ("dm", "idc", "bptt"):  # a student of BPTT's has steps, but no segments
        assert Subject(name).axes() == ("ipc", "width")


def test_the_update_that_is_timed_trains_idc_s_network(monkeypatch):
    seen = []
    monkeypatch.setattr(growth.cost, "peak_bytes", lambda compiled: 0)
    monkeypatch.setattr(growth.cost, "seconds", lambda work, most: seen.append(work()) or 1.0)
    growth.measure(Subject("idc", "digits", batch_real=2), Point(width=4))
    ((_, state, _),) = seen
    assert int(state.optimizer.network.epoch) == 1


@pytest.mark.parametrize("method", ["mtt", pytest.param("pad", marks=pytest.mark.slow)])
def test_an_update_has_the_sizes_asked_for(method):
    function, arguments = growth.update(Subject(method, "digits"), Point(3, 7, 4, 2))
    synthetic, state, real, segment = arguments
    assert synthetic.images.shape == (30, 8, 8, 1) and real is None  # as in a run
    assert segment.start["block_1"]["conv"]["kernel"].shape == (2, 3, 3, 4, 4)
    program = jax.make_jaxpr(function)(synthetic, state, real, segment)
    lengths = [e.params["length"] for e in _equations(program.jaxpr) if e.primitive.name == "scan"]
    assert 7 in lengths and 2 in lengths


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(
            equation.params, is_leaf=lambda v: hasattr(v, "eqns") or hasattr(v, "jaxpr")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from _equations(inner)


def test_real_images_of_methods_without_experts():
    subject = Subject("dm", "mnist", batch_real=9)
    _, (synthetic, _, real, segment) = growth.update(subject, Point(ipc=2, width=4))
    assert synthetic.images.shape == (20, 28, 28, 1) and segment is None
    assert np.bincount(real.labels).tolist() == [9] * 10


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"method": "mta"}, "did you mean 'mtt'"),
        ({"method": "herding"}, "chooses real images"),
        ({"dataset": "mnst"}, "did you mean 'mnist'"),
        ({"memory": "al"}, "did you mean 'all'"),
        ({"method": "dm", "batch_real": 0}, "`batch_real` 0: at least 1"),
    ],
)
def test_what_cannot_be_is_said(values, words):
    with pytest.raises(UserError, match=words):
        Subject(**values)
