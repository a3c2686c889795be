import numpy as np
import pytest

from tx_jax.data.rng import RowRandom, hash_text, keys, permute


def test_rows_do_not_depend_on_their_neighbours():
    all_keys = keys(3, np.arange(10))
    whole, part = RowRandom(all_keys), RowRandom(all_keys[4:6])
    for draw in (
        lambda r: r.uniform(7),
        lambda r: r.integers(100, 3),
        lambda r: r.binomial_half(np.full(len(r.uniform()), 50)),
        lambda r: r.uniform(),
    ):
        np.testing.assert_array_equal(draw(whole)[4:6], draw(part))


def test_draws_after_a_binomial_do_not_depend_on_other_rows_trials():
    pair = keys(1, np.arange(2))
    both, alone = RowRandom(pair), RowRandom(pair[:1])
    first = both.binomial_half(np.array([5, 1000]))[0]
    assert first == alone.binomial_half(np.array([5]))[0]
    assert both.uniform()[0] == alone.uniform()[0]


def test_keys_differ_in_every_part_and_in_order():
    seen = {int(keys(*parts)[0]) for parts in [(0, 0), (0, 1), (1, 0), (1, 1), (0,), (1,), (0, 0, 0)]}
    assert len(seen) == 7
    assert len(np.unique(keys(0, np.arange(100_000)))) == 100_000


def test_uniform_is_uniform_across_rows_and_along_them():
    for values in (
        RowRandom(keys(0, np.arange(100_000))).uniform(),
        RowRandom(keys(0)).uniform(100_000)[0],
        RowRandom(keys(np.arange(300), 5)).uniform(300).ravel(),
    ):
        assert values.min() >= 0
        assert values.max() < 1
        counts = np.histogram(values, bins=64, range=(0, 1))[0]
        chi2 = ((counts - len(values) / 64) ** 2 / (len(values) / 64)).sum()
        assert 25 < chi2 < 120  # 63 degrees of freedom: both tails below 1e-5


def test_neighbouring_rows_and_draws_are_uncorrelated():
    values = RowRandom(keys(0, np.arange(500))).uniform(500)
    for a, b in ((values[1:], values[:-1]), (values[:, 1:], values[:, :-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 5 / np.sqrt(a.size)


def test_binomial_half_matches_the_distribution():
    trials = np.repeat([0, 1, 63, 64, 65, 200], 20_000)
    heads = RowRandom(keys(9, np.arange(len(trials)))).binomial_half(trials).reshape(6, -1)
    n = np.array([0, 1, 63, 64, 65, 200])
    assert (heads >= 0).all()
    assert (heads <= n[:, None]).all()
    np.testing.assert_allclose(heads.mean(1), n / 2, atol=5 * np.sqrt(200 / 4 / 20_000))
    np.testing.assert_allclose(heads.var(1), n / 4, rtol=0.06)


@pytest.mark.parametrize("size", [1, 2, 3, 10, 64, 1000, 4097])
def test_permute_is_a_permutation(size):
    sent = permute(np.arange(size), size, keys(7))
    np.testing.assert_array_equal(np.sort(sent), np.arange(size))


def test_permutations_of_different_epochs_differ():
    a, b = (permute(np.arange(1000), 1000, keys(0, epoch)) for epoch in (0, 1))
    assert (a == b).mean() < 0.02
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.15


def test_permute_takes_a_key_for_each_row():
    rows = permute(np.array([5, 5]), 100, keys(0, np.array([0, 1])))
    assert rows[0] == permute(np.array([5]), 100, keys(0, 0))[0]
    assert rows[1] == permute(np.array([5]), 100, keys(0, 1))[0]


def test_every_position_is_equally_likely():
    size, epochs = 12, 24_000
    where = permute(np.zeros(epochs, np.int64), size, keys(1, np.arange(epochs)))
    counts = np.bincount(where, minlength=size)
    chi2 = ((counts - epochs / size) ** 2 / (epochs / size)).sum()
    assert chi2 < 40  # 11 degrees of freedom: above with probability 4e-5


def test_hash_text_tells_texts_apart():
    assert len({hash_text(t) for t in ("order", "corruption", "ab", "ba", "")} - {0}) >= 4
