"""What evaluation adds to the sums."""

import math

import pytest

from tx_jax.evaluation.evaluate import with_perplexities


def test_perplexities_of_a_causal_lm():
    values = with_perplexities({"causal_lm_loss": math.log(50.0), "bits_per_byte": 2.0, "other": 1.0})
    assert values["causal_lm_perplexity"] == pytest.approx(50.0)
    assert values["byte_perplexity"] == pytest.approx(4.0)
    assert with_perplexities({"masked_lm_loss": 3.0}) == {"masked_lm_loss": 3.0}
