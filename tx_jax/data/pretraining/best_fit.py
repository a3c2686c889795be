"""Best-fit decreasing bin packing on a histogram of lengths: its cost depends on the row length, not on the items.

Krell et al. 2021, "Efficient sequence packing without cross-contamination", also pack histograms; here all rows with
the same contents are filled in one step. The result is that of placing the items one by one, longest first, each in
the fullest row that has room for it.
"""

from collections.abc import Iterator

import numpy as np

from tx_jax.data.corpus.index import count_type
from tx_jax.data.rows import ranges

_BLOCK = 1 << 20  # items processed together
Contents = tuple[tuple[int, int], ...]  # (length, how many items of it) in one row


def pack_histogram(counts: np.ndarray, capacity: int) -> list[tuple[Contents, int]]:
    """Packs counts[n] items of each length n into rows of `capacity`.

    Returns the kinds of rows: the contents of one, and how many such rows there are. Raises ValueError for an item of
    length 0, or longer than a row.
    """
    if len(counts) > capacity + 1 and counts[capacity + 1 :].any():
        raise ValueError(f"an item is longer than {capacity=}")
    if counts[0]:
        raise ValueError("an item has length 0")
    rows: list[list[tuple[Contents, int]]] = [[] for _ in range(capacity + 1)]  # by the room that is left
    rows[capacity] = [((), int(counts.sum()))]  # empty rows, more than can be needed
    for length in np.flatnonzero(counts)[::-1].tolist():
        left = int(counts[length])
        for room in range(length, capacity + 1):  # the fullest first
            while left and rows[room]:
                left = _fill(rows, room, length, left)
    return [kind for room in rows for kind in room if kind[0]]


def _fill(rows: list[list[tuple[Contents, int]]], room: int, length: int, left: int) -> int:
    """Puts items into the rows of one kind; returns how many are left. The fullest row stays the fullest until full."""
    contents, number = rows[room].pop()
    each = room // length
    full = min(number, left // each)
    if full:
        rows[room - each * length].append(((*contents, (length, each)), full))
        number, left = number - full, left - full * each
    if number and 0 < left < each:
        rows[room - left * length].append(((*contents, (length, left)), 1))
        number, left = number - 1, 0
    if number:
        rows[room].append((contents, number))
    return left


def best_fit(lengths: np.ndarray, capacity: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Assigns items to rows of `capacity`.

    Args:
      lengths: lengths of the items, each in [1, capacity]; a length of 0 is not an item.
      capacity: capacity of a row.

    Yields blocks of rows: the items row after row, and how many each row has. Deterministic. Memory: 4 bytes an item.
    """
    blocks = range(0, len(lengths), _BLOCK)
    counts = np.zeros(capacity + 1, np.int64)
    for begin in blocks:
        counts += np.bincount(lengths[begin : begin + _BLOCK], minlength=capacity + 1)
    taken = np.cumsum(counts) - counts  # where the items of each length begin, and then the next of them to take
    by_length = np.empty(len(lengths), count_type(len(lengths)))
    placed = taken.copy()
    for begin in blocks:
        block = lengths[begin : begin + _BLOCK]
        here = np.bincount(block, minlength=capacity + 1)
        by_length[ranges(placed, here)] = begin + np.argsort(block, kind="stable")
        placed += here
    counts[0] = 0
    for contents, number in pack_histogram(counts, capacity):
        width = sum(items for _, items in contents)
        step = max(1, _BLOCK // width)  # rows
        for rows in (min(step, number - begin) for begin in range(0, number, step)):
            columns = []
            for length, items in contents:
                begin = taken[length]
                taken[length] += rows * items
                columns.append(by_length[begin : taken[length]].reshape(rows, items))
            yield np.concatenate(columns, axis=1).ravel(), np.full(rows, width)
