"""The bytes of main memory that an instruction of a compiled program reads and writes."""

from jdd.benchmarks.forecast.hlo import Array, Computation, Instruction

_SLICES = ("dynamic-slice", "slice", "gather")


def traffic(instruction: Instruction, within: Computation, fused: Computation | None) -> int:
    """Bytes read and written, tiles filled up; what lies on the chip costs nothing.

    Args:
      instruction: which.
      within: the computation that it is in.
      fused: what it is a fusion of; None: it is none.
    """
    if fused is not None:
        return _fusion_bytes(instruction, fused, within)
    operands = [within.by_name[name].shape for name in instruction.operands]
    if instruction.opcode in _SLICES:
        return 2 * _in_memory(instruction.shape)
    if instruction.opcode == "dynamic-update-slice":
        return 2 * _in_memory(operands[1])
    if instruction.opcode == "copy-start":  # it gives destination, source, and a note of its state
        return _in_memory(instruction.shape[:2])
    return sum(map(_in_memory, [*operands, instruction.shape]))


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


def _read(source: Instruction, fused: Computation) -> int:
    """Bytes of a parameter, or of a slice of one, that a fusion reads."""
    whole, total = sum(array.bytes for array in source.shape), 0
    if source is fused.root:
        return whole
    for user in fused.users[source.name]:
        if user.opcode != "bitcast" and not (
            user.opcode in _SLICES and user.operands[0] == source.name
        ):
            return whole
        total += _read(user, fused)
    return min(whole, total)
