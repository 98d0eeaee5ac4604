"""A reader of compiled programs: XLA's text (`compiled.as_text()`) as computations of instructions.

It reads what counting needs and nothing more: shapes with their tiles and memory space, opcodes,
operands, and attributes as they stand.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

_BITS = {"pred": 8, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"([a-z][a-z0-9]*)\[([0-9,<=]*)\](?:\{([^{}]*)\})?")
_TILE = re.compile(r"T\(([0-9,*]+)\)")
_COMMENT = re.compile(r"/\*.*?\*/")
_NAME = re.compile(r"%?([\w.\-]+)")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')


@dataclass(frozen=True)
class Array:
    """The shape of an array, and how it lies in memory."""

    dtype: str
    dims: tuple[int, ...]
    order: tuple[int, ...] = ()
    """its axes from the one that runs fastest; empty: as in C"""
    tile: tuple[int, ...] = ()
    """that the fastest axes are filled up to multiples of; empty: none"""
    space: int = 0
    """0: the device's main memory; others are on the chip"""

    @property
    def size(self) -> int:
        """Entries."""
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        """What it takes in memory, its tiles filled up."""
        dims = list(self.dims)
        order = self.order or tuple(reversed(range(len(dims))))
        for axis, multiple in zip(order, reversed(self.tile), strict=False):
            dims[axis] = -(-dims[axis] // multiple) * multiple
        return math.prod(dims) * _bits(self.dtype) // 8


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    shape: tuple[Array, ...]
    """its result; the arrays of a tuple, however nested, in order"""
    operands: tuple[str, ...]
    text: str
    """attributes, as they stand"""
    is_root: bool = False

    def called(self, attribute: str) -> tuple[str, ...]:
        """The computations that an attribute names: `calls`, `body`, `branch_computations`, …"""
        match = re.search(rf"\b{attribute}=(\{{[^}}]*\}}|%?[\w.\-]+)", self.text)
        return tuple(_NAME.findall(match[1])) if match else ()

    def attribute(self, name: str) -> str:
        """An attribute without braces around it; empty where it is not there."""
        match = re.search(rf"\b{name}=(?:\{{([^}}]*)\}}|\"([^\"]*)\"|([^\s,]+))", self.text)
        return next((part for part in match.groups() if part is not None), "") if match else ""

    def number(self, name: str) -> int:
        """A whole number in the compiler's notes; 0 where there is none of the name."""
        match = re.search(rf'"{name}":"?(\d+)', self.text)
        return int(match[1]) if match else 0

    def numbers(self, name: str) -> list[int]:
        """A list of whole numbers in the compiler's notes."""
        match = re.search(rf'"{name}":\[([^\]]*)\]', self.text)
        return [int(digits) for digits in re.findall(r"\d+", match[1])] if match else []

    @property
    def known_turns(self) -> int | None:
        """How often a `while` runs its body, where the compiler wrote it down."""
        match = _TRIPS.search(self.text)
        return int(match[1]) if match else None


@dataclass(frozen=True)
class Computation:
    """A list of instructions, in the order in which they are carried out."""

    name: str
    instructions: tuple[Instruction, ...]

    @cached_property
    def by_name(self) -> dict[str, Instruction]:
        """Its instructions."""
        return {instruction.name: instruction for instruction in self.instructions}

    @cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """Of each instruction, those that read it."""
        users: dict[str, list[Instruction]] = {name: [] for name in self.by_name}
        for instruction in self.instructions:
            for operand in dict.fromkeys(instruction.operands):
                users.setdefault(operand, []).append(instruction)
        return users

    @property
    def root(self) -> Instruction:
        """What it gives."""
        return next((i for i in self.instructions if i.is_root), self.instructions[-1])

    @cached_property
    def parameters(self) -> dict[int, Instruction]:
        """By their number."""
        return {int(i.operands[0]): i for i in self.instructions if i.opcode == "parameter"}


@dataclass(frozen=True)
class Module:
    """A compiled program."""

    computations: dict[str, Computation]
    entry: str

    def turns(self, loop: Instruction, within: Computation) -> int | None:
        """How often a `while` runs its body; None: only the running program knows.

        Where the compiler did not write it down, a loop that counts from a constant up to a
        constant tells: one compared with the other decides whether it goes on.
        """
        if loop.known_turns is not None:
            return loop.known_turns
        (condition,) = loop.called("condition")
        return _counted(self.computations[condition], loop, within)


def parse(text: str) -> Module:
    """Reads a program.

    Raises:
      ValueError: this is not a compiled program's text.
    """
    computations: dict[str, Computation] = {}
    entry, name, lines = "", "", list[Instruction]()
    for line in text.splitlines():
        if header := _HEADER.match(_COMMENT.sub("", line)):
            name, lines = header[2], []
            entry = name if header[1] else entry
        elif line.startswith("}") and name:
            computations[name] = Computation(name, tuple(lines))
            name = ""
        elif name and (match := _INSTRUCTION.match(_COMMENT.sub("", line))):
            lines.append(_instruction(match[2], match[3], bool(match[1])))
    if not entry:
        raise ValueError("no entry computation: this is not the text of a compiled program")
    return Module(computations, entry)


def arrays(text: str) -> tuple[Array, ...]:
    """The arrays in a type's text: one, or those of a tuple."""
    return tuple(_array(*match) for match in _ARRAY.findall(text))


def _array(dtype: str, dims: str, layout: str) -> Array:
    sizes = tuple(int(d.lstrip("<=")) for d in dims.split(",") if d)
    order, _, rest = layout.partition(":")
    tile = _TILE.search(rest)
    space = re.search(r"S\((\d+)\)", rest)
    return Array(
        dtype,
        sizes,
        tuple(int(axis) for axis in order.split(",") if axis.isdigit()),
        tuple(1 if t == "*" else int(t) for t in tile[1].split(",")) if tile else (),
        int(space[1]) if space else 0,
    )


def _bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 32


def _instruction(name: str, rest: str, is_root: bool) -> Instruction:
    shape, rest = _split_type(rest)
    opcode, _, rest = rest.partition("(")
    inside, text = _balanced(rest)
    operands = tuple(_operands(inside, opcode))
    return Instruction(name, opcode.strip(), arrays(shape), operands, text, is_root)


def _split_type(text: str) -> tuple[str, str]:
    if not text.startswith("("):
        shape, _, rest = text.partition(" ")
        return shape, rest
    inside, rest = _balanced(text[1:])
    return inside, rest.lstrip()


def _balanced(text: str) -> tuple[str, str]:
    """What stands before the parenthesis that closes one opened before, and what after it."""
    depth = 1
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return text[:i], text[i + 1 :]
    return text, ""


def _operands(inside: str, opcode: str) -> Iterator[str]:
    if opcode in ("parameter", "constant"):  # its number, its value
        yield inside
        return
    depth = start = 0
    for i, letter in enumerate(inside + ","):
        depth += (letter in "({[") - (letter in ")}]")
        if letter == "," and not depth:
            word = inside[start:i].split(" ")[-1].strip()
            if word.startswith("%"):
                yield word[1:]
            start = i + 1


def _counted(condition: Computation, loop: Instruction, within: Computation) -> int | None:
    """Turns of a loop whose condition compares its counter with a constant."""
    root = condition.root
    if root.opcode != "compare" or root.attribute("direction") != "LT":
        return None
    counter, end = root.operands
    place = condition.by_name[counter].attribute("index")
    start = within.by_name[loop.operands[0]]
    if start.opcode != "tuple" or not place.isdigit():
        return None
    first, last = _constant(within, start.operands[int(place)]), _constant(condition, end)
    return None if first is None or last is None else max(0, last - first)


def _constant(computation: Computation, name: str) -> int | None:
    """The whole number that an instruction is, itself or as a copy."""
    instruction = computation.by_name[name]
    while instruction.opcode in ("copy", "bitcast"):
        instruction = computation.by_name[instruction.operands[0]]
    digits = instruction.operands[0] if instruction.opcode == "constant" else ""
    return int(digits) if re.fullmatch(r"-?\d+", digits) else None
