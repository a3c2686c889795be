"""Batches that training leaves out: the way past a spike of the loss that PaLM took (Chowdhery et al. 2022, 5.1).

Its authors restarted from a checkpoint of about 100 steps before the spike and left out 200 to 500 batches, those
around it among them; the loss did not jump again, although the same batches did no harm elsewhere.

Batches count from 1, as steps do: without anything left out, step n takes batch n.
"""

from collections.abc import Sequence

from tx_jax.errors import InputError

Ranges = Sequence[tuple[int, int]]  # first and last of each; ascending, without overlap


def parse(text: str) -> Ranges:
    """Batches from text such as "7,100-120".

    Raises:
      InputError: it is something else.
    """
    ranges: list[tuple[int, int]] = []
    for first, last in sorted(_parse_part(part, text) for part in text.split(",") if text):
        if ranges and first <= ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], max(last, ranges[-1][1])
        else:
            ranges.append((first, last))
    return tuple(ranges)


def _parse_part(part: str, text: str) -> tuple[int, int]:
    first, dash, last = part.strip().partition("-")
    last = last if dash else first
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise InputError(f"data.skip_batches={text!r}: {part!r} is no batch from 1 on, nor a range such as 100-120")
    return int(first), int(last)


def batch_of(step: int, skipped: Ranges, start: int = 0) -> int:
    """The batch that a step takes, where the phase of the step begins after step `start` with batch start + 1."""
    batch = step
    for first, last in skipped:
        if start < last and first <= batch:
            batch += last - max(first, start + 1) + 1
    return batch
