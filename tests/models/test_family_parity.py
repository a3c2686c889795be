"""Every family against transformers, by the outputs in tests/golden/families.npz (tests/parity/compare.py)."""

import functools

import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from tests.golden import weights
from tests.parity import cases, ours
from tx_jax.convert.heads import shapes_of
from tx_jax.models import registry

SEED = 20_240
# transformers computed in float32 too: both sides' rounding, of logits up to 10.
TOLERANCE = 2e-5


@functools.cache
def golden() -> dict[str, dict[str, np.ndarray]]:
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(weights.__file__.replace("weights.py", "families.npz")) as file:
        for key in file.files:
            case, _, name = key.rpartition("/")
            found.setdefault(case, {})[name] = file[key]
    return found


def test_every_case_is_stored():
    assert set(golden()) == set(cases.CASES)


@pytest.mark.parametrize("name", cases.CASES)
def test_against_transformers(name):
    _, config = cases.CASES[name]
    expected = dict(golden()[name])
    params, batch = cases.draw_params(shapes_of(config), SEED), cases.draw_batch(config, SEED)
    assert weights.fingerprint(params | batch) == str(expected.pop("drawn"))
    actual, valid = ours.outputs(config, params, batch), batch["valid"]
    assert not valid.all()
    assert set(config.heads) <= set(expected)
    for output, b in expected.items():
        a = actual[output]
        assert a.shape == b.shape
        if output == "hidden":
            a, b = a[:, valid], b[:, valid]
        elif a.shape[:2] == valid.shape:
            a, b = a[valid], b[valid]
        np.testing.assert_allclose(a, b, atol=TOLERANCE, rtol=0, err_msg=output)


# A change to each choice that tells families apart -> a case that must then differ.
CHOICES = [
    ("RoBERTa masked LM", {"position_offset": 1}),
    ("DistilBERT choices", {"pooler": "gelu"}),
    ("DeBERTa masked LM", {"relative_distance": 13}),
    ("DeBERTa-v3 masked LM", {"relative_buckets": 7}),
    ("DeBERTa-v2 masked LM", {"conv_activation": "tanh"}),
    ("ModernBERT masked LM", {"local_window": 8}),
    ("ModernBERT masked LM", {"local_rotary_theta": 20_000.0}),
    ("ModernBERT masked LM", {"global_every": 2}),
    ("ModernBERT masked LM", {"pooler": "relu"}),
    ("ModernBERT sequences", {"classifier_pooling": "mean"}),
    ("ModernBERT choices", {"classifier_pooling": "first"}),
    ("ModernBERT tokens", {"pooler": "relu"}),
    ("GPT-2 causal LM", {"activation": "gelu"}),
]


@pytest.mark.parametrize(("name", "change"), CHOICES, ids=[f"{name}: {change}" for name, change in CHOICES])
def test_the_comparison_sees_every_choice(name, change):
    _, config = cases.CASES[name]
    params, batch = cases.draw_params(shapes_of(config), SEED), cases.draw_batch(config, SEED)
    changed = cases.changed(config, *config.heads, **change)
    for path, shape in shapes_of(changed).items():  # tables may have other sizes; the values are beside the point
        params[path] = np.resize(params[path], shape)
    head = config.heads[0]
    actual = ours.outputs(changed, params, batch)[head]
    expected = golden()[name][head]
    rows = batch["valid"] if actual.shape[:2] == batch["valid"].shape else slice(None)
    assert np.abs(actual - expected)[rows].max() > 10 * TOLERANCE


@pytest.mark.parametrize("name", ["RoBERTa masked LM", "RoBERTa tokens", "GPT-2 sequences"])
def test_padding_may_stand_on_the_left(name):
    """RoBERTa counts positions from the first token; GPT-2 is told them, and classifies by the last token.

    Encoders classify by the first position, which then holds padding, there as here.
    """
    _, config = cases.CASES[name]
    params, batch = cases.draw_params(shapes_of(config), SEED), cases.draw_batch(config, SEED)
    shifts = (~batch["valid"]).sum(axis=1)
    left = {key: np.stack([np.roll(*pair) for pair in zip(x, shifts, strict=True)]) for key, x in batch.items()}
    assert not left["valid"][1:, 0].any()

    def logits(batch):
        positions = None if config.position_offset else np.maximum(np.cumsum(batch["valid"], axis=1) - 1, 0)
        output = registry.build(config).apply(
            {"params": unflatten_dict(params, sep="/")},
            batch["tokens"],
            valid_BT=batch["valid"],
            positions_BT=positions,
            deterministic=True,
        )
        return np.asarray(ours.of_head(output, config.heads[0]))

    a, b = logits(batch), logits(left)
    if a.shape[:2] == batch["valid"].shape:
        a, b = a[batch["valid"]], b[left["valid"]]
    np.testing.assert_allclose(a, b, atol=TOLERANCE, rtol=0)
