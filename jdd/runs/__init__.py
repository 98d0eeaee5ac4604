"""A whole run: from a data set's name to a directory with a distilled set and its accuracy."""

from jdd.runs.pipeline import run as run
from jdd.runs.settings import RunSettings as RunSettings
