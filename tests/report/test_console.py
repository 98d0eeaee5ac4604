"""Lines of progress where there is no terminal: how far, how fast, how long yet."""

import pytest

from jdd.report import console


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "5 s"), (119, "119 s"), (120, "2.0 min"), (9000, "2.5 hours"), (200_000, "2.3 days")],
)
def test_durations(seconds, words):
    assert console.duration(seconds) == words


def test_a_line_says_rate_and_time_left(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.ProgressBar("updates") as bar:
        bar.at(40, 600)  # resumed there: what was done before does not count for the rate
        now[0] += 30
        bar.at(40, 600, "loss 2")
        now[0] += 5
        bar.at(50, 600, "loss 1")  # too early for a line
        now[0] += 15
        bar.at(60, 600, "loss 0.5")
    assert capsys.readouterr().err.splitlines() == [
        "  updates 40/600, loss 2",
        "  updates 60/600, 2.5 s each, 22.5 min left, loss 0.5",
    ]


def test_another_stretch_has_a_rate_of_its_own(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.ProgressBar("epochs") as bar:
        for each in (1, 3):
            for done in range(0, 41, 10):
                bar.at(done, 40)
                now[0] += 10 * each
    lines = capsys.readouterr().err.splitlines()
    assert "  epochs 20/40, 1 s each, 20 s left" in lines
    assert "  epochs 30/40, 3 s each, 30 s left" in lines


def test_a_callback_says_what_it_is_of(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.ProgressBar("epochs") as bar:
        for words in ("the set", "random real images"):
            now[0] += 30
            bar.callback(lambda: False, words)(30, 600)
    assert capsys.readouterr().err.splitlines() == [
        "  epochs 30/600, the set",
        "  epochs 30/600, random real images",
    ]
