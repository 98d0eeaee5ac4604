"""The wheel, installed into an empty environment, distils the digits outside the checkout."""

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(*command, cwd, **options):
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, **options
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    place = tmp_path_factory.mktemp("wheel")
    command = ("-m", "build", "--wheel", "--no-isolation", "--outdir", place, ROOT)
    run(sys.executable, *command, cwd=place)
    (built,) = place.glob("*.whl")
    return built


def test_it_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    ours = {f"jdd/{p.relative_to(ROOT / 'jdd').as_posix()}" for p in ROOT.glob("jdd/**/*.py")}
    assert ours | {"jdd/py.typed"} <= set(names)
    assert {name.split("/")[0] for name in names} == {
        "jdd",
        f"{wheel.stem.split('-py3')[0]}.dist-info",
    }


def test_each_script_is_a_command_of_the_installed_package():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {
        f"jdd-{path.stem.replace('_', '-')}": f"jdd.cli.{path.stem}:main"
        for path in ROOT.glob("bin/*.py")
    }


@pytest.mark.slow
def test_it_distils_the_digits_in_an_empty_environment(wheel, tmp_path):
    run(sys.executable, "-m", "venv", tmp_path / "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    settings = "--method dm --dataset digits --preset quick --width 8 --iterations 3 --eval-every 3"
    short = "--eval-epochs 100 --eval-networks 1 --full-data-epochs 0 --json"
    script = tmp_path / "env" / "bin" / "jdd-distill"
    out = run(script, *settings.split(), *short.split(), cwd=tmp_path, env=environment)
    result = json.loads(out.splitlines()[-1])
    assert result["iterations"] == 3 and 0.3 < result["accuracy_mean"] <= 1
    assert (tmp_path / "checkpoints" / "digits" / "dm-ipc1-seed0" / "result.json").exists()
