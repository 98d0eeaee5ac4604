"""The differentiable student: gradient descent, differentiable to its data and step size."""

from jdd.unrolling._plan import MEMORY as MEMORY
from jdd.unrolling._plan import batch_plan as batch_plan
from jdd.unrolling._plan import checkpoints_for as checkpoints_for
from jdd.unrolling._plan import memory_budget_for as memory_budget_for
from jdd.unrolling._sgd import sgd as sgd
from jdd.unrolling._tesla import tesla as tesla
