"""What attention's TPU kernels cost, by a stated model: the compiler's estimates leave them out.

A kernel takes the longest of three times, as if all of its units were always busy: its arrays through memory, its
products in the matrix units, which multiply 128 numbers at once even where a head has 64, and its operations on
vectors, counted in the compiler's code for each score. That is a lower bound. The compiler's schedule of the code,
which does not wait for memory, is apart: `benchmarks/attention_kernels.py` reads it.
"""

import dataclasses
import math
from collections.abc import Iterable

from tx_jax.nn.attention import relative_scores, rows, splash
from tx_jax.nn.attention.case import Case
from tx_jax.nn.attention.rows_kernels import LANES
from tx_jax.nn.masks import Mask
from tx_jax.planning import hlo
from tx_jax.planning.tpu_slices import GENERATIONS


@dataclasses.dataclass(frozen=True)
class Chip:
    """
    Attributes:
      flops: peak of the matrix units in bf16, per second.
      bandwidth: bytes per second of the memory.
      vector: operations per second of the vector units: of 4 instructions a cycle, on 1,024 numbers each, in each core.
    """

    flops: float
    bandwidth: float
    vector: float


# Google Cloud's pages on each generation, as of November 2026; the clock is the peak over the FLOPs per cycle.
CHIPS = {
    "v4": Chip(275e12, GENERATIONS["v4"].memory_bandwidth, 2 * 4096 * 1.05e9),
    "v5e": Chip(197e12, GENERATIONS["v5e"].memory_bandwidth, 4096 * 1.5e9),
    "v5p": Chip(459e12, GENERATIONS["v5p"].memory_bandwidth, 2 * 4096 * 1.75e9),
    "v6e": Chip(918e12, GENERATIONS["v6e"].memory_bandwidth, 4096 * 1.75e9),
}


@dataclasses.dataclass(frozen=True)
class Cost:
    """The work of one call of a kernel.

    Attributes:
      bytes: of the arrays that it reads and writes, as they lie in memory.
      flops: of the products, with the lanes that a head leaves empty.
      operations: on single numbers, by the vector units.
    """

    bytes: float
    flops: float
    operations: float

    def longest(self, chip: str) -> tuple[float, str]:
        """Seconds on a chip, a key of `CHIPS`, and what takes them."""
        times = self.seconds(CHIPS[chip])
        unit = max(times, key=lambda unit: times[unit])
        return times[unit], unit

    def seconds(self, chip: Chip) -> dict[str, float]:
        return {
            "memory": self.bytes / chip.bandwidth,
            "matrix units": self.flops / chip.flops,
            "vector units": self.operations / chip.vector,
        }


# Operations on vectors for each score, in the forward and the backward kernel, counted in the code that libtpu 0.0.42
# makes for a v5e with 512 queries and keys, heads of 64 and padding.
_OPERATIONS = {"rows": (8.4, 13.0), "rows, dropout": (18.5, 27.1), "splash": (14.2, 13.9), "relative": (5.4, 24.1)}
_PRODUCTS = (2, 5)  # forward: scores, y; backward: scores, and the gradients of v, the probabilities, q and k
_TERMS = 2  # of DeBERTa's scores


def costs(name: str, case: Case, batch: int, heads: int) -> tuple[Cost, Cost]:
    """The work of the forward and of the backward kernel on one device.

    Args:
      name: "rows", "splash", or "relative", which is of the scores alone, with both of DeBERTa's terms.
      batch, heads: those of the device.
    """
    if name == "relative":
        return _relative_costs(case, batch, heads)
    if name == "rows":
        of_head = [_rows_scores(case, heads)] * 2
    else:
        of_head = [_splash_scores(case, keys) for keys in _splash_keys(case)]
    operations = _OPERATIONS["rows, dropout" if name == "rows" and case.dropout else name]
    moved = (_rows_bytes if name == "rows" else _splash_bytes)(case, batch, heads)
    wide = math.ceil(case.head_dim / LANES) * LANES

    def part(i: int) -> Cost:
        scores = batch * heads * of_head[i]
        return Cost(moved[i], 2 * _PRODUCTS[i] * scores * wide, operations[i] * scores)

    return part(0), part(1)


