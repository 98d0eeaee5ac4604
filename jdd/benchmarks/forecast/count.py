"""What a compiled program does when it runs: arithmetic, memory traffic, launches, exchanges.

Loops count by their turns, of the branches of a conditional the one with the most work.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from jdd.benchmarks.forecast.hlo import Array, Computation, Instruction, Module

# What carries nothing out by itself.
_FREE = frozenset(
    (
        *("parameter", "constant", "get-tuple-element", "tuple", "bitcast", "after-all"),
        *("opt-barrier", "domain", "partition-id", "replica-id", "add-dependency"),
        *("copy-done", "async-done", "async-update", "send-done", "recv-done"),
        *("all-reduce-done", "all-gather-done", "collective-permute-done"),
    )
)
# Custom calls that are notes to the compiler.
_NOTES = ("Sharding", "SPMD", "AllocateBuffer", "AssumeGatherIndices", "MoveTo", "annotate")
_COLLECTIVES = (
    *("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute"),
    *("collective-broadcast", "ragged-all-to-all"),
)
_TO_HOST = ("infeed", "outfeed", "send", "recv")
_SLICES = ("dynamic-slice", "slice", "gather")


@dataclass(frozen=True)
class Exchange:
    """Collectives of one kind."""

    count: int
    bytes: int


@dataclass(frozen=True)
class Kernel:
    """One instruction that is carried out, once."""

    name: str
    flops: dict[str, int]
    """of matrix products and convolutions, by their arithmetic"""
    bytes: int
    """of main memory, read and written"""
    cycles: int = 0
    """that the compiler expects it to take; 0 where it says nothing"""
    kind: str = "kernel"
    """or "library": cuDNN, cuBLAS, sorts; or "exchange": a collective alone"""
    collective: str = ""
    """that it is or, on a TPU, that begins in it; empty: none"""
    exchanged: int = 0
    """bytes of the collective's result, or of its operand where that is larger"""


@dataclass(frozen=True)
class Work:
    """Kernels, each with how often it is carried out, and what else there is to wait for."""

    kernels: tuple[tuple[Kernel, int], ...] = ()
    host_round_trips: int = 0
    loops: tuple["Loop", ...] = ()

    def times(self, turns: int) -> "Work":
        """The same, so often."""
        return Work(
            tuple((kernel, turns * count) for kernel, count in self.kernels),
            turns * self.host_round_trips,
            tuple(dataclasses.replace(loop, runs=turns * loop.runs) for loop in self.loops),
        )

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.kernels + other.kernels,
            self.host_round_trips + other.host_round_trips,
            self.loops + other.loops,
        )

    def _sum(self, of: Callable[[Kernel], int]) -> int:
        return sum(count * of(kernel) for kernel, count in self.kernels)

    @property
    def flops(self) -> int:
        """Of matrix products and convolutions; a multiplication and an addition are two."""
        return self._sum(lambda kernel: sum(kernel.flops.values()))

    @property
    def bytes(self) -> int:
        """Of main memory, read and written."""
        return self._sum(lambda kernel: kernel.bytes)

    @property
    def cycles(self) -> int:
        """That the compiler expects; 0 where it says nothing."""
        return self._sum(lambda kernel: kernel.cycles)

    @property
    def launches(self) -> int:
        """Kernels of the compiler's own."""
        return self._sum(lambda kernel: kernel.kind == "kernel")

    @property
    def library_calls(self) -> int:
        """Calls of libraries: cuDNN's convolutions, cuBLAS's products, sorts."""
        return self._sum(lambda kernel: kernel.kind == "library")

    @property
    def collectives(self) -> dict[str, Exchange]:
        """By kind."""
        found: dict[str, Exchange] = {}
        for kernel, count in self.kernels:
            if kernel.collective:
                before = found.get(kernel.collective, Exchange(0, 0))
                found[kernel.collective] = Exchange(
                    before.count + count, before.bytes + count * kernel.exchanged
                )
        return found


