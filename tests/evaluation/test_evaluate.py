"""What evaluation adds to the sums."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from tx_jax import sharding
from tx_jax.config import MeshConfig
from tx_jax.evaluation.evaluate import evaluate, held_out, num_held_out, with_perplexities
from tx_jax.tasks.base import WeightedSum


def test_perplexities_of_a_causal_lm():
    values = with_perplexities({"causal_lm_loss": math.log(50.0), "bits_per_byte": 2.0, "other": 1.0})
    assert values["causal_lm_perplexity"] == pytest.approx(50.0)
    assert values["byte_perplexity"] == pytest.approx(4.0)
    assert with_perplexities({"masked_lm_loss": 3.0}) == {"masked_lm_loss": 3.0}


def test_sums_over_batches_are_exact_above_what_float32_counts():
    """2**24 + 1 + 1: float32, in which the sums of each batch come, has no such number."""
    weights = [2.0**24, 1.0, 1.0]

    def step(params, batch):
        (number,) = np.asarray(batch["example_weights"]).astype(int)
        total = jnp.float32(0.0 if number == 0 else 1.0)
        return {"loss": WeightedSum(total, jnp.float32(weights[number]))}, {}

    mesh = sharding.make_mesh(MeshConfig(data=1, fsdp=1, tensor=1))
    batches = [{"example_weights": np.array([number], np.float32)} for number in range(3)]
    assert evaluate(step, {}, batches, mesh) == {"loss": 2 / (2**24 + 2)}


def test_progress_is_told_before_the_first_batch_and_after_the_last():
    class Numbers:
        def __len__(self):
            return 5

        def batch_at(self, step):
            return {"number": step}

    seen = []
    assert [batch["number"] for batch in held_out(Numbers(), 3, lambda *told: seen.append(told))] == [0, 1, 2]
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert (num_held_out(Numbers(), 0), num_held_out(Numbers(), 9)) == (5, 5)
