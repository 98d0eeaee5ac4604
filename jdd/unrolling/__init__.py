"""The differentiable student: descent, differentiable to its data and step size."""

from jdd.unrolling._adjoint import descend as descend
from jdd.unrolling._adjoint import sgd as sgd
from jdd.unrolling._plan import MEMORY as MEMORY
from jdd.unrolling._plan import batch_plan as batch_plan
from jdd.unrolling._plan import checkpoints_for as checkpoints_for
from jdd.unrolling._plan import memory_budget_for as memory_budget_for
from jdd.unrolling._rules import Adam as Adam
from jdd.unrolling._rules import Momentum as Momentum
from jdd.unrolling._rules import Rule as Rule
from jdd.unrolling._rules import Sgd as Sgd
from jdd.unrolling._tesla import tesla as tesla
