"""A small encoder and a batch for it, with every parameter away from its initial value."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tx_jax import tree
from tx_jax.config import TransformerConfig
from tx_jax.models import registry

CONFIG = TransformerConfig(
    architecture="encoder",
    vocab_size=53,
    dim=32,
    num_layers=2,
    num_heads=4,
    mlp_dim=64,
    max_length=24,
    num_segments=2,
    activation="gelu",
    norm_position="post",
    layer_norm_eps=1e-12,
    dropout=0.1,
    attention_dropout=0.1,
    init_stddev=0.02,
    heads=("masked_lm", "next_sentence"),
    dtype="float32",
    remat="none",
)
# What makes a ModernBERT of it.
MODERNBERT = {
    "num_segments": 0,
    "norm_position": "pre",
    "position_embedding": "rotary",
    "local_window": 4,
    "local_rotary_theta": 100.0,
    "global_every": 2,
    "gated_mlp": True,
    "use_bias": False,
    "pooler": "gelu",
    "classifier_transform": True,
}


def config(**changes: Any) -> TransformerConfig:
    return dataclasses.replace(CONFIG, **changes)


def params(cfg: TransformerConfig) -> dict:
    """Parameters of which none is trivial: normal noise, around 1 for scales."""
    rng = np.random.default_rng(0)
    return tree.map_with_path(
        lambda path, x: jnp.asarray(rng.normal(path.endswith("scale"), 0.15, x.shape), x.dtype),
        registry.param_shapes(cfg),
    )


def batch(rows: int = 3, length: int = 12) -> dict[str, jax.Array]:
    """Row 0 is full, the others are padded; predictions at valid positions."""
    rng = np.random.default_rng(1)
    lengths = np.array([length, *rng.integers(length // 2, length, size=rows - 1)])
    return {
        "tokens_BT": jnp.asarray(rng.integers(0, CONFIG.vocab_size, (rows, length))),
        "segments_BT": jnp.asarray(rng.integers(0, 2, (rows, length))),
        "valid_BT": jnp.asarray(np.arange(length)[None] < lengths[:, None]),
        "masked_positions_BP": jnp.asarray(np.stack([np.sort(rng.permutation(n)[:3]) for n in lengths])),
    }


def apply(cfg: TransformerConfig, variables: dict, inputs: dict, *, deterministic: bool = True, **kwargs: Any) -> Any:
    inputs = dict(inputs)
    return registry.build(cfg).apply(
        {"params": variables}, inputs.pop("tokens_BT"), deterministic=deterministic, **inputs, **kwargs
    )
