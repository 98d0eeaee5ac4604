"""The search over candidates: ranks against SciPy and by hand, resuming, what is refused."""

import numpy as np
import pytest
from scipy import stats

from jdd import data
from jdd.errors import Interrupted, SettingError, UserError
from jdd.tasks import nas
from jdd.tasks.nas import FULL, PROXIES, NasSettings, Training
from tests.tasks.small_nas import SETTINGS, real_set


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def test_spearman_is_scipys_with_ties_at_their_mean_rank():
    # By hand: ranks (1.5, 1.5, 3, 4) and (1, 3, 2, 4): covariance 3, variances 4.5 and 5.
    correlation = nas.spearman([0.1, 0.1, 0.5, 0.9], [1, 3, 2, 4], np.random.default_rng(0))
    assert correlation["value"] == pytest.approx(3 / np.sqrt(4.5 * 5))
    assert correlation["low"] <= correlation["value"] <= correlation["high"] <= 1
    nothing = {"value": None, "low": None, "high": None}
    assert nas.spearman([0.1] * 5, [1, 2, 3, 4, 5], np.random.default_rng(0)) == nothing
    assert nas.spearman([1, 2], [1, 2], np.random.default_rng(0)) == nothing


def test_the_interval_is_about_fishers():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(300)
    y = 0.6 * x + 0.8 * rng.standard_normal(300)
    correlation = nas.spearman(list(x), list(y), np.random.default_rng(1))
    value = stats.spearmanr(x, y).statistic
    # Bonett and Wright (2000): the standard error of Fisher's z for Spearman's correlation
    error = np.sqrt((1 + value**2 / 2) / 297)
    low, high = np.tanh(np.arctanh(value) + 1.96 * error * np.array([-1, 1]))
    assert correlation["value"] == pytest.approx(value)
    assert correlation["low"] == pytest.approx(low, abs=0.02)
    assert correlation["high"] == pytest.approx(high, abs=0.02)


class Fake:
    """In place of a bench: accuracies from a table, test accuracies below them."""

    def __init__(self, table):
        self.table, self.trained, self.tested = table, [], []

    def steps(self, proxy):
        return 20 if proxy == FULL else 2

    def train(self, options, proxy, repeat, progress):
        self.trained.append((options["id"], proxy, repeat))
        progress(self.steps(proxy))
        value = self.table[proxy][options["id"]]
        return Training(options, proxy, repeat, value + 0.01 * repeat, 1.0, self.steps(proxy)), (
            options["id"]
        )

    def accuracy(self, options, variables, kind):
        assert kind == "test" and variables == options["id"]
        self.tested.append(options["id"])
        return 0.5 + options["id"] / 100


TABLE = {
    "distilled": [0.3, 0.5, 0.5, 0.1],
    "random": [0.1, 0.2, 0.3, 0.4],
    "early": [0.9, 0.8, 0.7, 0.6],
    "full": [0.6, 0.9, 0.8, 0.7],
}
FOUR = tuple({"id": i} for i in range(4))


def test_search_ranks_on_validation_and_tests_the_best_alone():
    bench, kept, told = Fake(TABLE), [], []
    plan = nas.Plan(FOUR, FOUR, ())
    trainings = nas.search(bench, plan, 2, keep=kept.append, progress=lambda *at: told.append(at))
    assert trainings == kept and told[-1] == (4 * (2 * 2 + 2 * 2 + 2 + 20),) * 2
    # The best are 1 (of two equal ones, the first), 3 and 0; 1 is the best in full too.
    assert sorted(bench.tested) == [0, 1, 3]
    assert len(bench.trained) == 4 * 6
    figures = nas.summary(plan, trainings, 0)
    assert {kind: o["id"] for kind, o in figures["best"].items()} == {
        "distilled": 1,
        "random": 3,
        "early": 0,
        "full": 1,
    }
    assert figures["best_accuracy"] == {
        "distilled": 0.51,
        "random": 0.53,
        "early": 0.5,
        "full": 0.51,
    }
    for kind in PROXIES:
        expected = stats.spearmanr(TABLE[kind], TABLE["full"]).statistic
        assert figures["spearman"][kind]["value"] == pytest.approx(expected)
    assert figures["networks"][1]["distilled"] == pytest.approx(0.505)  # mean of two networks
    assert figures["proxy_seconds"] == {"distilled": 8.0, "random": 8.0, "early": 4.0}
    assert figures["full_seconds"] == 4.0 and figures["fraction_of_full_time"]["early"] == 1.0
    assert figures["spearman_top"] is None


def test_search_resumes_from_what_is_stored():
    kept = []
    plan = nas.Plan(FOUR, FOUR, ())
    complete = nas.search(Fake(TABLE), plan, 1, keep=kept.append)
    for count in (0, 5, 13, 15, 17):
        bench, added = Fake(TABLE), []
        again = nas.search(bench, plan, 1, stored=kept[:count], keep=added.append)
        assert again == complete and len(added) == len(complete) - count
        # A best one whose variables are gone is trained once more.
        assert len(bench.trained) >= 16 - min(count, 16)


def test_the_best_tenth_is_compared_where_there_are_ten():
    rng = np.random.default_rng(0)
    many = tuple({"id": i} for i in range(100))
    table = {kind: list(rng.uniform(size=100)) for kind in TABLE}
    plan = nas.Plan(many, many, ())
    top = nas.summary(plan, nas.search(Fake(table), plan, 1), 0)["spearman_top"]
    first = np.argsort(table["full"])[-10:]
    for kind in PROXIES:
        expected = stats.spearmanr(np.array(table[kind])[first], np.array(table["full"])[first])
        assert top[kind]["value"] == pytest.approx(expected.statistic)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"space": "convnet"}, "`space` 'convnet': did you mean 'convnets'?"),
        ({"candidates": 0}, "`candidates` 0: at least 1"),
        ({"full_epochs": 0}, "`full_epochs` 0: at least 1"),
        ({"sample": -1}, "`sample` -1: at least 0"),
        ({"sample": 9}, "`sample` 9: at most `candidates`, 6"),
        ({"learning_rate": -1.0}, "`learning_rate` -1.0: at least 0"),
        ({"held_out": 1.0}, "`held_out` 1.0: above 0 and below 1"),
    ],
)
def test_settings_out_of_range_are_named(values, words):
    with pytest.raises(SettingError, match=words.replace("?", r"\?")):
        NasSettings(**values)


def test_a_store_gives_back_what_was_added_and_drops_a_line_cut_off(digits, tmp_path):
    store = nas.SearchStore(tmp_path / "nas.jsonl", SETTINGS, real_set(digits), 3)
    first, second = (Training({"width": i}, "random", 0, 0.5, 1.25, 6) for i in (32, 64))
    with store.opened(resume=False, overwrite=False) as stored:
        assert stored == []
        store.add(first)
    with store.path.open("a") as file:
        file.write('{"candidate": {"wid')
    with store.opened(resume=True, overwrite=False) as stored:
        assert stored == [first]
        store.add(second)
    with store.opened(resume=True, overwrite=False) as stored:
        assert stored == [first, second]
    with pytest.raises(UserError, match="`overwrite` to delete existing ones"):
        store.opened(resume=False, overwrite=False).__enter__()
    other = nas.SearchStore(store.path, SETTINGS, real_set(digits, 2), 3)
    with pytest.raises(UserError, match="of another search: set is"):
        other.opened(resume=True, overwrite=False).__enter__()
    with (
        pytest.raises(Interrupted, match="nothing is stored"),
        other.opened(resume=False, overwrite=True),
    ):
        assert not store.path.exists()
        raise Interrupted
