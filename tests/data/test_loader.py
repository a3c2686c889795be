"""Batches are a pure function of (seed, step): order, corruption, parts of hosts, epochs."""

import dataclasses
import gc
import weakref

import numpy as np
import pytest

from tests.data.pretraining.test_masking import masking
from tests.data.synthetic import random_split
from tx_jax.data.loader import Loader, read_ahead
from tx_jax.data.pretraining.pairs import SentencePairs
from tx_jax.data.pretraining.targets import MaskedTargets, RateSchedule


@pytest.fixture(scope="module")
def batches():
    split = random_split(3, 25)
    examples = SentencePairs(split, sequence_length=48, short_sequence_probability=0.1, pad_id=0, cls_id=2, sep_id=3)
    vocab = split.first_id + int(split.sentence_offsets[-1])
    targets = MaskedTargets(masking(vocab_size=vocab, max_predictions=8), RateSchedule(0.15, 0.15, 0))
    return Loader([examples], targets, batch_size=16, seed=0, repeat=True)


def originals(batch):
    """Tokens before corruption."""
    tokens = batch["tokens"].copy()
    rows, used = np.nonzero(batch["masked_weights"] >= 1)
    tokens[rows, batch["masked_positions"][rows, used]] = batch["masked_targets"][rows, used]
    return tokens


def epoch_of(batches, epoch):
    """All rows of one epoch, in the order of the examples they were made of: only where it starts a batch."""
    n, size = len(batches.corpora[0]), batches.batch_size
    steps = range(epoch * n // size, -(-(epoch + 1) * n // size))
    rows = [batches.batch_at(s) for s in steps]
    joined = {k: np.concatenate([r[k] for r in rows]) for k in rows[0]}
    begin = epoch * n - steps.start * size
    return {k: v[begin : begin + n] for k, v in joined.items()}


def equal(a, b):
    return all(np.array_equal(a[k], b[k]) for k in a)


def test_same_step_same_batch_other_step_or_seed_another(batches):
    assert equal(batches.batch_at(5), batches.batch_at(5))
    assert not equal(batches.batch_at(5), batches.batch_at(6))
    assert not equal(batches.batch_at(5), dataclasses.replace(batches, seed=1).batch_at(5))


def test_a_loader_that_was_used_ends_with_its_last_reference(batches):
    """And its examples, at once: what is freed only by a garbage collection is in the way of the next seed's run."""
    used = dataclasses.replace(batches, seed=3)
    used.batch_at(5)
    ended = weakref.ref(used)
    gc.disable()
    try:
        del used
        assert ended() is None
    finally:
        gc.enable()


def test_the_seed_draws_the_corruption_too(batches):
    class One:  # a single example, so that the order cannot differ
        def __len__(self):
            return 1

        def rows(self, indices, rng):
            tokens = np.full((len(indices), 48), 20, np.int32)
            return {"tokens": tokens, "valid": tokens > 0}

    first, second = (dataclasses.replace(batches, corpora=[One()], seed=seed).batch_at(0) for seed in (0, 1))
    assert (first["masked_positions"] != second["masked_positions"]).any(axis=1).mean() > 0.9


@pytest.mark.parametrize("processes", [2, 4])
def test_hosts_parts_join_to_the_single_hosts_batch(batches, processes):
    whole = batches.batch_at(3)
    parts = [dataclasses.replace(batches, process=p, num_processes=processes).batch_at(3) for p in range(processes)]
    assert equal(whole, {k: np.concatenate([part[k] for part in parts]) for k in whole})


def test_an_epoch_shows_every_example_once(batches):
    """Examples are told apart by their span, so build them without the parts that an epoch draws."""
    n = len(batches.corpora[0])
    seen = []
    spans = batches.corpora[0].spans

    class Recorder:
        def __len__(self):
            return n

        def rows(self, indices, rng):
            seen.append(indices)
            return batches.corpora[0].rows(indices, rng)

    recording = dataclasses.replace(batches, corpora=[Recorder()])
    for step in range(2 * n // 16 + 1):
        recording.batch_at(step)
    order = np.concatenate(seen)
    first, second = order[:n], order[n : 2 * n]
    np.testing.assert_array_equal(np.sort(first), np.arange(n))
    np.testing.assert_array_equal(np.sort(second), np.arange(n))
    assert not np.array_equal(first, second)
    assert len(spans) == n


def test_dynamic_masking_differs_in_every_epoch_static_repeats_every_dupe_factor(batches):
    n = len(batches.corpora[0])
    index = np.arange(n)

    class Plain:  # epoch order is a permutation; undo it by sorting on the example's number, kept in a column
        def __len__(self):
            return n

        def rows(self, indices, rng):
            tokens = np.full((len(indices), 40), 7, np.int32)
            tokens[:, 0] = 2
            return {"tokens": tokens, "valid": np.ones_like(tokens, bool), "number": indices}

    def positions(dupe_factor, epoch):
        out = epoch_of(dataclasses.replace(batches, corpora=[Plain()], dupe_factor=dupe_factor), epoch)
        order = np.argsort(out["number"])
        np.testing.assert_array_equal(out["number"][order], index)
        return out["masked_positions"][order], out["tokens"][order]

    dynamic = [positions(0, e)[0] for e in range(4)]
    for a in range(4):
        for b in range(a):
            assert (dynamic[a] != dynamic[b]).any(axis=1).mean() > 0.9
    static = [positions(2, e) for e in range(4)]
    for a, b in ((0, 2), (1, 3)):
        np.testing.assert_array_equal(static[a][0], static[b][0])
        np.testing.assert_array_equal(static[a][1], static[b][1])
    assert (static[0][0] != static[1][0]).any(axis=1).mean() > 0.9


def test_one_pass_is_complete_and_its_filling_weighs_nothing(batches):
    once = dataclasses.replace(batches, repeat=False)
    rows = [once.batch_at(i) for i in range(len(once))]
    weights = np.concatenate([r["example_weights"] for r in rows])
    assert weights.sum() == len(once.corpora[0])
    assert len(weights) % 16 == 0
    assert len(weights) > weights.sum()  # else this would not test the filling
    masked = np.concatenate([r["masked_weights"] for r in rows])
    assert (masked[weights == 0] == 0).all()
    assert (masked[weights == 1].sum(axis=1) > 0).all()


def test_read_ahead_gives_the_same_batches_from_any_step(batches):
    for offset, batch in enumerate(read_ahead(batches, 4, 9, depth=2)):
        assert equal(batch, batches.batch_at(4 + offset))
    assert offset == 4


def test_a_process_needs_an_equal_part(batches):
    with pytest.raises(ValueError, match="not divisible"):
        dataclasses.replace(batches, num_processes=3)
