"""Forecasts: a run's programs compiled for accelerators that are not there, and read."""

from jdd.benchmarks.forecast.forecast import forecast as forecast
from jdd.benchmarks.forecast.machines import MACHINES as MACHINES
from jdd.benchmarks.forecast.machines import Target as Target
from jdd.benchmarks.forecast.machines import target as target
