"""Reads a compiled program's text: its collectives, and the TPU compiler's estimates of its cycles."""

import dataclasses
import re
from collections.abc import Iterator

_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*)$")
_COLLECTIVE = re.compile(r" (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(-start)?\(")
_CALLED = re.compile(r"(body|calls|to_apply|branch_computations|(?:true|false)_computation)=(\{[^}]*\}|%?[\w.-]+)")
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
_WITH_LAYOUT = re.compile(r"(\b[a-z]+\d*\w*\[[\d,]*\])(\{[^}]*\})?")
_OPCODE = re.compile(r"(\(.*?\)|\S+) ([a-z][a-z-]*)\(")  # a shape, which may be a tuple, and what makes it
_INSIDE = re.compile(r" (fusion|async-start|slice-start)\(")  # what these call does not run by itself
_FREE = frozenset({"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call"})


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of one kind in one run of the program on one device.

    Attributes:
      count: how many are run; every iteration of a loop counts.
      bytes: bytes of the whole arrays that they reduce, gather, scatter or permute.
      sent: bytes that each device must send at least: for an all-reduce over n devices 2 (n - 1) / n of its bytes, for
        a gather, a scatter and an all-to-all (n - 1) / n (Chan et al. 2007).
    """

    kind: str
    count: int
    bytes: int
    sent: int


@dataclasses.dataclass(frozen=True)
class Program:
    """The result of `read`.

    Attributes:
      cycles: the sum of the TPU compiler's estimates for every fusion; None for other compilers. Data transfers between
        memories during the computation, and collectives, have no estimate.
    """

    collectives: tuple[Collective, ...]
    cycles: int | None


@dataclasses.dataclass(frozen=True)
class Instruction:
    """An instruction that runs by itself, not as part of a fusion.

    Attributes:
      opcode: fusion, copy, custom-call, ...
      operation: the JAX operation that it belongs to, such as
        jit(train_step)/transpose(jvp(Encoder))/encoder/layer_1/mlp/wo/dot_general; of a fusion, that of its result.
      shape: that of its result, with layouts.
      times: how often it is run; every iteration of a loop counts.
      cycles: the TPU compiler's estimate for one run; None if it makes none.
      bytes: bytes of the operands and results that lie in HBM, for one run, not of those in the chip's own memory. Of a
        copy that runs beside others (copy-start, async-start, slice-start) those that it moves; of its end none. Of an
        operand that is looked up in, or changed in its place, the part that is read or changed.
      target: of a custom call, the name of what is called.
    """

    name: str
    opcode: str
    operation: str
    shape: str
    times: int
    cycles: int | None
    bytes: int
    target: str


def read(text: str) -> Program:
    """Reads the text of a compiled program (`jax.stages.Compiled.as_text`)."""
    computations, entry = _computations(text)
    found: dict[str, tuple[str, int, int, int]] = {}  # a collective's identity -> its kind, times, bytes, bytes sent
    cycles = 0
    for _, instruction, rest, times, in_fusion in _walk(computations, entry):
        if match := _COLLECTIVE.search(rest):
            # One collective may be spread over a chain of fusions, each with a part of it: they share a channel.
            channel = re.search(r"channel_id=(\d+)", rest)
            identity = f"{match[1]} {channel[1] if channel else instruction}"
            found[identity] = (match[1], times, *_sizes(rest[: match.start()], rest, match[1], bool(match[2])))
        if not in_fusion:
            cycles += times * (_estimate(rest) or 0)
    totals: dict[str, list[int]] = {}
    for kind, times, size, sent in found.values():
        total = totals.setdefault(kind, [0, 0, 0])
        for i, value in enumerate((1, size, sent)):
            total[i] += times * value
    return Program(tuple(Collective(kind, *totals[kind]) for kind in sorted(totals)), cycles or None)


def instructions(text: str) -> list[Instruction]:
    """What a compiled program runs, in its order; without parameters, tuples and constants."""
    computations, entry = _computations(text)
    shapes = {
        computation: {name: _OPCODE.match(rest)[1] for name, rest in lines if _OPCODE.match(rest)}
        for computation, lines in computations.items()
    }
    found = []
    for computation, name, rest, times, in_fusion in _walk(computations, entry):
        if in_fusion or not (match := _OPCODE.match(rest)) or match[2] in _FREE:
            continue
        operands = re.findall(r"%([\w.-]+)", rest[match.end() :].partition(")")[0])
        parts = _parts_read(computations, rest) if match[2] == "fusion" else {}
        inputs = [parts.get(i, shapes[computation].get(operand, "")) for i, operand in enumerate(operands)]
        operation, target = (re.search(form, rest) for form in (r'op_name="([^"]*)"', r'custom_call_target="([^"]*)"'))
        found.append(
            Instruction(
                name,
                match[2],
                operation[1] if operation else "",
                match[1],
                times,
                _estimate(rest),
                _traffic(match[2], match[1], inputs),
                target[1] if target else "",
            )
        )
    return found


def _walk(computations: dict[str, list[tuple[str, str]]], entry: str) -> Iterator[tuple[str, str, str, int, bool]]:
    """Every instruction that is run: its computation, its name, the rest of its line, how often it is run, and whether
    it is part of a fusion."""

    def visit(computation: str, times: int, in_fusion: bool) -> Iterator[tuple[str, str, str, int, bool]]:
        for name, rest in computations.get(computation, ()):
            yield computation, name, rest, times, in_fusion
            for role, called in _CALLED.findall(rest):
                again = times * _trips(rest, computations) if role == "body" else times
                for part in re.findall(r"[\w.-]+", called):
                    yield from visit(part, again, in_fusion or bool(_INSIDE.search(rest)) or role == "to_apply")

    yield from visit(entry, 1, False)


def _estimate(rest: str) -> int | None:
    estimate = re.search(r'"estimated_cycles":"(\d+)"', rest)
    return int(estimate[1]) if estimate else None


def _traffic(opcode: str, shape: str, inputs: list[str]) -> int:
    """Bytes that an instruction reads from HBM and writes to it."""
    if opcode.endswith("-done"):
        return 0
    if opcode == "dynamic-update-slice":  # in its place: the update is written
        return sum(_array_bytes(inputs[1])) if _bytes_in_hbm(shape) else 0
    if opcode == "copy-start":  # the result, the operand and the copy's state
        inputs = []
    elif opcode in (
        "async-start",
        "slice-start",
    ):  # the operands, the result, ...: part of an operand is brought to or from HBM
        return next(_array_bytes(shape[shape.find(")") :]), 0)
    return sum(map(_bytes_in_hbm, [shape, *inputs]))


def _parts_read(computations: dict[str, list[tuple[str, str]]], rest: str) -> dict[int, str]:
    """Of a fusion's operands of which only parts are read, by their numbers: the shapes of these parts."""
    called = re.search(r"calls=%?([\w.-]+)", rest)
    lines = computations.get(called[1], []) if called else []
    uses: dict[str, list[tuple[str, str]]] = {}  # of each operand: what is made of it, and its shape
    for _, inner in lines:
        if not (match := _OPCODE.match(inner)):
            continue
        for place, operand in enumerate(re.findall(r"%([\w.-]+)", inner[match.end() :].partition(")")[0])):
            looked_up = match[2] in ("dynamic-slice", "gather") and place == 0
            uses.setdefault(operand, []).append(("look-up" if looked_up else match[2], match[1]))
    parts = {}
    for name, inner in lines:
        found, number = uses.get(name, []), re.search(r" parameter\((\d+)\)", inner)
        if number and found and all(made == "look-up" for made, _ in found):
            parts[int(number[1])] = " ".join(shape for _, shape in found)
    return parts


