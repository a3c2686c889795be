"""What each head of the first layer attends to before training."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import small
from tx_jax import tree
from tx_jax.models import registry
from tx_jax.nn import initial_attention

T, A, B = 64, 9, 41  # the same token at A, in segment 0, and at B, in segment 1
CONFIG = dataclasses.replace(
    small.CONFIG,
    vocab_size=512,
    dim=128,
    num_heads=4,
    num_layers=1,
    mlp_dim=64,
    max_length=T,
    num_segments=2,
    init_stddev=0.1,
    dtype="float32",
    initial_attention=("same", "random", "previous", "next"),
)
CHANGED = (initial_attention.TOKEN, initial_attention.SEGMENT, initial_attention.POSITION)


def attention(config, seed):
    """Probabilities of the first layer [H, T, T], on different tokens but for one that occurs twice."""
    key = jax.random.key(seed)
    params = registry.init_params(config, key)
    tokens = jax.random.permutation(key, config.vocab_size)[:T]
    tokens = tokens.at[B].set(tokens[A])[None]
    segments = (jnp.arange(T) > T // 2).astype(jnp.int32)[None]
    _, sown = registry.build(config).apply(
        {"params": params},
        tokens,
        valid_BT=tokens >= 0,
        segments_BT=segments,
        deterministic=True,
        mutable=["intermediates"],
    )
    return np.asarray(sown["intermediates"]["encoder"]["layer_0"]["attention"]["probabilities"][0][0])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_heads_attend_to_what_they_are_for(seed):
    same, _, previous, following = attention(CONFIG, seed)
    inner = np.arange(4, T - 4)
    for head, offset in ((previous, -1), (following, 1)):
        assert (head[inner].argmax(axis=1) == inner + offset).mean() > 0.9
        assert head[inner, inner + offset].mean() > 0.7
    # A token's attention is its own, and that of the same token, in another segment and far away.
    others = np.setdiff1d(inner, (A, B))
    assert same[others, others].min() > 0.9
    for at, other in ((A, B), (B, A)):
        assert same[at, at] + same[at, other] > 0.9
        assert min(same[at, at], same[at, other]) > 0.1


def test_at_random_no_head_does():
    heads = attention(dataclasses.replace(CONFIG, initial_attention=()), seed=0)
    inner = np.arange(4, T - 4)
    for offset in (-1, 1):
        assert heads[:, inner, inner + offset].mean() < 0.1
    assert heads[:, (A, B), (B, A)].max() < 0.1


def test_only_tables_and_chosen_heads_differ():
    given, plain = (
        tree.flatten(registry.init_params(config, jax.random.key(3)))
        for config in (CONFIG, dataclasses.replace(CONFIG, initial_attention=()))
    )
    assert given.keys() == plain.keys()
    kernels = (initial_attention.QUERY, initial_attention.KEY)
    for path, value in given.items():
        assert value.shape == plain[path].shape
        assert value.dtype == jnp.float32
        if path not in (*CHANGED, *kernels):
            np.testing.assert_array_equal(value, plain[path], path)
    for path in kernels:  # the second head is at random
        np.testing.assert_array_equal(given[path][:, 32:64], plain[path][:, 32:64])
    # Positions are as large as tokens, and each kind of embedding is absent where another is read alone.
    token, segment, position = (np.asarray(given[path]) for path in CHANGED)
    for value, absent in (
        (token, slice(96, 128)),
        (segment, slice(96, 128)),
        (segment, slice(32)),
        (position, slice(96)),
    ):
        assert (value[:, absent] == 0).all()
    assert (segment[:, 32:96] != 0).all()
    norm = np.square(token).sum(axis=1).mean()
    np.testing.assert_allclose(np.square(position).sum(axis=1), norm, rtol=0.02)


def test_a_model_without_segments_has_room_for_one_more_head_of_equal_tokens():
    config = dataclasses.replace(CONFIG, num_segments=0, initial_attention=("same", "same", "same", "next"))
    params = tree.flatten(registry.init_params(config, jax.random.key(0)))
    assert initial_attention.SEGMENT not in params
    kernel = np.asarray(params[initial_attention.QUERY]).reshape(128, 4, 32)
    assert [np.flatnonzero(kernel[:, head].any(axis=1)).min() for head in range(4)] == [0, 32, 64, 96]