@dataclass(frozen=True)
class Loop:
    """A loop whose body no other loop with products is in: a student's step, say."""

    name: str
    turns: int
    runs: int
    """how often the loop itself is begun"""
    body: Work = field(repr=False)
    """of one turn"""


def count(module: Module, platform: str, turns: int = 1) -> Work:
    """The work of one run of a program.

    Args:
      module: the program.
      platform: "gpu", where the host has to look at each conditional, and at each turn of a loop
        whose length only the running program knows; or "tpu", which does both itself.
      turns: of each loop whose length only the running program knows.
    """
    return _Counter(module, platform == "gpu", turns).of(module.computations[module.entry])


@dataclass(frozen=True)
class _Counter:
    module: Module
    host_decides: bool
    turns: int

    def of(self, computation: Computation) -> Work:
        """The work of a computation."""
        work = Work()
        for instruction in computation.instructions:
            work += self._of_instruction(instruction, computation)
        return work

    def _of_instruction(self, instruction: Instruction, within: Computation) -> Work:
        opcode = instruction.opcode
        if opcode == "while":
            return self._of_loop(instruction, within)
        if opcode == "conditional":
            return self._of_branches(instruction)
        if opcode in ("call", "async-start"):
            name = instruction.called("to_apply") or instruction.called("calls")
            return self.of(self.module.computations[name[0]])
        if opcode in _FREE or _is_note(instruction) or self._is_scalar(instruction):
            return Work()
        to_host = opcode in _TO_HOST or "callback" in instruction.attribute("custom_call_target")
        return Work(((self._kernel(instruction, within), 1),), int(to_host))

    def _is_scalar(self, instruction: Instruction) -> bool:
        """Whether a TPU makes it in its scalar unit, alongside what its other units do."""
        scalar = all(not array.dims for array in instruction.shape)
        opcode = instruction.opcode
        alone = opcode not in ("fusion", "custom-call") and opcode not in _COLLECTIVES + _TO_HOST
        return scalar and alone and not self.host_decides

    def _of_loop(self, instruction: Instruction, within: Computation) -> Work:
        known = self.module.turns(instruction, within)
        turns = self.turns if known is None else known
        body = self.of(self.module.computations[instruction.called("body")[0]])
        work = body.times(turns)
        if self.host_decides and known is None:
            work += Work(host_round_trips=turns + 1)
        if any(loop.body.flops for loop in body.loops) or not body.flops:
            return work
        return dataclasses.replace(work, loops=(Loop(instruction.name, turns, 1, body),))

    def _of_branches(self, instruction: Instruction) -> Work:
        names = instruction.called("branch_computations") or (
            *instruction.called("true_computation"),
            *instruction.called("false_computation"),
        )
        branches = [self.of(self.module.computations[name]) for name in names]
        most = max(branches, key=lambda w: (w.flops, w.cycles, w.bytes, w.launches))
        return most + Work(host_round_trips=int(self.host_decides))

    def _kernel(self, instruction: Instruction, within: Computation) -> Kernel:
        opcode = instruction.opcode.removesuffix("-start")
        kind = {"custom-call": "library"}.get(opcode, "kernel")
        return Kernel(
            instruction.name,
            self._flops(instruction, within),
            self._bytes(instruction, within),
            instruction.number("estimated_cycles"),
            "exchange" if opcode in _COLLECTIVES else kind,
            *self._exchange(instruction, within),
        )

    def _exchange(self, instruction: Instruction, within: Computation) -> tuple[str, int]:
        """The collective that an instruction begins, and its bytes.

        A TPU spreads one over a chain of fusions, each of which shows it whole.
        """
        inside = list(self._inside(instruction, within))
        begins = any("AsyncCollectiveStart" in inner.text for inner, _ in inside)
        for inner, computation in inside:
            opcode = inner.opcode.removesuffix("-start")
            if opcode in _COLLECTIVES and (begins or "chain_id" not in inner.text):
                operands = [computation.by_name[name].shape for name in inner.operands]
                return opcode, max(sum(a.bytes for a in s) for s in (*operands, inner.shape[-1:]))
        return "", 0

    def _flops(self, instruction: Instruction, within: Computation) -> dict[str, int]:
        flops: dict[str, int] = {}
        for inner, computation in self._inside(instruction, within):
            if made := product_flops(inner, computation):
                kind = arithmetic(inner, computation)
                flops[kind] = flops.get(kind, 0) + made
        return flops

    def _inside(
        self, instruction: Instruction, within: Computation
    ) -> Iterator[tuple[Instruction, Computation]]:
        """The instruction, or those that it is a fusion of."""
        if instruction.opcode != "fusion":
            yield instruction, within
            return
        fused = self.module.computations[instruction.called("calls")[0]]
        for inner in fused.instructions:
            yield from self._inside(inner, fused)

    def _bytes(self, instruction: Instruction, within: Computation) -> int:
        if instruction.opcode == "fusion":
            return _fusion_bytes(
                instruction, self.module.computations[instruction.called("calls")[0]], within
            )
        operands = [within.by_name[name].shape for name in instruction.operands]
        opcode = instruction.opcode
        if opcode in _SLICES:
            return 2 * _in_memory(instruction.shape)
        if opcode == "dynamic-update-slice":
            return 2 * _in_memory(operands[1])
        if opcode == "copy-start":  # what it gives: destination, source, and a note of its state
            return _in_memory(instruction.shape[:2])
        return sum(map(_in_memory, [*operands, instruction.shape]))


