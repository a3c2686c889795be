"""What this package computes for the encoder-decoders of `cases.SEQ2SEQ`. Without torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from tests.parity import cases
from tx_jax.config import TransformerConfig
from tx_jax.convert.heads import shapes_of
from tx_jax.models import registry

GOLDEN = Path(__file__).parents[1] / "golden" / "seq2seq.npz"
SEED = 20_240


def drawn(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Parameters and a batch."""
    _, config = cases.SEQ2SEQ[name]
    batch = {**side(config, "source", 11, SEED), **side(config, "target", 9, SEED + 1)}
    return cases.draw_params(shapes_of(config), SEED), batch


def side(config: TransformerConfig, name: str, length: int, seed: int) -> dict[str, np.ndarray]:
    """Token ids and validity of source or target; the first row is full."""
    # Positions of a table are drawn for its own length: `max_length` is that of the rows alone.
    batch = cases.draw_batch(cases.changed(config, *config.heads, max_length=length), seed)
    return {f"{name}_tokens": batch["tokens"], f"{name}_valid": batch["valid"]}


def logits(config: TransformerConfig, params: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """[B, T, V]."""
    run = jax.jit(lambda p: apply(config, p, batch))
    return np.asarray(run(unflatten_dict(dict(params), sep="/")))


def apply(config: TransformerConfig, params: Any, batch: Mapping[str, np.ndarray]) -> jax.Array:
    output = registry.build(config).apply(
        {"params": params},
        jnp.asarray(batch["source_tokens"]),
        valid_BS=jnp.asarray(batch["source_valid"]),
        target_tokens_BT=jnp.asarray(batch["target_tokens"]),
        target_valid_BT=jnp.asarray(batch["target_valid"]),
        deterministic=True,
    )
    return output.logits["causal_lm"]
