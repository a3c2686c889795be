"""The rows of DeBERTa's table of relative positions. The attention that reads them: test_mask_decoder.py."""

import numpy as np
import pytest

from tests.models import small
from tests.nn import disentangled
from tx_jax.nn.relative import key_scores, log_buckets, query_scores, relative_rows

# make_log_bucket_position of transformers 5.23 (torch 2.13, float32), 256 buckets and a maximal distance of 512, for
# distances 129 to 511: how many of them share bucket 129, 130, ... 255.
SHARED = (
    "1121212121212212212212222122222222222222322232223232323232332333"
    "233333333334333433434344344344444444454454454554555555555565566"
)


def golden():
    """The bucket of every distance from 0 to 511."""
    far = np.repeat(129 + np.arange(len(SHARED)), [int(n) for n in SHARED])
    return np.concatenate([np.arange(129), far])


def test_log_buckets_are_those_of_transformers():
    distances = np.arange(512)
    assert len(golden()) == 512
    for sign in (1, -1):
        actual = log_buckets(sign * distances, buckets=256, max_distance=512)
        np.testing.assert_array_equal(actual, sign * golden())


@pytest.mark.parametrize(("buckets", "max_distance"), [(256, 512), (6, 16), (32, 128), (320, 512), (64, 2048)])
def test_log_buckets_against_the_formula(buckets, max_distance):
    distances = np.arange(-max_distance + 1, max_distance)
    actual = log_buckets(distances, buckets=buckets, max_distance=max_distance)
    expected = [disentangled.bucket(int(distance), buckets, max_distance) for distance in distances]
    np.testing.assert_array_equal(actual, expected)
    # The farthest has the last bucket, and farther is never nearer.
    assert actual.max() == buckets - 1 == -actual.min()
    assert (np.diff(actual) >= 0).all()


def test_log_buckets_keep_their_shape():
    distances = np.arange(-3, 3).reshape(2, 3)
    np.testing.assert_array_equal(log_buckets(distances, buckets=8, max_distance=16), distances)


@pytest.mark.parametrize(("buckets", "max_distance"), [(0, 4), (6, 16), (8, 9)])
def test_rows_of_the_table(buckets, max_distance):
    """Each within the table, the middle for a token and itself, one less to the right; distances beyond end it."""
    positions = np.arange(30)
    rows = relative_rows(positions[:, None] - positions, max_distance=max_distance, buckets=buckets)
    cfg = small.config(relative_attention=("c2p",), relative_distance=max_distance, relative_buckets=buckets)
    np.testing.assert_array_equal(rows, [[disentangled.row(i, j, cfg) for j in range(30)] for i in range(30)])
    span = buckets or max_distance
    assert rows.dtype == np.int32
    assert (rows.diagonal() == span).all()
    assert (rows.min(), rows.max()) == (0, 2 * span - 1)


@pytest.mark.parametrize("length", [10, 384])
@pytest.mark.parametrize("scores", [query_scores, key_scores])
def test_scores_come_to_their_query_and_key(scores, length):
    """A token's first entry times its distance, and its second: the sums are whole numbers, and all differ."""
    config = small.config(relative_attention=("c2p", "p2c"), relative_distance=length)
    token = np.arange(2 * length, dtype=np.float32).reshape(2, length)
    x = np.stack([np.ones_like(token), 1024 * token], -1)[:, :, None]
    table = np.stack([np.arange(-length, length), np.ones(2 * length)], -1).astype(np.float32)[:, None]
    positions = np.arange(length)
    asks = token[:, None, :, None] if scores is query_scores else token[:, None, None, :]
    np.testing.assert_array_equal(scores(x, table, config), 1024 * asks + positions[:, None] - positions)
