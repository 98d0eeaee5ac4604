"""The matching losses: pure functions of arrays and pytrees, with nothing under them but JAX.

All of them compute in float32 and return it, also where JAX's 64 bits are on.
"""

from jdd.losses.attention import attention_matching as attention_matching
from jdd.losses.attention import spatial_attention as spatial_attention
from jdd.losses.characteristic import (
    characteristic_function_discrepancy as characteristic_function_discrepancy,
)
from jdd.losses.classification import cross_entropy as cross_entropy
from jdd.losses.classification import soft_cross_entropy as soft_cross_entropy
from jdd.losses.distribution import distribution_matching as distribution_matching
from jdd.losses.filters import drop_shallow_layers as drop_shallow_layers
from jdd.losses.filters import drop_smallest_errors as drop_smallest_errors
from jdd.losses.filters import hidden_kernels as hidden_kernels
from jdd.losses.gradient import GRADIENT_METRICS as GRADIENT_METRICS
from jdd.losses.gradient import gradient_matching as gradient_matching
from jdd.losses.regression import kernel_ridge_regression as kernel_ridge_regression
from jdd.losses.trajectory import trajectory_matching as trajectory_matching
