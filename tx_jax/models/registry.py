"""From the name of an architecture to its module, and figures that follow from a configuration alone."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from tx_jax.config import TransformerConfig
from tx_jax.models.encoder import Encoder

ARCHITECTURES: dict[str, type[nn.Module]] = {"encoder": Encoder}


def build(config: TransformerConfig) -> nn.Module:
    """The model that a configuration describes, without parameters."""
    return ARCHITECTURES[config.architecture](config)


def init_params(config: TransformerConfig, rng: jax.Array) -> dict:
    """Fresh parameters, a nested dict of float32 arrays."""
    tokens = jnp.zeros((1, min(8, config.max_length)), jnp.int32)
    valid = jnp.ones_like(tokens, dtype=bool)
    return build(config).init(rng, tokens, segments_BT=tokens, valid_BT=valid, deterministic=True)["params"]


def param_shapes(config: TransformerConfig) -> dict:
    """The shapes and dtypes of the parameters, computed without allocating them."""
    return jax.eval_shape(lambda rng: init_params(config, rng), jax.random.key(0))


def num_params(config: TransformerConfig) -> int:
    """Parameters, tied ones counted once."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(param_shapes(config)))


def flops_per_token(config: TransformerConfig, sequence_length: int, num_predictions: int) -> float:
    """Floating-point operations per token, forward and backward, of a bidirectional encoder with a gathered LM head.

    6 L (4 D^2 + 2 D F) + 12 L T D + 6 (V D + D^2) P / T: two operations per multiply-add, the backward pass twice the
    forward pass; embeddings look-ups, normalisation and softmax are not counted.
    """
    layers, dim = config.num_layers, config.dim
    matrices = 6 * layers * (4 * dim**2 + 2 * dim * config.mlp_dim)
    attention = 12 * layers * sequence_length * dim
    head = 6 * (config.vocab_size * dim + dim**2) * num_predictions / sequence_length
    return matrices + attention + head