def _bytes_in_hbm(shape: str) -> int:
    """Of an array or of a tuple's arrays; layouts name other memories than HBM, such as S(1)."""
    return sum(
        sum(_array_bytes(array)) for array, layout in _WITH_LAYOUT.findall(shape) if not re.search(r"S\(\d+\)", layout)
    )


def _computations(text: str) -> tuple[dict[str, list[tuple[str, str]]], str]:
    """The instructions of each computation, as name and rest of the line; and the name of the entry computation."""
    computations, entry, current = {}, "", None
    for line in text.splitlines():
        if current is None and line.endswith("{") and (head := re.match(r"(ENTRY )?%?([\w.-]+) \(", line)):
            current = computations[head[2]] = []
            entry = head[2] if head[1] else entry
        elif re.fullmatch(r"\}(, execution_thread=.*)?", line):
            current = None
        elif current is not None and (match := _INSTRUCTION.match(line)):
            current.append((match[1], match[2]))
        elif current:  # the attributes of a Pallas kernel take several lines, which may begin with a brace
            current[-1] = (current[-1][0], current[-1][1] + line)
    return computations, entry


def _trips(rest: str, computations: dict[str, list[tuple[str, str]]]) -> int:
    """How often a loop runs; 1 if it is not known."""
    if known := re.search(r'"known_trip_count":\{"n":"(\d+)"', rest):
        return int(known[1])
    # The TPU compiler does not record it: a scan counts up from 0 to a constant.
    condition = re.search(r"condition=%?([\w.-]+)", rest)
    lines = computations.get(condition[1], ()) if condition else ()
    counts = [int(match[1]) for _, line in lines if (match := re.search(r"constant\((\d+)\)", line))]
    return counts[0] if len(counts) == 1 else 1


def _sizes(shape: str, rest: str, kind: str, started: bool) -> tuple[int, int]:
    """Bytes of the whole array, and the minimum of bytes that each device sends."""
    size = sum(_array_bytes(shape))
    n = _group_size(rest)
    if kind == "collective-permute":
        size = next(_array_bytes(shape)) if started else size  # the start has the operand, the result and its state
        return size, size
    if kind == "all-gather" and started:  # operands beside results, n times as large
        size = size * n // (n + 1)
    if kind == "reduce-scatter":
        size *= n
    return size, size * (n - 1) * (2 if kind == "all-reduce" else 1) // n


def _array_bytes(shape: str) -> Iterator[int]:
    """The bytes of each array in a shape such as (f32[8,128]{1,0}, bf16[])."""
    for dtype, dimensions in _ARRAY.findall(shape):
        width = re.search(r"\d+", dtype)
        elements = 1
        for size in filter(None, dimensions.split(",")):
            elements *= int(size)
        yield elements * max(8, int(width[0]) if width else 8) // 8  # pred takes a byte


def _group_size(rest: str) -> int:
    """The number of devices in a collective's group, from any of the three forms in which groups are printed."""
    if match := re.search(r"replica_groups=\{\{([\d,]*)\}", rest):
        return match[1].count(",") + 1
    if match := re.search(r"replica_groups=\[(?:\d+,)*(\d+)\]<=", rest):
        return int(match[1])
    if match := re.search(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\S+)? *\{([^}]*)\}", rest):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", match[1])}
        group = 1
        for name, part in re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", match[2]):
            group *= int(part) if part else sizes[name]
        return group
    return 1
