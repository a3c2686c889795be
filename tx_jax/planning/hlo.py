"""Reads a compiled program's text: its collectives, and the TPU compiler's estimates of its cycles."""

import collections
import dataclasses
import re
from collections.abc import Iterator

_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*)$")
_COLLECTIVE = re.compile(r" (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(-start)?\(")
_CALLED = re.compile(r"(body|calls|to_apply|branch_computations|(?:true|false)_computation)=(\{[^}]*\}|%?[\w.-]+)")
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")


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


def read(text: str) -> Program:
    """Reads the text of a compiled program (`jax.stages.Compiled.as_text`)."""
    computations, entry = _computations(text)
    found: dict[str, tuple[str, int, int, int]] = {}  # a collective's identity -> its kind, times, bytes, bytes sent
    cycles = collections.Counter()

    def visit(name: str, times: int, in_fusion: bool) -> None:
        for instruction, rest in computations.get(name, ()):
            if match := _COLLECTIVE.search(rest):
                # One collective may be spread over a chain of fusions, each with a part of it: they share a channel.
                channel = re.search(r"channel_id=(\d+)", rest)
                identity = f"{match[1]} {channel[1] if channel else instruction}"
                found[identity] = (match[1], times, *_sizes(rest[: match.start()], rest, match[1], bool(match[2])))
            if not in_fusion and (estimate := re.search(r'"estimated_cycles":"(\d+)"', rest)):
                cycles["sum"] += times * int(estimate[1])
            for role, called in _CALLED.findall(rest):
                again = times * _trips(rest, computations) if role == "body" else times
                for part in re.findall(r"[\w.-]+", called):
                    visit(part, again, in_fusion or " fusion(" in rest)

    visit(entry, 1, False)
    totals: dict[str, list[int]] = {}
    for kind, times, size, sent in found.values():
        total = totals.setdefault(kind, [0, 0, 0])
        for i, value in enumerate((1, size, sent)):
            total[i] += times * value
    return Program(tuple(Collective(kind, *totals[kind]) for kind in sorted(totals)), cycles["sum"] or None)


def _computations(text: str) -> tuple[dict[str, list[tuple[str, str]]], str]:
    """The instructions of each computation, as name and rest of the line; and the name of the entry computation."""
    computations, entry, current = {}, "", None
    for line in text.splitlines():
        if current is None and line.endswith("{") and (head := re.match(r"(ENTRY )?%?([\w.-]+) \(", line)):
            current = computations[head[2]] = []
            entry = head[2] if head[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (match := _INSTRUCTION.match(line)):
            current.append((match[1], match[2]))
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
