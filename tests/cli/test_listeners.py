"""Who hears of a run: listeners of one's own, the terminal, nobody."""

import json
import shutil
import sys
import types
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jdd import plugins
from jdd.cli import distill
from jdd.distillation import Listener, Listeners
from jdd.errors import Interrupted, UserError
from jdd.report import console
from jdd.runs import Selection, build, run
from jdd.runs.watch import Watch
from tests.cli.event_files import values
from tests.cli.running import SMALL, call, content, json_lines
from tests.toy import go


@pytest.fixture
def board():
    from jdd.runs.tensorboard import TensorBoard

    return TensorBoard


EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own_listener.py"


class Told(Listener):
    """Remembers what it was told, in a list that several may share."""

    def __init__(self, told, name):
        self._told, self._name = told, name

    def restore(self, like):
        self._told.append((self._name, "restore"))

    def began(self, iteration, iterations):
        self._told.append((self._name, "began", iteration, iterations))

    def updated(self, iteration, iterations, rows):
        self._told.append((self._name, "updated", iteration))

    def evaluated(self, iteration, synthetic, accuracy, is_best):
        self._told.append((self._name, "evaluated", iteration))

    def save(self, state):
        self._told.append((self._name, "save", state.iteration))

    def ended(self, outcome):
        self._told.append((self._name, "ended", outcome and outcome.best_iteration))


def test_each_hears_of_everything_in_order():
    told = []
    go(listener=Listeners(Told(told, "a"), Told(told, "b")), iterations=2, evaluate_every=2)
    alone = [event[1:] for event in told if event[0] == "a"]
    assert alone == [
        *(("restore",), ("began", 0, 2), ("evaluated", 0), ("updated", 1), ("updated", 2)),
        *(("evaluated", 2), ("save", 2), ("ended", 2)),
    ]
    assert told[0::2] == [("a", *event) for event in alone]
    assert told[1::2] == [("b", *event) for event in alone]


def test_one_behind_a_run_s_files_hears_where_it_resumes(tmp_path):
    asked, told = [], []

    def stop():
        asked.append(True)
        return len(asked) == 5

    with pytest.raises(Interrupted):
        go(tmp_path, listener=Told(told, "a"), should_stop=stop)
    assert told[-1] == ("a", "ended", None)
    told.clear()
    go(tmp_path, listener=Told(told, "a"))
    assert told[0] == ("a", "began", 4, 11) and told[-1] == ("a", "ended", 11)
    assert [event[2] for event in told if event[1] == "updated"] == [5, 6, 7, 8, 9, 10, 11]


def test_a_file_without_a_listener_or_with_a_fault_is_a_line(tmp_path, capfd):
    mine = tmp_path / "mine.py"
    for text, words in (
        ("listener = 3", f"--listener: {mine} defines no function of that name"),
        ("import nothing_of_that_name", "--listener: plugin "),
    ):
        mine.write_text(text)
        out = tmp_path / "run"
        code, _, err = call(distill.main, capfd, *SMALL, "--out", out, "--listener", mine)
        assert code == 2 and len(err) == 1 and words in err[0] and not out.exists()


FAULTY = """from jdd.distillation import Listener
class Own(Listener):
    def __init__(self, settings, out): settings.nothing
def listener(settings, out): return {made}
"""


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ("Own(settings, out)", "mine.py, line 3: AttributeError: "),
        ("None", "mine.py: its listener(settings, out) returned None, no jdd.distillation.Lis"),
    ],
)
def test_one_that_cannot_be_made_leaves_everything_as_it_was(
    tmp_path, finished, capfd, made, words
):
    mine, out = tmp_path / "mine.py", shutil.copytree(finished.out, tmp_path / "run")
    mine.write_text(FAULTY.format(made=made))
    before = content(out)
    for place, flags in ((out, ["--overwrite"]), (tmp_path / "new", [])):
        command = [*SMALL, "--seed", 1, "--out", place, *flags, "--listener", mine]
        code, _, err = call(distill.main, capfd, *command)
        assert code == 2 and words in err[-1] and not any("Traceback" in line for line in err)
    assert {name: text for name, text in content(out).items() if name != ".lock"} == {
        name: text for name, text in before.items() if name != ".lock"
    }
    assert [path.name for path in (tmp_path / "new").iterdir()] == [".lock"]
    assert not (tmp_path / "experts").exists()


