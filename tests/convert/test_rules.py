"""The engine: every transform undoes itself, and whatever is wrong with names and shapes is told at once."""

import ml_dtypes
import numpy as np
import pytest

from tx_jax.convert.rules import (
    ADVICE,
    CONV1D,
    KEEP,
    TRANSPOSE,
    Rule,
    check,
    covering,
    expand,
    split_columns,
    split_heads_interleaved,
    split_rows,
    to_hf,
    to_ours,
)
from tx_jax.errors import InputError

DTYPES = [np.float32, np.float16, np.float64, ml_dtypes.bfloat16]


def cases(seed):
    """(transform, shapes of theirs), of random sizes."""
    rng = np.random.default_rng(seed)
    heads, n, k, rows, columns, width = (int(x) for x in rng.integers(1, 6, 6))
    dim = heads * k
    return [
        (KEEP, [(rows, columns)]),
        (KEEP, [(rows,)]),
        (TRANSPOSE, [(rows, columns)]),
        (TRANSPOSE, [(rows, columns), (columns, width)]),
        (CONV1D, [(rows, columns, width)]),
        (split_columns(n), [(rows, n * dim)]),
        (split_columns(n), [(n * dim,)]),
        (split_rows(n), [(n * dim, columns)]),
        (split_rows(n), [(n * dim,)]),
        (split_heads_interleaved(heads, n), [(n * dim, columns)]),
        (split_heads_interleaved(heads, n), [(n * dim,)]),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_every_transform_is_undone_bit_by_bit(seed):
    for number, (transform, shapes) in enumerate(cases(seed)):
        dtype = DTYPES[(seed + number) % len(DTYPES)]
        theirs = [np.random.default_rng(seed).standard_normal(shape).astype(dtype) for shape in shapes]
        ours = transform.forward(theirs)
        again = transform.inverse(ours)
        assert transform.hf_shapes([x.shape for x in ours]) == shapes
        for a, b in zip(again, theirs, strict=True):
            assert a.dtype == b.dtype == dtype
            assert a.shape == b.shape
            assert a.tobytes() == b.tobytes()
        assert all(x.dtype == dtype for x in ours)


def test_split_columns_is_gpt2s_order():
    fused = np.arange(24).reshape(2, 12)
    query, key, value = split_columns(3).forward([fused])
    x = np.array([[1, 10]])
    np.testing.assert_array_equal(np.split(x @ fused, 3, axis=1), [x @ query, x @ key, x @ value])


def test_split_rows_gives_kernels_of_the_parts_of_a_linear():
    fused = np.arange(24).reshape(12, 2)
    x = np.array([[1, 10]])
    for part, kernel in zip(np.split(x @ fused.T, 3, axis=1), split_rows(3).forward([fused]), strict=True):
        np.testing.assert_array_equal(part, x @ kernel)


def test_interleaved_heads_are_split_as_deberta_splits_its_activations():
    """DeBERTa views the output of in_proj as [heads, 3 K] and cuts each head's part into query, key and value."""
    heads, k, width = 2, 3, 4
    fused, bias = np.arange(72).reshape(18, 4), np.arange(18)
    x = np.arange(width)
    per_head = (fused @ x + bias).reshape(heads, 3 * k)
    expected = [part.reshape(-1) for part in np.split(per_head, 3, axis=1)]
    transform = split_heads_interleaved(heads, 3)
    for want, kernel, b in zip(expected, transform.forward([fused]), transform.forward([bias]), strict=True):
        np.testing.assert_array_equal(want, x @ kernel + b)


RULES = [
    Rule("embed.weight", "embed/table"),
    Rule("layer.{i}.weight", "layer_{i}/kernel", TRANSPOSE),
    Rule("layer.{i}.qkv", ("layer_{i}/q", "layer_{i}/k", "layer_{i}/v"), split_rows(3)),
    Rule("head.weight", "head/kernel", TRANSPOSE),
]


def small(num_layers=2):
    rng = np.random.default_rng(0)
    shapes = {"embed/table": (7, 4)}
    for i in range(num_layers):
        shapes |= {f"layer_{i}/kernel": (4, 5)} | {f"layer_{i}/{name}": (4, 2) for name in "qkv"}
    return {path: rng.standard_normal(shape).astype(np.float32) for path, shape in shapes.items()}


def shapes_of(arrays):
    return {name: x.shape for name, x in arrays.items()}


def test_a_table_converts_both_ways_and_leaves_out_heads_that_are_not_there():
    params, table = small(), expand(RULES, 2)
    tensors = to_hf(params, table)
    assert shapes_of(tensors) == {
        "embed.weight": (7, 4),
        "layer.0.weight": (5, 4),
        "layer.1.weight": (5, 4),
        "layer.0.qkv": (6, 4),
        "layer.1.qkv": (6, 4),
    }
    again = to_ours(tensors, table, shapes_of(params))
    assert again.keys() == params.keys()
    for path, x in params.items():
        np.testing.assert_array_equal(again[path], x)


def test_all_that_is_wrong_is_told_at_once():
    params, table = small(), expand(RULES, 2)
    tensors = to_hf(params, table)
    del tensors["layer.1.qkv"]
    tensors["embed.weight"] = tensors["embed.weight"][:-1]
    tensors["extra.bias"] = np.zeros((3, 2), np.float32)
    with pytest.raises(InputError) as caught:
        to_ours(tensors, table, shapes_of(params))
    assert str(caught.value).splitlines() == [
        "the files hold 94 values, the configuration asks for 116: 1 missing, 1 unused, 1 misshapen",
        "- missing: layer.1.qkv (6, 4) for layer_1/q, layer_1/k, layer_1/v",
        "+ unused: extra.bias (3, 2)",
        "~ embed.weight: shape (6, 4), expected (7, 4)",
        ADVICE,
    ]


def test_a_long_report_is_abbreviated_with_its_count():
    params = small(40)
    with pytest.raises(InputError) as caught:
        check({}, expand(RULES, 40), shapes_of(params))
    lines = str(caught.value).splitlines()
    assert "81 missing" in lines[0]
    assert lines[-2:] == ["  ... and 78 more missing", ADVICE]
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("rules", "shapes", "named"),
    [
        (RULES[:1], {"embed/table": (7, 4), "other": (1,)}, "other"),
        ([*RULES[:1], Rule("again", "embed/table")], {"embed/table": (7, 4)}, "embed/table"),
        ([Rule("both", ("a", "b"), split_rows(2))], {"a": (2, 2)}, "b"),
    ],
)
def test_a_table_with_a_hole_is_a_bug(rules, shapes, named):
    with pytest.raises(ValueError, match=f"not covered by exactly one rule: {named}") as caught:
        covering(rules, shapes)
    assert not isinstance(caught.value, InputError)


def test_two_parameters_never_become_one_tensor():
    rules = [Rule("classifier", "a"), Rule("classifier", "b")]
    with pytest.raises(InputError, match="both b and another head: both are 'classifier'"):
        to_hf({"a": np.zeros(1), "b": np.zeros(1)}, rules)
