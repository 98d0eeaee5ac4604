"""The arithmetic of matrix products and convolutions in a compiled program."""

import math

from jdd.benchmarks.forecast.hlo import Computation, Instruction


def arithmetic(instruction: Instruction, within: Computation) -> str:
    """How a product is computed: its factors' type, for float32 with the precision asked for."""
    dtype = within.by_name[instruction.operands[0]].shape[0].dtype
    if dtype != "f32":
        return dtype
    text = instruction.text
    if "highest" in instruction.attribute("operand_precision") or '"HIGHEST"' in text:
        return "f32 highest"
    return "f32 high" if "high" in instruction.attribute("operand_precision") else "f32"


def product_flops(instruction: Instruction, within: Computation) -> int:
    """Floating-point operations of a matrix product or a convolution; 0 for all else.

    As the field counts them: what a convolution multiplies with the zeros around an image counts.
    """
    if instruction.opcode == "dot":
        contracted = instruction.attribute("lhs_contracting_dims")
        return _dot(instruction, within, [int(axis) for axis in contracted.split(",") if axis])
    if instruction.opcode == "convolution":
        return _convolution(instruction, within, 2)
    target = instruction.attribute("custom_call_target")
    if target.startswith("__cudnn$conv"):
        gradients = {"__cudnn$convBackwardInput": 0, "__cudnn$convBackwardFilter": 1}
        return _convolution(instruction, within, gradients.get(target, 2))
    if target.startswith("__cublas"):
        return _dot(instruction, within, instruction.numbers("lhs_contracting_dimensions"))
    return 0


def _dot(instruction: Instruction, within: Computation, contracted: list[int]) -> int:
    left = within.by_name[instruction.operands[0]].shape[0]
    return 2 * instruction.shape[0].size * math.prod(left.dims[axis] for axis in contracted)


def _convolution(instruction: Instruction, within: Computation, output: int) -> int:
    """`output`: which of operands 0 and 1 and result 2 has the map that the convolution gives."""
    x, other = (within.by_name[name].shape[0] for name in instruction.operands[:2])
    result = instruction.shape[0]
    kernel = result if output == 1 else other
    labels = instruction.attribute("dim_labels").partition("_")[2].partition("->")[0]
    per_output = kernel.size // kernel.dims[labels.index("o")]
    dilated = _dilation(instruction.attribute("window"))
    return 2 * (x, other, result)[output].size * per_output // dilated


def _dilation(window: str) -> int:
    """How many of an image's entries are zeros put between its pixels: one in so many is not."""
    for word in window.split():
        if word.startswith("lhs_dilate="):
            return math.prod(int(d) for d in word.removeprefix("lhs_dilate=").split("x"))
    return 1