def test_one_is_told_where_a_run_ends_before_its_first_update(tmp_path, monkeypatch):
    told = []

    def fails(*_):
        raise UserError("no experts")

    monkeypatch.setattr(sys.modules["jdd.runs.run"], "_ready", fails)
    settings = build(Selection("random", "digits", preset="quick"))
    with pytest.raises(UserError, match="no experts"):
        run(settings, tmp_path / "run", listeners=[lambda *_: Told(told, "a")])
    assert told == [("a", "ended", None)]


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ("type('None', (Listener,), {'began': lambda self, at: None})()", "mine.py: TypeError: "),
    ],
)
def test_what_a_listener_raises_while_it_runs_is_a_line(tmp_path, capfd, made, words):
    mine, out = tmp_path / "mine.py", tmp_path / "run"
    mine.write_text(FAULTY.format(made=made))
    code, _, err = call(distill.main, capfd, *SMALL, "--out", out, "--listener", mine)
    assert code == 2 and words in err[-1] and not any("Traceback" in line for line in err)


class Recorder(types.ModuleType):
    """Stands in for wandb: what a run logged, by step."""

    def __init__(self):
        super().__init__("wandb")
        self.logged, self.configs, self.finished = [], [], 0

    def init(self, *, project, config, name):
        json.dumps(config)
        self.configs.append((project, config["method"], name))
        return self

    def Image(self, path):
        return Path(path).read_bytes()[:4]

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.finished += 1


def test_quiet_with_a_listener_and_event_files(finished, tmp_path, monkeypatch, capfd, board):
    """A finished run made longer: the event file has all of it, standard error nothing."""
    out, wandb = shutil.copytree(finished.out, tmp_path / "run"), Recorder()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    more = [*SMALL, "--iterations", 43, "--out", out, "--experts", finished.experts, "--resume"]
    flags = ["--quiet", "--tensorboard", "--listener", EXAMPLE, "--json"]
    code, result, err = call(distill.main, capfd, *more, *flags)
    assert code == 0 and not err and result["iterations"] == 43
    assert not {"--quiet", "--tensorboard", "--listener"} & set(result["command"].split())
    lines = [row for row in json_lines(out / "metrics.jsonl") if "loss" in row]
    assert [step for step, _ in values(out / "tensorboard", "loss")] == list(range(1, 44))
    assert [step for step, _ in values(out / "tensorboard", "set")] == [0, 20, 40, 43]
    assert wandb.configs == [("jdd", "mtt", "run")] and wandb.finished == 1
    assert [step for step, _ in wandb.logged] == [41, 42, 43, 43]
    assert [row["loss"] for _, row in wandb.logged[:3]] == [row["loss"] for row in lines[40:]]
    assert wandb.logged[3][1]["set"] == b"\x89PNG"
    assert EXAMPLE.name not in str(plugins.loaded())


def test_a_line_for_each_evaluation(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("jdd.report.pictures.save_picture", lambda *_: None)
    evaluation = types.SimpleNamespace(choose="validation")
    settings = types.SimpleNamespace(seed=3, iterations=40, evaluation=evaluation)
    dataset = types.SimpleNamespace(preprocess=None)
    problem = types.SimpleNamespace(settings=settings, dataset=dataset)
    watch = Watch(tmp_path, problem, None, several=True)
    watch.evaluated(0, None, 0.5, True)
    watch.updated(20, 40, [{"loss": 0.25, "dropped": 1.0}])
    watch.evaluated(20, None, 0.4, False)
    watch.evaluated(40, None, 0.625, True)
    assert capsys.readouterr().err.splitlines() == [
        "seed 3, iteration 0 of 40: 50.0 % on validation, the best so far, 0 s",
        "seed 3, iteration 20: 1 updates dropped so far",
        "seed 3, iteration 20 of 40: 40.0 % on validation, best 50.0 % at 0, loss 0.2500, 0 s",
        "seed 3, iteration 40 of 40: 62.5 % on validation, the best so far, loss 0.2500, 0 s",
    ]


def test_quiet_leaves_warnings(capsys):
    try:
        console.set_quiet(True)
        console.say("news")
        console.warn("a warning")
        with console.ProgressBar("updates") as bar:
            bar.at(1, 2)
    finally:
        console.set_quiet(False)
    assert capsys.readouterr().err == "a warning\n"


def test_compiling_is_said_where_it_takes_long(monkeypatch, capsys):
    monkeypatch.setattr(console, "COMPILING_SECONDS", 0.0)
    monkeypatch.setattr(console, "LINE_SECONDS", 0.0)
    x = jnp.float32(1)
    with console.ProgressBar("updates"):
        jax.jit(lambda x: x * 3.0 + 41)(x).block_until_ready()
    lines = capsys.readouterr().err.splitlines()
    assert "  compiling …" in lines and "  compiled in 0 s" in lines
    monkeypatch.setattr(console, "COMPILING_SECONDS", 60.0)
    jax.jit(lambda x: x * 3.0 + 42)(x).block_until_ready()
    assert not capsys.readouterr().err
