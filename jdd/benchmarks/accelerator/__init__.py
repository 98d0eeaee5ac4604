"""Everything that is to be known of an accelerator, in parts of a few minutes each."""

from jdd.benchmarks.accelerator.archive import binary_version as binary_version
from jdd.benchmarks.accelerator.parts import NAMES as NAMES
from jdd.benchmarks.accelerator.parts import further_commands as further_commands
from jdd.benchmarks.accelerator.plan import CASES as CASES
from jdd.benchmarks.accelerator.plan import Clock as Clock
from jdd.benchmarks.accelerator.plan import Plan as Plan
from jdd.benchmarks.accelerator.session import TABLE as TABLE
from jdd.benchmarks.accelerator.session import has_torch as has_torch
from jdd.benchmarks.accelerator.session import run_parts as run_parts
