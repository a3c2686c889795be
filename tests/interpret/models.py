"""Small models of every architecture, ready to be looked into."""

import dataclasses
from typing import Any

import jax
import numpy as np

from tests.models import small
from tx_jax import sharding, text
from tx_jax.config import MeshConfig, TransformerConfig
from tx_jax.models import registry
from tx_jax.runs.trained import Trained

WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "bank",
    "river",
    "money",
    "sits",
    "stands",
    "on",
    "in",
    "by",
    "old",
    "new",
    "red",
    "sun",
]
BERT = small.config(num_segments=2, dim=16, num_heads=2, mlp_dim=24)
DEBERTA = {
    "num_segments": 0,
    "position_embedding": "none",
    "relative_attention": ("c2p", "p2c"),
    "relative_distance": 8,
    "share_relative_projections": True,
    "conv_kernel": 3,
    "enhanced_mask_decoder": True,
    "heads": ("masked_lm",),
}
CONFIGS: dict[str, TransformerConfig] = {
    "BERT": BERT,
    "ModernBERT": dataclasses.replace(BERT, **small.MODERNBERT, heads=("masked_lm",)),
    "DeBERTa": dataclasses.replace(BERT, **DEBERTA),
    "GPT": dataclasses.replace(
        BERT,
        architecture="decoder",
        num_segments=0,
        norm_position="pre",
        embedding_norm=False,
        heads=("causal_lm",),
    ),
    "Transformer": dataclasses.replace(
        BERT,
        architecture="encoder_decoder",
        num_segments=0,
        num_decoder_layers=1,
        position_embedding="sinusoidal",
        heads=("causal_lm",),
    ),
}


def tokenizer() -> text.Tokenizer:
    return text.train("wordpiece", [" ".join(WORDS)] * 20, vocab_size=90)


def model(name: str = "BERT", **changes: Any) -> Trained:
    """A model with random parameters, none of them trivial."""
    made = tokenizer()
    config = dataclasses.replace(CONFIGS[name], vocab_size=made.vocab_size, **changes)
    return ready(config, small.params(config), made)


def ready(config: TransformerConfig, params: Any, of_text: text.Tokenizer | None, **values: Any) -> Trained:
    mesh = sharding.make_mesh(MeshConfig(data=-1, fsdp=1, tensor=1))
    placed = jax.device_put(params, sharding.state_sharding(mesh, params))
    return Trained(model=config, config=None, tokenizer=of_text, params=placed, step=None, mesh=mesh, **values)


def batch(config: TransformerConfig, rows: int = 2, length: int = 16) -> dict[str, np.ndarray]:
    """Row 0 is full, the others are padded."""
    rng = np.random.default_rng(1)
    lengths = np.array([length, *rng.integers(length // 2, length, size=rows - 1)])
    found = {
        "tokens": rng.integers(0, config.vocab_size, (rows, length)).astype(np.int32),
        "valid": np.arange(length)[None] < lengths[:, None],
    }
    if config.architecture == "encoder_decoder":
        found |= {"target_tokens": found["tokens"][:, ::-1][:, :12], "target_valid": found["valid"][:, :12]}
    elif config.num_segments > 1:
        found["segments"] = (np.arange(length)[None] >= lengths[:, None] // 2).astype(np.int32)
    return found


def plain(config: TransformerConfig, params: Any, inputs: dict[str, np.ndarray]) -> Any:
    """The model's output, as if nobody looked."""
    suffix = "BS" if config.architecture == "encoder_decoder" else "BT"
    names = {"tokens": f"tokens_{suffix}", "valid": f"valid_{suffix}", "segments": "segments_BT"}
    names |= {"target_tokens": "target_tokens_BT", "target_valid": "target_valid_BT"}
    arguments = {names[key]: value for key, value in inputs.items()}
    return jax.jit(lambda p: registry.build(config).apply({"params": p}, deterministic=True, **arguments))(params)
