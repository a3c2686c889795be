"""The keys of `config.data`: what is refused, and with which words."""

import dataclasses

import pytest

from configs import bert_base
from tests.data.pretraining.test_batches import CONFIG
from tx_jax.config import DataConfig, from_config_dict
from tx_jax.errors import InputError

REFUSED = [
    ({"pair_separators": 0}, "data.pair_separators=0 must be at least 1"),
    ({"span_max_words": 0}, "data.span_max_words=0 must be at least 1"),
    ({"span_probability": 0.0}, "data.span_probability=0.0 must be in (0, 1]"),
    ({"selective_share": 1.5}, "data.selective_share=1.5 must be in [0, 1]"),
    ({"mask_rate_end": -0.1}, "data.mask_rate_end=-0.1 must be in [0, 1]"),
    ({"mask_rate_steps": -1}, "data.mask_rate_steps=-1 must not be negative"),
    ({"mask_rate_steps": 5}, "data.mask_rate_steps=5 changes the rate: it needs data.mask_rate_end=0.0 above 0"),
    (
        {"mask_rate_steps": 5, "mask_rate_end": 0.1, "masking": "static"},
        "data.masking='static' must be 'dynamic'",
    ),
    (
        {"mask_rate_steps": 5, "mask_rate_end": 0.5},
        "data.max_predictions=8 is too small: data.mask_rate_end=0.5 of data.sequence_length=48 are 24",
    ),
    ({"mask_rate": 0.0}, "data.mask_rate=0 leaves nothing to predict"),
    ({"mixture_weights": (1.0,), "store": "a,b"}, "data.mixture_weights=(1.0,) has 1 values for the 2 stores in"),
    ({"mixture_weights": (1.0, 0.0), "store": "a,b"}, "data.mixture_weights=(1.0, 0.0) must all be positive"),
    ({"skip_batches": "7,100 to 120"}, "data.skip_batches='7,100 to 120': '100 to 120' is not a batch from 1 on"),
    ({"skip_batches": "120-100"}, "or a range such as 100-120"),
    ({"skip_batches": "0"}, "'0' is not a batch from 1 on"),
    ({"mixture_alpha": -1.0}, "data.mixture_alpha=-1.0 must be in [0, 1]"),
    (
        {"mixture_weights": (1.0, 2.0), "mixture_alpha": 0.3, "store": "a,b"},
        "data.mixture_weights=(1.0, 2.0) replace data.mixture_alpha=0.3: leave it at 1",
    ),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[message[:50] for _, message in REFUSED])
def test_refused_with_the_values_in_the_message(changes, message):
    with pytest.raises(InputError) as error:
        dataclasses.replace(CONFIG, **changes)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"packing": "chunks", "mask_rate": 0.0, "max_predictions": 1},
        {"packing": "chunks", "mask_rate": 0.15, "max_predictions": 1},  # nothing is masked, so nothing is cut short
        {"packing": "packed_documents", "mask_rate": 0.0, "max_predictions": 1},
        {"mask_rate_steps": 5, "mask_rate_end": 0.05},
        {"mixture_weights": (1.0, 2.0), "store": "a,b"},
    ],
)
def test_accepted(changes):
    dataclasses.replace(CONFIG, **changes)


def test_bert_base_lists_every_key_so_that_the_command_line_can_change_it():
    config = bert_base.get_config()
    assert set(config.data.keys()) == {field.name for field in dataclasses.fields(DataConfig)}
    config.data.mixture_weights = (1, 2)
    config.data.store = "a,b"
    assert from_config_dict(config).data.mixture_weights == (1.0, 2.0)