# What the names of the kernels' calls in a compiled program contain: forward, backward.
CALLS = {
    "rows": (rows.FORWARD, rows.BACKWARD),
    "splash": ("mha_fwd", "mha_dkv"),
    "relative": (relative_scores.FORWARD, relative_scores.BACKWARD),
}


def seconds_of_step(
    instructions: Iterable[hlo.Instruction], cases: Iterable[tuple[Case, int]], batch: int, heads: int, chip: str
) -> float:
    """The time of all calls of attention's kernels in a step, on one device.

    Args:
      instructions: those of the compiled step.
      cases: the step's cases, and the number of layers that have each; a call is taken for their mean.
      batch, heads: those of a device, in one call.
    """
    cases, total = list(cases), 0.0
    calls = [(each.name + each.operation, each.times) for each in instructions if each.opcode == "custom-call"]
    for name, parts in CALLS.items():
        for i, part in enumerate(parts):
            times = sum(count for text, count in calls if part in text)
            if times:
                each = sum(layers * costs(name, case, batch, heads)[i].longest(chip)[0] for case, layers in cases)
                total += times * each / sum(layers for _, layers in cases)
    return total


def _relative_costs(case: Case, batch: int, heads: int) -> tuple[Cost, Cost]:
    """A term's products have T + 128 columns. Backward, each also turns its gradient and its tokens upside down."""
    size = 4 if case.dtype == "float32" else 2
    scores, tokens = batch * heads * case.queries**2, batch * heads * case.queries * case.head_dim * size
    wide, near, own = math.ceil(case.head_dim / LANES) * LANES, 1 + LANES / case.queries, LANES / case.queries
    products = 1 + _TERMS * near, 2 + _TERMS * (2 * near + 1 + own)
    moved = 2 * tokens + 4 * scores, 4 * tokens + size * scores

    def part(i: int) -> Cost:
        return Cost(moved[i], 2 * products[i] * scores * wide, _OPERATIONS["relative"][i] * scores)

    return part(0), part(1)


def _rows_scores(case: Case, heads: int) -> int:
    """The scores of a head that are computed."""
    mask = Mask(causal=case.causal, window=case.window)
    plan = rows.make_plan((1, case.queries, heads, case.head_dim), case.keys, mask)
    return sum(plan.block * (high - low) for _, low, high in plan.spans())


def _splash_keys(case: Case) -> tuple[int, int]:
    """The keys of a step of the forward and of the backward kernel's grid."""
    return splash.block(case.keys), splash.backward_block(case.keys, case.causal or case.window > 0)


def _splash_scores(case: Case, across: int) -> int:
    """The scores of a head in splash attention, which computes all of a step of the grid or nothing.

    Args:
      across: keys of a step.
    """
    down, count = splash.block(case.queries), 0
    for query in range(0, case.queries, down):
        for key in range(0, case.keys, across):
            hidden = case.causal and key > query + down - 1
            if case.window:
                side = case.window // 2
                hidden |= key > query + down - 1 + side or key + across - 1 < query - side
            count += not hidden
    return count * across * down


def _rows_bytes(case: Case, batch: int, heads: int) -> tuple[int, int]:
    size = 4 if case.dtype == "float32" else 2
    queries, keys = (batch * length * heads * case.head_dim * size for length in (case.queries, case.keys))
    sums = batch * heads * case.queries * 4
    return 2 * queries + 2 * keys + sums, 3 * queries + 4 * keys + sums


def _splash_bytes(case: Case, batch: int, heads: int) -> tuple[int, int]:
    """Rows of an array [T, K] are filled up to 128 lanes; keys are read once for every block of queries, and in the
    backward kernel queries once for every block of keys; its sums of the queries' gradients are written for each."""
    size = 4 if case.dtype == "float32" else 2
    wide = math.ceil(case.head_dim / LANES) * LANES * size
    queries, keys = batch * heads * case.queries * wide, batch * heads * case.keys * wide
    down, (across, backward_across) = splash.block(case.queries), _splash_keys(case)
    again = max(1, _splash_scores(case, across) / case.keys / down)
    again_queries = max(1, _splash_scores(case, backward_across) / case.queries / backward_across)
    sums, written = batch * heads * case.queries * LANES * 4, queries * case.keys / backward_across
    return int(2 * queries + 2 * keys * again + sums), int(2 * queries * again_queries + written + 4 * keys)
