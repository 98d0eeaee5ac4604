"""The command lines of the documents: each is one that its script takes, and runs on the digits."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys

import pytest

from jdd import plugins
from jdd.cli import flags, forecast, parser
from tests.cli.running import ROOT
from tests.pages import NOTEBOOKS, PAGES, name_of, text_of, without_code_blocks

COMMAND = re.compile(r"(?:bin/(\w+)\.py|jdd-([\w-]+))\b(.*)", re.DOTALL)
PLACES = {"M": "dm", "D": "digits", "N": "1", "S": "0", "…": None}  # what letters stand for
FEW = {  # whatever a command says, to see that it runs
    "distill": "--eval-networks 1 --eval-epochs 1 --full-data-epochs 0 --no-eval-random "
    "--iterations 2 --eval-every 2",
}
LONG = {"reproduce"}  # tests/cli/test_reproduce.py runs it


def commands(text):
    """Each command line that is more than a script's name, as (script, arguments)."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    blocks = [block.replace("\\\n", " ") for language, block in fences if not language]
    rest = without_code_blocks(text)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"^ {4}.*", rest, re.MULTILINE)
    for paragraph in rest.split("\n\n"):
        lines += re.findall(r"`([^`]*)`", paragraph)
    for line in lines:
        match = COMMAND.search(line.replace("\n", " "))
        if match:
            script = match[1] or match[2].replace("-", "_")
            words = shlex.split(match[3].rstrip('"'), comments=True)
            if words and (ROOT / "bin" / f"{script}.py").exists():
                yield script, [PLACES.get(w, w) for w in words if PLACES.get(w, w) is not None]


ALL = [
    pytest.param(script, words, id=f"{name_of(page)}-{script} {shlex.join(words)}"[:120])
    for page in [*PAGES, *NOTEBOOKS]
    if page.name != "CHANGELOG.md"
    for script, words in dict.fromkeys((s, tuple(w)) for s, w in commands(text_of(page)))
]


class Parsed(BaseException):
    """The command line is one that its script takes."""


@pytest.fixture
def stopped(monkeypatch, tmp_path):
    """Scripts end once their command line is parsed, and leave no trace in this process."""
    from jdd.data import registry as datasets
    from jdd.methods import registry as methods
    from jdd.networks import registry as networks

    parse_args = parser.Parser.parse_args

    def parsed(self, *arguments):
        parse_args(self, *arguments)
        raise Parsed

    monkeypatch.setattr(parser.Parser, "parse_args", parsed)
    monkeypatch.setattr(forecast, "compile_only", lambda: None)
    monkeypatch.setattr(flags, "connect", lambda: None)
    monkeypatch.setattr(plugins, "_LOADED", {})
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))
    monkeypatch.setattr(networks, "_REGISTERED", {})
    monkeypatch.setattr(datasets, "_REGISTERED", {})
    monkeypatch.setenv("JDD_CACHE_DIR", str(tmp_path))
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(("script", "words"), ALL)
def test_a_command_of_the_documents_is_parsed(script, words, stopped, capfd):
    main = importlib.import_module(f"jdd.cli.{script}").main
    wanted = SystemExit if "--help" in words else Parsed
    with pytest.raises(wanted):
        main(list(words))
        pytest.fail(capfd.readouterr().err)


def test_there_are_commands_of_every_kind():
    scripts = {case.values[0] for case in ALL}
    assert len(ALL) > 60 and {"distill", "evaluate", "export", "nas", "continual"} <= scripts


def on_digits():
    seen = set()
    for case in ALL:
        script, words = case.values
        named = "digits" in words or any(word.startswith("examples/own_") for word in words)
        named &= not case.id.startswith("RESULTS.md")  # made by make results
        if named and "--help" not in words and script not in LONG and (script, words) not in seen:
            seen.add((script, words))
            yield case


@pytest.mark.slow
@pytest.mark.parametrize(("script", "words"), list(on_digits()))
def test_a_command_on_the_digits_runs(script, words, tmp_path):
    """As it is printed, with few updates, in a process of its own."""
    (tmp_path / "wandb.py").write_text(FAKE)
    words = [str(ROOT / w) if w.startswith("examples/") else w for w in words]
    done = subprocess.run(
        [sys.executable, ROOT / "bin" / f"{script}.py", *words, *FEW[script].split(), "--json"],
        cwd=tmp_path,
        env={**os.environ, "JDD_CACHE_DIR": str(tmp_path), "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["iterations"] == 2


FAKE = """
init = lambda **settings: __import__(__name__)
log = lambda values, step: None
finish = lambda: None
Image = lambda path: path
"""
