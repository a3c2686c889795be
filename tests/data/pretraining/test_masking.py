"""Masking by statistics, with seeds that are fixed. Bounds: see `bounds`."""

import numpy as np
import pytest

from tests.data.bounds import share_bound
from tx_jax.data.pretraining.masking import Masking, choose_tokens, corrupt
from tx_jax.data.rng import RowRandom, keys

VOCAB, SPECIALS, MASK = 1000, (0, 1, 2, 3, 4), 4


def masking(**changes):
    values = {
        "rate": 0.15,
        "max_predictions": 20,
        "replace_with_mask": 0.8,
        "replace_with_random": 0.1,
        "mask_id": MASK,
        "vocab_size": VOCAB,
        "special_ids": SPECIALS,
    }
    return Masking(**(values | changes))


def examples(rows, length=128, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(5, VOCAB, (rows, length)).astype(np.int32)
    lengths = rng.integers(8, length + 1, rows)
    valid = np.arange(length)[None] < lengths[:, None]
    tokens[:, 0] = 2
    tokens[np.arange(rows), lengths // 2] = 3
    tokens[np.arange(rows), lengths - 1] = 3
    tokens[~valid] = 0
    return tokens, valid


def masked(tokens, valid, seed=0, **changes):
    config, rng = masking(**changes), RowRandom(keys(seed, np.arange(len(tokens))))
    return corrupt(tokens, choose_tokens(tokens, valid, config, rng), config, rng)


@pytest.fixture(scope="module")
def batch():
    tokens, valid = examples(4000)
    return tokens, valid, masked(tokens, valid)


def test_the_number_of_predictions_follows_the_length(batch):
    _, valid, out = batch
    lengths = valid.sum(axis=1)
    np.testing.assert_array_equal(out["masked_weights"].sum(axis=1), np.clip(np.rint(0.15 * lengths), 1, 20))
    share = out["masked_weights"].sum() / lengths.sum()
    assert abs(share - 0.15) < 0.002  # rounding to whole tokens, not sampling


def test_eighty_ten_ten(batch):
    tokens, _, out = batch
    rows = np.arange(len(tokens))[:, None]
    used = out["masked_weights"] == 1
    now, before = out["tokens"][rows, out["masked_positions"]][used], out["masked_targets"][used]
    n = used.sum()
    at_mask, kept = now == MASK, now == before
    for share, expected in (
        (at_mask.mean(), 0.8),
        ((~at_mask & ~kept).mean(), 0.1 * (1 - 1 / 995)),
        (kept.mean(), 0.1 * (1 + 1 / 995)),
    ):
        assert abs(share - expected) < share_bound(expected, n, tests=3)
    random_tokens = now[~at_mask & ~kept]
    assert not np.isin(random_tokens, SPECIALS).any()
    counts = np.histogram(random_tokens, bins=20, range=(5, VOCAB))[0]
    shares, n = counts / len(random_tokens), len(random_tokens)
    assert (np.abs(shares - 0.05) < share_bound(0.05, n, tests=20) + 1 / 995).all()


def test_specials_and_padding_are_never_chosen_or_changed(batch):
    tokens, valid, out = batch
    used = out["masked_weights"] == 1
    assert not np.isin(out["masked_targets"][used], SPECIALS).any()
    untouchable = ~valid | np.isin(tokens, SPECIALS)
    np.testing.assert_array_equal(out["tokens"][untouchable], tokens[untouchable])


def test_only_chosen_positions_change_and_targets_are_the_originals(batch):
    tokens, _, out = batch
    rows = np.arange(len(tokens))[:, None]
    used = out["masked_weights"] == 1
    np.testing.assert_array_equal(tokens[rows, out["masked_positions"]][used], out["masked_targets"][used])
    restored = out["tokens"].copy()
    r = np.broadcast_to(rows, used.shape)[used]
    restored[r, out["masked_positions"][used]] = out["masked_targets"][used]
    np.testing.assert_array_equal(restored, tokens)


def test_positions_ascend_without_repetition_and_unused_ones_are_zero(batch):
    out = batch[2]
    used = out["masked_weights"] == 1
    both = used[:, 1:] & used[:, :-1]
    assert (np.diff(out["masked_positions"], axis=1)[both] > 0).all()
    assert (out["masked_positions"][~used] == 0).all()
    assert (np.diff(out["masked_weights"], axis=1) <= 0).all()


def test_every_position_is_equally_likely():
    tokens = np.full((20_000, 32), 7, np.int32)
    out = masked(tokens, np.ones_like(tokens, bool))
    counts = np.bincount(out["masked_positions"][out["masked_weights"] == 1], minlength=32)
    assert (np.abs(counts / 20_000 - 5 / 32) < share_bound(5 / 32, 20_000, tests=32)).all()


def test_seeds_differ_and_repeat():
    tokens, valid = examples(50)
    a, b, c = masked(tokens, valid, 1), masked(tokens, valid, 1), masked(tokens, valid, 2)
    np.testing.assert_array_equal(a["tokens"], b["tokens"])
    assert (a["masked_positions"] != c["masked_positions"]).any(axis=1).mean() > 0.9


def test_token_id_zero_counts_when_it_is_no_special():
    tokens = np.zeros((200, 40), np.int32)
    out = masked(tokens, np.ones_like(tokens, bool), special_ids=(1, 2, 3, 4))
    assert out["masked_weights"].sum() == 200 * 6
    assert (out["tokens"] == MASK).sum() > 0


def test_max_predictions_caps_and_a_row_of_specials_gives_none():
    tokens, valid = examples(100)
    out = masked(tokens, valid, rate=0.9, max_predictions=5)
    assert out["masked_positions"].shape == (100, 5)
    assert out["masked_weights"].sum(axis=1).max() == 5
    out = masked(np.full((3, 8), 2, np.int32), np.ones((3, 8), bool), max_predictions=5)
    assert out["masked_weights"].sum() == 0


@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.5, 0.3)])
def test_any_split_of_replacements(shares):
    tokens, valid = examples(2000)
    out = masked(tokens, valid, replace_with_mask=shares[0], replace_with_random=shares[1])
    used = out["masked_weights"] == 1
    now, before = out["tokens"][np.arange(2000)[:, None], out["masked_positions"]][used], out["masked_targets"][used]
    kept = 1 - sum(shares)
    for share, expected in (
        ((now == MASK).mean(), shares[0]),
        ((now == before).mean(), kept + shares[1] / 995),
    ):
        assert abs(share - expected) <= share_bound(expected, int(used.sum()), tests=8)


def test_what_there_is_no_room_for_is_counted():
    tokens, valid = examples(300)
    out = masked(tokens, valid, rate=0.4, max_predictions=20)
    wanted = np.rint(0.4 * valid.sum(axis=1))
    np.testing.assert_array_equal(out["masked_dropped"], np.maximum(wanted - 20, 0))
    np.testing.assert_array_equal(out["masked_dropped"] + out["masked_weights"].sum(axis=1), wanted)
    assert out["masked_dropped"].dtype == np.float32
    assert not masked(tokens, valid)["masked_dropped"].any()
