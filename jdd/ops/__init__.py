"""Convolution, pooling and normalisation: pure functions, the one place that knows the platform."""

from jdd.ops.convolution import conv2d, keep_products
from jdd.ops.normalization import group_affine, group_norm, layer_norm
from jdd.ops.parts import map_in_parts, mean_in_parts
from jdd.ops.pooling import avg_pool, max_pool, relu_avg_pool

__all__ = [
    "avg_pool",
    "conv2d",
    "group_affine",
    "group_norm",
    "keep_products",
    "layer_norm",
    "map_in_parts",
    "max_pool",
    "mean_in_parts",
    "relu_avg_pool",
]
