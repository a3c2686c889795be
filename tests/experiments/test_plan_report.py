"""What a plan says below its table."""

import dataclasses
import io

import pytest
from rich.console import Console

from experiments import plan_report
from tx_jax.models.registry import FLOPS_FORMULA
from tx_jax.planning.plan import PhasePlan, Plan, Target

BYTES = dict.fromkeys(("parameters", "optimizer_state", "batch", "temporaries", "program", "peak"), 1)
PHASE = PhasePlan(
    steps=3600,
    batch_size=8,
    sequence_length=128,
    tokens=1024,
    flops=1e9,
    xla_flops=1e9,
    **BYTES,
    collectives=(),
    cycles=10**9,
    compile_seconds=1.0,
)
TARGET = Target("four chips", [], None, peak_flops=1e9, clock=1e9, link_bandwidth=1e9)


def shown(phase):
    text = io.StringIO()
    plan_report.show(Plan(TARGET, "chip", {"data": 4}, (phase,)), Console(file=text, width=200))
    return text.getvalue()


@pytest.mark.parametrize(
    ("steps", "expected"),
    [(5400, "1.50 hours, 6.0 chip-hours."), (86_400, "1.00 days, 4.0 chip-days.")],
)
def test_steps_of_a_second_in_hours_or_days(steps, expected):
    assert f"All steps: {expected}" in shown(dataclasses.replace(PHASE, steps=steps))


def test_what_the_formula_does_not_count_is_said():
    whole, frozen = shown(PHASE), shown(dataclasses.replace(PHASE, flops=None))
    for text, given in ((whole, True), (frozen, False)):
        formula = f"({FLOPS_FORMULA})"
        assert (f"│ MFU {formula}" in text) == (f"FLOPs per step {formula}" in text) == given
        assert ("Not all parameters train." in text) == (not given)
