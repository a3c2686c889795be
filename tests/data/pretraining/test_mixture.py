"""Mixtures of corpora. Bounds: see `bounds`."""

import dataclasses

import numpy as np
import pytest

from tests.data.bounds import share_bound
from tx_jax.data.loader import Loader
from tx_jax.data.pretraining.mixture import WINDOW, Mixture, smoothed_shares
from tx_jax.errors import InputError


class Numbered:
    """Examples that say which they are."""

    nbytes = 0

    def __init__(self, corpus, size):
        self.corpus, self.size = corpus, size

    def __len__(self):
        return self.size

    def rows(self, indices, rng):
        return {"corpus": np.full(len(indices), self.corpus), "index": indices, "draw": rng.bits()}


def batches(sizes=(40, 7, 300), shares=(0.5, 0.2, 0.3), seed=0, **changes):
    corpora = [Numbered(corpus, size) for corpus, size in enumerate(sizes)]
    mixture = Mixture(shares, seed)
    made = Loader(corpora, lambda batch, rng, step: batch, 64, seed, repeat=True, mixture=mixture)
    return dataclasses.replace(made, **changes)


def run(made, steps):
    parts = [made.batch_at(step) for step in range(steps)]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def test_smoothing_follows_the_paper():
    np.testing.assert_allclose(smoothed_shares([30, 70], 1.0), [0.3, 0.7])
    np.testing.assert_allclose(smoothed_shares([1, 9, 90], 0.0), [1 / 3] * 3)
    p = np.array([0.01, 0.09, 0.9]) ** 0.3
    np.testing.assert_allclose(smoothed_shares([1, 9, 90], 0.3), p / p.sum())


def test_shares_are_exact_over_a_window_and_near_them_in_between():
    shares = (0.5, 0.2, 0.2999, 0.0001)
    mixture = Mixture(shares, seed=3)
    corpus, _ = mixture.locate(np.arange(3 * WINDOW))
    for window in range(3):
        counts = np.bincount(corpus[window * WINDOW : (window + 1) * WINDOW], minlength=4)
        assert (np.abs(counts - np.array(shares) * WINDOW) < 1).all()
        assert counts.sum() == WINDOW
    for begin in range(0, 3 * WINDOW, 4096):
        part = np.bincount(corpus[begin : begin + 4096], minlength=4) / 4096
        bounds = [share_bound(p, 4096, tests=4 * 48) for p in shares]
        assert (np.abs(part - shares) < bounds).all()


def test_each_corpus_is_counted_through_without_a_gap():
    corpus, number = Mixture((0.7, 0.3), seed=1).locate(np.arange(4 * WINDOW))
    for c in (0, 1):
        np.testing.assert_array_equal(np.sort(number[corpus == c]), np.arange((corpus == c).sum()))
    again = Mixture((0.7, 0.3), seed=1).locate(np.arange(100, 200))
    np.testing.assert_array_equal(again, (corpus[100:200], number[100:200]))
    assert (Mixture((0.7, 0.3), seed=2).locate(np.arange(1000))[0] != corpus[:1000]).any()


def test_windows_differ():
    corpus, _ = Mixture((0.5, 0.5), seed=1).locate(np.arange(2 * WINDOW))
    agree = (corpus[:WINDOW] == corpus[WINDOW:]).mean()
    assert abs(agree - 0.5) < share_bound(0.5, WINDOW // 2)


def test_a_share_that_never_comes_up_is_refused():
    with pytest.raises(InputError, match=r"a share of 1.0e-06 of the mixture would never be seen: leave it out"):
        Mixture((1 - 1e-6, 1e-6), seed=0)


def test_each_corpus_has_epochs_of_its_own():
    """The small corpus comes again and again, each of its examples as often as the others, each time anew."""
    out = run(batches(batch_size=1024), WINDOW // 1024)
    for corpus, size in enumerate((40, 7, 300)):
        index = out["index"][out["corpus"] == corpus]
        times = np.bincount(index, minlength=size)
        assert times.max() - times.min() <= 1
        assert len(np.unique(out["draw"][out["corpus"] == corpus])) == len(index)


def test_batches_are_the_same_on_any_number_of_hosts_and_from_any_step():
    made = batches()
    whole = made.batch_at(5)
    assert len(np.unique(whole["corpus"])) == 3
    for hosts in (2, 4):
        parts = [dataclasses.replace(made, process=p, num_processes=hosts).batch_at(5) for p in range(hosts)]
        for key in whole:
            np.testing.assert_array_equal(np.concatenate([part[key] for part in parts]), whole[key])


def test_one_pass_shows_every_example_of_every_corpus_once():
    made = batches(repeat=False)
    out = run(made, len(made))
    real = out["example_weights"] == 1
    assert real.sum() == 347
    pairs = set(zip(out["corpus"][real].tolist(), out["index"][real].tolist(), strict=True))
    assert len(pairs) == 347
    first = made.batch_at(0)["corpus"]
    assert (np.diff(first) != 0).sum() > 10  # in a random order, so that the first batches are a fair sample


def test_several_corpora_need_a_mixture():
    with pytest.raises(ValueError, match="need a mixture"):
        batches(mixture=None)
    assert len(batches(mixture=None, repeat=False)) == 6