def _is_note(instruction: Instruction) -> bool:
    target = instruction.attribute("custom_call_target")
    return instruction.opcode == "custom-call" and target.startswith(_NOTES)


def _in_memory(shape: tuple[Array, ...]) -> int:
    return sum(array.bytes for array in shape if not array.space)


def _fusion_bytes(instruction: Instruction, fused: Computation, within: Computation) -> int:
    """What a fusion reads and writes: of what it only slices the slice, of updates the update."""
    total, in_place = 0, set[str]()
    root = fused.root
    results = [fused.by_name[n] for n in root.operands] if root.opcode == "tuple" else [root]
    for result, shape in zip(results, _per_result(instruction.shape, results), strict=True):
        update = _behind_bitcasts(result, fused)
        if update.opcode == "dynamic-update-slice":
            in_place.add(_behind_bitcasts(fused.by_name[update.operands[0]], fused).name)
            scale = 0 if _in_memory(shape) == 0 else 1
            total += scale * sum(a.bytes for a in fused.by_name[update.operands[1]].shape)
        else:
            total += _in_memory(shape)
    for number, name in enumerate(instruction.operands):
        parameter = fused.parameters.get(number)
        if parameter is None or parameter.name in in_place:
            continue
        whole = _in_memory(within.by_name[name].shape)
        total += min(whole, _read(parameter, fused)) if whole else 0
    return total


def _per_result(shape: tuple[Array, ...], results: list[Instruction]) -> list[tuple[Array, ...]]:
    """The shapes of a fusion's results, in a list of all their arrays."""
    parts, at = [], 0
    for result in results:
        parts.append(shape[at : at + len(result.shape)])
        at += len(result.shape)
    return parts


def _behind_bitcasts(instruction: Instruction, within: Computation) -> Instruction:
    while instruction.opcode == "bitcast":
        instruction = within.by_name[instruction.operands[0]]
    return instruction


def _read(parameter: Instruction, fused: Computation) -> int:
    """Bytes of a parameter that a fusion reads."""
    total = 0
    for user in fused.users[parameter.name]:
        if user.opcode in _SLICES and user.operands[0] == parameter.name:
            total += sum(array.bytes for array in user.shape)
        elif user.opcode == "bitcast":
            total += _read(user, fused)
        else:
            return sum(array.bytes for array in parameter.shape)
    return total


# --- products ---


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
