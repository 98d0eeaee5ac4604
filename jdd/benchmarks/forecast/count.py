"""What a compiled program does when it runs: arithmetic, memory traffic, launches, exchanges.

Loops count by their turns, of the branches of a conditional the one with the most work.
"""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from jdd.benchmarks.forecast.hlo import Computation, Instruction, Module
from jdd.benchmarks.forecast.products import arithmetic, product_flops
from jdd.benchmarks.forecast.traffic import traffic

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
        exchanges: dict[str, Exchange] = {}
        for kernel, count in self.kernels:
            if kernel.collective:
                before = exchanges.get(kernel.collective, Exchange(0, 0))
                exchanges[kernel.collective] = Exchange(
                    before.count + count, before.bytes + count * kernel.exchanged
                )
        return exchanges


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
        trip_count = self.module.turns(instruction, within)
        turns = self.turns if trip_count is None else trip_count
        body = self.of(self.module.computations[instruction.called("body")[0]])
        work = body.times(turns)
        if self.host_decides and trip_count is None:
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
        fused = None
        if instruction.opcode == "fusion":
            fused = self.module.computations[instruction.called("calls")[0]]
        return traffic(instruction, within, fused)


def _is_note(instruction: Instruction) -> bool:
    target = instruction.attribute("custom_call_target")
    return instruction.opcode == "custom-call" and target.startswith(_NOTES)
