"""Bounds for statistical tests: a right program exceeds them less than once in a million runs."""

import math


def share_bound(p: float, n: int, *, tests: int = 1, alarm: float = 1e-6) -> float:
    """How far the share of successes in n independent trials of probability p may be from p.

    Bernstein's inequality, two-sided, with the rate of false alarms divided among `tests` shares that are compared.
    It holds for any n, and for draws without replacement.
    """
    log = math.log(2 * tests / alarm)
    return log / (3 * n) + math.sqrt((log / (3 * n)) ** 2 + 2 * log * p * (1 - p) / n)
