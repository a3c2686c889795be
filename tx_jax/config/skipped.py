"""Batches that training skips: PaLM's way past a loss spike (Chowdhery et al. 2022, 5.1).

Its authors restarted from a checkpoint about 100 steps before the spike and skipped 200 to 500 batches around it; the
loss did not spike again, although the same batches did no harm from another checkpoint.

Batches count from 1, as steps do: if nothing is skipped, step n takes batch n.
"""

from collections.abc import Sequence

from tx_jax.errors import InputError

Ranges = Sequence[tuple[int, int]]  # first and last of each; ascending, without overlap


def parse(text: str) -> Ranges:
    """Batches from text such as "7,100-120".

    Raises:
      InputError: the text has another form.
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
        raise InputError(f"data.skip_batches={text!r}: {part!r} is not a batch from 1 on or a range such as 100-120")
    return int(first), int(last)


def batch_of(step: int, skipped: Ranges, start: int = 0) -> int:
    """The batch that a step takes. The step's phase begins after step `start`, with batch start + 1."""
    batch = step
    for first, last in skipped:
        if start < last and first <= batch:
            batch += last - max(first, start + 1) + 1
    return batch
