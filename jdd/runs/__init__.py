"""A whole run: from a dataset's name to a directory with a distilled set and its accuracy."""

from jdd.runs.problem import Problem as Problem
from jdd.runs.problem import prepare as prepare
from jdd.runs.result import RunResult as RunResult
from jdd.runs.run import run as run
from jdd.runs.run import run_seeds as run_seeds
from jdd.runs.settings import RunSettings as RunSettings
from jdd.runs.settings import Selection as Selection
from jdd.runs.settings import build as build
from jdd.runs.updating import MakeListener as MakeListener
