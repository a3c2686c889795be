"""Batches of pairs: a function of (seed, step), with as many tokens each, in which every pair comes once an epoch."""

import dataclasses

import numpy as np
import pytest

from tests.data.translation import pairs
from tx_jax.data.translation.batches import PairBatches
from tx_jax.errors import InputError
from tx_jax.text.pair_forms import PairTokens

TOKENS = PairTokens((), (2,), 1, (), (), 2)
BUCKETS = (6, 12, 24)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return pairs.store(tmp_path_factory.mktemp("pairs"), 300, vocab_size=36).split("train")


def batches(split, *, batch_size=4, seed=0, repeat=True, **options):
    return PairBatches(split, BUCKETS, batch_size, TOKENS, seed=seed, repeat=repeat, **options)


def ids_of(batch):
    return batch["example"].tolist()


def test_each_pair_comes_once_in_a_pass(split):
    one = batches(split, repeat=False)
    seen = list(map(one.batch_at, range(len(one))))
    rows = np.concatenate([batch["example"][batch["example_weights"] > 0] for batch in seen])
    assert sorted(rows) == [i for i, length in enumerate(split.lengths(TOKENS)) if length <= 24]
    assert one.too_long == len(split) - len(rows) > 0
    for batch in seen:
        assert batch["tokens"].size == batch["targets"].size == 4 * 24
        filler = batch["example_weights"] == 0
        assert not batch["target_weights"][filler].any()
        assert not batch["target_words"][filler].any()
    assert {batch["tokens"].shape[1] for batch in seen} == set(BUCKETS)


def test_rows_hold_the_pair(split):
    ends = {name: np.concatenate([[0], getattr(split, f"{name}_ends")]) for name in ("source", "target")}
    batch = batches(split).batch_at(3)
    for row, pair in enumerate(batch["example"]):
        source, target = (
            getattr(split, name)[ends[name][pair] : ends[name][pair + 1]].tolist() for name in ("source", "target")
        )
        assert batch["tokens"][row][batch["valid"][row]].tolist() == [*source, 2]
        assert batch["targets"][row][batch["target_weights"][row] > 0].tolist() == [*target, 2]
        assert batch["target_tokens"][row][: len(target) + 1].tolist() == [1, *target]
        assert batch["target_bytes"][row] == split.sizes[pair, 0]
        longest = max(len(source), len(target)) + 1
        assert longest <= batch["tokens"].shape[1]
        assert all(longest > bucket for bucket in BUCKETS if bucket < batch["tokens"].shape[1])


def test_special_tokens_stand_where_the_form_has_them(split):
    """Two before each source, two behind it, and one that each target begins with, which is given, not predicted."""
    tokens = PairTokens((30, 31), (2, 32), 1, (33,), (), 2)
    one = dataclasses.replace(batches(split), tokens=tokens)
    plain = {i: row for batch in map(batches(split).batch_at, range(len(one))) for i, row in rows_of(batch)}
    lengths = split.lengths(tokens)
    for batch in map(one.batch_at, range(3)):
        for pair, (source, target, read) in rows_of(batch):
            if pair in plain:
                assert source == [30, 31, *plain[pair][0], 32]
                assert target == plain[pair][1]
                assert read == [1, 33, *plain[pair][2][1:]]
            assert lengths[pair] == max(len(source), len(target) + 1) <= batch["tokens"].shape[1]
        assert (batch["targets"][:, 0] == 33).all()
        assert not batch["target_weights"][:, 0].any()


def rows_of(batch):
    """Of each pair what the encoder reads, what is predicted, and what the decoder reads."""
    for row, pair in enumerate(batch["example"].tolist()):
        predicted = np.flatnonzero(batch["target_weights"][row])
        read = batch["target_tokens"][row][: predicted[-1] + 1].tolist()
        yield (
            pair,
            (batch["tokens"][row][batch["valid"][row]].tolist(), batch["targets"][row][predicted].tolist(), read),
        )


def test_epochs_are_whole_and_differ(split):
    one = batches(split)
    count = len(one)
    epochs = [[ids_of(one.batch_at(epoch * count + i)) for i in range(count)] for epoch in range(2)]
    usable = set(np.flatnonzero(split.lengths(TOKENS) <= 24))
    for epoch in epochs:
        assert {i for batch in epoch for i in batch} == usable
    assert epochs[0] != epochs[1]
    assert sorted(map(len, epochs[0])) == sorted(map(len, epochs[1]))
    assert ids_of(batches(split, seed=1).batch_at(0)) != epochs[0][0]
    assert ids_of(batches(split, first_step=5).batch_at(5)) == epochs[0][0]


def test_parts_of_processes_are_the_whole(split):
    """Balanced: every process has as many rows, of the same bucket."""
    whole = batches(split)
    parts = [batches(split, process=i, num_processes=4) for i in range(4)]
    for step in (0, 7, 31):
        found = [part.batch_at(step) for part in parts]
        for name, values in whole.batch_at(step).items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in found]), values)
        assert len({part["tokens"].shape for part in found}) == 1


def test_skipped_batches_are_left_out(split):
    plain, skipping = batches(split), batches(split, skipped=((2, 3),))
    assert ids_of(skipping.batch_at(0)) == ids_of(plain.batch_at(0))
    assert ids_of(skipping.batch_at(1)) == ids_of(plain.batch_at(3))


def test_nothing_fits(split):
    with pytest.raises(InputError, match=r"no pair of the train split has at most data\.sequence_length=1 tokens"):
        PairBatches(split, (1,), 4, TOKENS, 0, True)
