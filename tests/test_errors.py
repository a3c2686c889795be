"""What is offered for a name that is not there."""

import pytest

from configs import bert_base
from experiments.command_line import keys_of
from tx_jax.errors import did_you_mean

KEYS = keys_of(bert_base.get_config())
MEANT = {
    "optimizer.lr": "optimizer.learning_rate",
    "lr": "optimizer.learning_rate",
    "training.lr": "optimizer.learning_rate",
    "optimizer.wd": "optimizer.weight_decay",
    "training.batch": "training.batch_size",
    "batch": "training.batch_size",
    "optimizer.batch_size": "training.batch_size",
    "training.epochs": "training.num_epochs",
    "training.max_steps": "training.num_steps",
    "data.seq_len": "data.sequence_length",
    "data.max_length": "data.sequence_length",
    "training.warmup_steps": "optimizer.warmup_steps",
    "optimizer.warmup_ratio": "optimizer.warmup_share",
    "model.hidden_size": "model.dim",
    "training.save_steps": "training.checkpoint_every",
    "data.rate_mask": "data.mask_rate",  # the same words
    "model.num_layer": "model.num_layers",  # spelled alike
    "optimiser.learning_rate": "optimizer.learning_rate",
}


@pytest.mark.parametrize("given", MEANT)
def test_the_key_that_is_meant_is_offered(given):
    assert did_you_mean(given, KEYS) == f" Did you mean {MEANT[given]!r}?"


def test_every_synonym_is_of_a_key_that_there_is():
    from configs import classification
    from tx_jax.errors import _SYNONYMS

    there = {key.rpartition(".")[2] for key in (*KEYS, *keys_of(classification.get_config()))}
    assert set(_SYNONYMS.values()) <= there


def test_nothing_is_offered_where_nothing_is_near():
    assert did_you_mean("optimizer.zzz", KEYS) == ""
    assert did_you_mean("covid", ("masked_lm", "next_sentence")) == ""
