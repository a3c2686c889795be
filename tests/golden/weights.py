"""The weights and inputs of the golden comparison: drawn here, never stored. NumPy only.

`make_bert.py` and `tests/models/test_bert_parity.py` both draw from here, so that they cannot drift apart.
"""

import hashlib
from typing import NamedTuple

import numpy as np


class Sizes(NamedTuple):
    """A BERT small enough for its outputs to be stored, or one that is compared live."""

    vocab_size: int
    dim: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    max_length: int
    activation: str
    layer_norm_eps: float


SEED = 20240
# A large eps shows where it is added; BERT's own 1e-12 hides it.
GOLDEN = {
    "gelu": Sizes(97, 48, 3, 4, 112, 20, "gelu", 1e-3),
    "gelu_tanh": Sizes(97, 48, 3, 4, 112, 20, "gelu_tanh", 1e-12),
}


def parameter_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Path -> shape of every parameter of a BERT with both heads."""
    v, d, f = sizes.vocab_size, sizes.dim, sizes.mlp_dim
    norm = {"scale": (d,), "bias": (d,)}

    def dense(rows: int, columns: int) -> dict[str, tuple[int, ...]]:
        return {"kernel": (rows, columns), "bias": (columns,)}

    groups = {
        "embeddings/token": {"embedding": (v, d)},
        "embeddings/position": {"embedding": (sizes.max_length, d)},
        "embeddings/segment": {"embedding": (2, d)},
        "embeddings/norm": norm,
        "pooler": dense(d, d),
        "next_sentence": dense(d, 2),
        "masked_lm": {"bias": (v,)},
        "masked_lm/transform": dense(d, d),
        "masked_lm/norm": norm,
    }
    for i in range(sizes.num_layers):
        layer = f"encoder/layer_{i}"
        groups |= {f"{layer}/attention/{name}": dense(d, d) for name in ("query", "key", "value", "out")}
        groups |= {f"{layer}/mlp/wi": dense(d, f), f"{layer}/mlp/wo": dense(f, d)}
        groups |= {f"{layer}/attention_norm": norm, f"{layer}/mlp_norm": norm}
    return {f"{group}/{name}": shape for group, members in groups.items() for name, shape in members.items()}


def draw_weights(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """float32 weights by path, drawn in sorted order; far from any initialization, so that each of them shows.

    Queries and keys are large, so that attention is uneven; values are not, or after some layers all positions would
    be alike and the gradients of queries and keys lost in rounding.
    """
    rng = np.random.default_rng(seed)
    weights = {}
    for path in sorted(shapes):
        shape = shapes[path]
        kind = path.rpartition("/")[2]
        value = rng.standard_normal(shape)
        if kind == "kernel":
            value *= (1.5 if "query" in path or "key" in path else 0.8) * shape[0] ** -0.5
        elif kind == "embedding":
            value *= 0.3
        elif kind == "scale":
            value = 1 + 0.2 * value
        else:
            value *= 0.2
        weights[path] = value.astype(np.float32)
    return weights


def draw_inputs(sizes: Sizes, seed: int, rows: int = 3, num_predictions: int = 4) -> dict[str, np.ndarray]:
    """A batch of two segments a row. Row 0 has the maximum length; the others are padded with token 0."""
    rng = np.random.default_rng(seed)
    length = sizes.max_length
    lengths = np.concatenate([[length], rng.integers(length // 2, length, size=rows - 1)])
    splits = rng.integers(2, length // 2 - 1, size=rows)
    column = np.arange(length)[None]
    valid = column < lengths[:, None]
    tokens = np.where(valid, rng.integers(1, sizes.vocab_size, size=(rows, length)), 0)
    segments = (column >= splits[:, None]) & valid
    positions = np.stack([np.sort(rng.permutation(n)[:num_predictions]) for n in lengths])
    return {
        "tokens": tokens.astype(np.int32),
        "segments": segments.astype(np.int32),
        "valid": valid,
        "positions": positions.astype(np.int32),
        "labels": rng.integers(1, sizes.vocab_size, size=positions.shape).astype(np.int32),
        "next_sentence": rng.integers(0, 2, size=rows).astype(np.int32),
    }


def fingerprint(arrays: dict[str, np.ndarray]) -> str:
    """A digest of names and bytes: tells a changed random stream from a changed model."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
