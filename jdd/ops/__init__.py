"""Convolution, products, pooling, norms: pure functions, the one place that knows the platform."""

from jdd.ops._linear import folded, written
from jdd.ops.convolution import conv2d, keep_products
from jdd.ops.dense import dense
from jdd.ops.microbatch import microbatched_map, microbatched_mean
from jdd.ops.normalization import group_affine, group_norm, layer_norm
from jdd.ops.part import WHOLE, Part
from jdd.ops.pooling import avg_pool, max_pool, relu_avg_pool

__all__ = [
    "WHOLE",
    "Part",
    "avg_pool",
    "conv2d",
    "dense",
    "folded",
    "group_affine",
    "group_norm",
    "keep_products",
    "layer_norm",
    "max_pool",
    "microbatched_map",
    "microbatched_mean",
    "relu_avg_pool",
    "written",
]
