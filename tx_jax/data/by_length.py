"""Rows of many lengths as batches of few shapes, each of which is compiled once."""

from collections.abc import Iterator

import numpy as np

SHORTEST = 16  # what the shortest rows are filled up to
STEP_BATCHES = 4  # of a length between two powers of two, for it to be worth its compilation
# Of a batch on one CPU: its caches hold the activations. BERT-mini's take 35 microseconds a token with 1,024 tokens, 40
# with 4,096, and 57 with 128 (2 cores of an AMD EPYC with AVX-512).
CPU_TOKENS = 1024


def bucket(length: int, longest: int | None = None) -> int:
    """The next power of two from `SHORTEST` on, up to `longest`."""
    size = max(SHORTEST, 1 << (length - 1).bit_length())
    return size if longest is None else min(size, longest)


def batches_by_length(
    lengths: np.ndarray, longest: int, batch_size: int, devices: int = 1, *, on_cpu: bool = False
) -> Iterator[tuple[np.ndarray, int, int]]:
    """Each row once: (indices of the rows, number of rows to compute, their padded length), by ascending length.

    Padded lengths are powers of two from `SHORTEST` on, three steps between each two, and `longest`. A power of two is
    used where its rows fill a batch, a step where they fill `STEP_BATCHES`; the others go to the next length. The last
    batch, of the longest rows, has a power of two (or `longest`) as its length and as many rows as it needs, rounded up
    to a power of two.

    Args:
      lengths: int [N], of the rows.
      batch_size: rows of the length `longest`; of shorter ones as many more as have as many tokens.
      devices: numbers of rows are multiples of this.
      on_cpu: batches may be smaller, as is faster there: `CPU_TOKENS` a device.
    """
    order = np.argsort(lengths, kind="stable")
    ordered = np.asarray(lengths)[order]
    tokens = min(batch_size * longest, CPU_TOKENS * devices) if on_cpu else batch_size * longest
    begin, last = 0, bucket(int(max(lengths, default=1)), longest)
    for length in _lengths(last):
        size = max(1, tokens // length // devices) * devices
        whole = (int(np.searchsorted(ordered, length, side="right")) - begin) // size
        if whole >= STEP_BATCHES or length in (bucket(length), last):
            for _ in range(whole):
                yield order[begin : begin + size], size, length
                begin += size
    if (left := len(order) - begin) > 0:
        yield order[begin:], min(size, devices << (-(-left // devices) - 1).bit_length()), last


def _lengths(last: int) -> list[int]:
    """Powers of two from `SHORTEST` on, with three steps between each two, up to `last`."""
    powers = (SHORTEST << i for i in range(last.bit_length()))
    steps = (power * quarters // 4 for power in powers for quarters in (4, 5, 6, 7))
    return [*(length for length in steps if length < last), last]
