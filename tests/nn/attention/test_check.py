"""The comparison of a kernel with XLA's attention, before a training: here with our own in interpret mode."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from tx_jax.config import from_config_dict
from tx_jax.doctor.experiment import Examination
from tx_jax.doctor.finding import examine
from tx_jax.nn.attention import choice, rows, xla
from tx_jax.nn.attention.case import Case
from tx_jax.nn.attention.check import LIMIT, deviation
from tx_jax.training.attention import deviations, reason_against_kernels

CASE = Case("tpu", "bfloat16", 128, 128, 64)


@pytest.fixture
def use(monkeypatch):
    """Replaces what "rows" is."""

    def replace(attend):
        monkeypatch.setitem(choice.IMPLEMENTATIONS, "rows", choice.Implementation(lambda case: None, attend))

    return replace


@pytest.mark.parametrize("change", [{"dropout": 0.1}, {"causal": True, "padding": False}, {"documents": True}])
def test_our_kernels_are_within_the_limit(use, change):
    use(functools.partial(rows.attend, interpret=True))
    case = dataclasses.replace(CASE, **change)
    assert 0 < deviation("rows", case) < LIMIT
    assert deviation("rows", dataclasses.replace(case, dtype="float32")) < 1e-5


def test_every_part_is_compared(use):
    def wrong(part, by):
        def attend(q, k, v, mask, **options):
            return xla.attend(*(x * by if i == part else x for i, x in enumerate((q, k, v))), mask, **options)

        return attend

    use(xla.attend)
    assert deviation("rows", CASE) == 0
    for part in range(3):
        use(wrong(part, 1.2))
        assert deviation("rows", CASE) > 3 * LIMIT
    use(wrong(2, jnp.nan))
    assert np.isnan(deviation("rows", CASE))


def test_a_mask_that_is_not_heeded(use):
    use(lambda q, k, v, mask, **options: xla.attend(q, k, v, mask.replace(causal=False), **options))
    assert deviation("rows", CASE) == 0
    assert deviation("rows", dataclasses.replace(CASE, causal=True)) > LIMIT
    use(lambda q, k, v, mask, **options: xla.attend(q, k, v, mask.replace(valid_BS=None), **options))
    assert deviation("rows", CASE) > LIMIT


class TestBeforeATraining:
    @pytest.fixture
    def config(self, smoke_config):
        smoke_config.model.attention = "rows"
        smoke_config.model.attention_dropout = 0.0
        return smoke_config

    def test_what_is_right_is_used(self, use, config):
        use(xla.attend)
        assert deviations(from_config_dict(config)) == {"rows": 0.0}
        assert reason_against_kernels(from_config_dict(config)) == ""

    @pytest.mark.parametrize("factor", [1.5, float("nan")])
    def test_what_is_wrong_is_not(self, use, config, factor):
        use(lambda q, k, v, mask, **options: xla.attend(q, k, v * factor, mask, **options))
        said = "50%" if factor == 1.5 else "nan%"
        assert f"'rows' differs from XLA's by {said}" in reason_against_kernels(from_config_dict(config))
        found = examine(Examination(config.to_dict()).checks())
        assert [each.subject for each in found if each.level == "error"] == ["attention"]

    def test_xla_itself_is_not_compared(self, config, monkeypatch):
        config.model.attention = "xla"
        monkeypatch.setattr("tx_jax.training.attention.deviation", None)
        assert deviations(from_config_dict(config)) == {}
