"""A method in a file of the user's own: named by a flag once, remembered by runs and sets.

Each command is a process of its own, as nothing unloads a plugin.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from jdd.cli.parser import Parser, add_settings
from jdd.errors import UserError
from tests.cli.running import ROOT

FEW = ["--method", "moments", "--dataset", "digits", "--preset", "quick", "--width", "8"]
FEW += ["--iterations", "2", "--eval-every", "2", "--eval-epochs", "1", "--eval-networks", "1"]
FEW += ["--full-data-epochs", "0", "--no-eval-random", "--out", "run"]


@pytest.fixture
def script(tmp_path):
    """Runs a script in an empty directory with a user's own record of trusted files."""
    shutil.copy(ROOT / "examples" / "own_method.py", tmp_path / "mine.py")

    def run(name, *arguments):
        return subprocess.run(
            [sys.executable, ROOT / "bin" / name, *arguments],
            cwd=tmp_path,
            env={**os.environ, "JDD_CACHE_DIR": str(tmp_path / "cache")},
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.slow
def test_a_plugin_is_remembered_until_it_changes(script, tmp_path):
    without = script("distill.py", *FEW)
    assert without.returncode == 2 and "--method 'moments'" in without.stderr

    first = script("distill.py", *FEW, "--plugin", "mine.py", "--json")
    assert first.returncode == 0, first.stderr
    result = json.loads(first.stdout.splitlines()[-1])
    assert result["method"] == "moments" and "--plugin mine.py" in result["command"]
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert [plugin["path"] for plugin in settings["plugins"]] == [str(tmp_path / "mine.py")]

    resumed = script("distill.py", *FEW, "--iterations", "3", "--resume", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout.splitlines()[-1])["resumed_from"] == 2
    evaluated = script("evaluate.py", "run", "--networks", "1")
    assert evaluated.returncode == 0 and "moments on digits" in evaluated.stdout

    with (tmp_path / "mine.py").open("a") as file:
        file.write("print('changed')\n")
    resume = [*FEW, "--iterations", "3", "--resume"]
    refused = script("distill.py", *resume)
    assert refused.returncode == 2 and "has changed" in refused.stderr
    assert "name it by --plugin" in refused.stderr and "changed\n" not in refused.stdout
    named = script("distill.py", *resume, "--plugin", "mine.py")
    assert named.returncode == 2 and "the plugins, or what is in them, differ" in named.stderr
    exported = script("export.py", "run", "--to", "set.npz")  # which needs none
    assert exported.returncode == 0 and "changed\n" not in exported.stdout


def test_train_experts_knows_plugins(script):
    done = script("train_experts.py", *FEW[:4], "--plugin", "mine.py")
    assert done.returncode == 2
    assert done.stderr == "error: --method moments: it needs no experts\n"


def test_a_setting_with_the_name_of_a_flag_is_refused():
    parser = Parser()
    parser.add_argument("--seed")
    with pytest.raises(UserError, match="the setting seed has the name of a flag of the script"):
        add_settings(parser, "method settings", {"seed": 1}, {})
