"""The table of architectures, and figures that follow from a configuration alone."""

import dataclasses
import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from tx_jax.config import TransformerConfig
from tx_jax.models.decoder import Decoder
from tx_jax.models.encoder import Encoder
from tx_jax.models.seq2seq import EncoderDecoder
from tx_jax.nn import initial_attention

# The name of `flops_per_token`'s formula, shown beside every figure that follows from it, such as MFU.
FLOPS_FORMULA = "matmul FLOPs, causal half"

ARCHITECTURES: dict[str, type[nn.Module]] = {"encoder": Encoder, "decoder": Decoder, "encoder_decoder": EncoderDecoder}


def build(config: TransformerConfig) -> nn.Module:
    """The model that a configuration describes, without parameters."""
    return ARCHITECTURES[config.architecture](config)


def init_params(config: TransformerConfig, rng: jax.Array) -> dict:
    """Initial parameters, a nested dict of float32 arrays."""
    tokens = jnp.zeros((1, min(8, config.max_length)), jnp.int32)
    valid = jnp.ones_like(tokens, dtype=bool)
    if config.architecture == "encoder_decoder":
        inputs = {"valid_BS": valid, "target_tokens_BT": tokens, "target_valid_BT": valid}
    else:
        inputs = {"valid_BT": valid}
    params = build(config).init(rng, tokens, **inputs, deterministic=True)["params"]
    return initial_attention.arranged(params, config) if config.initial_attention else params


def param_shapes(config: TransformerConfig) -> dict:
    """The shapes and dtypes of the parameters, computed without allocating them."""
    return jax.tree.map(lambda leaf: leaf, _param_shapes(config))  # nested dicts of the caller's own


@functools.lru_cache(maxsize=256)
def _param_shapes(config: TransformerConfig) -> dict:
    """A model is traced for it, layer by layer, and a conversion asks for it several times."""
    return jax.eval_shape(lambda rng: init_params(config, rng), jax.random.key(0))


def forget() -> None:
    """Forgets the shapes of models whose modules have changed since."""
    _param_shapes.cache_clear()


def num_params(config: TransformerConfig) -> int:
    """The number of parameters, counting tied weights once."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(param_shapes(config)))


def flops_per_token(config: TransformerConfig, sequence_length: int, num_predictions: int) -> float:
    """Floating-point operations per token, forward and backward, of an encoder or decoder whose parameters all train:
    `FLOPS_FORMULA`.

    6 L (4 D^2 + 2 D F) + 12 L T D (1/2 if causal) + 6 (V E + D E) P / T: two operations per multiply-add, the backward
    pass twice the forward pass; embedding look-ups, normalization, softmax, the pooler and classifiers are not counted,
    and of causal attention only the half of the scores that may be attended to, whatever an implementation computes. A
    gated MLP has 3 D F, the causal LM no transform (D E). ELECTRA's projection and DeBERTa's relative terms,
    convolution and mask decoder are left out.

    Raises:
      ValueError: the model is an encoder-decoder, which has two kinds of tokens.
    """
    if config.architecture == "encoder_decoder":
        raise ValueError(
            "source and target tokens of an encoder_decoder cost differently: count them apart (`flops_per_pair`)"
        )
    layers, dim = config.num_layers, config.dim
    matrices = 6 * layers * (4 * dim**2 + (3 if config.gated_mlp else 2) * dim * config.mlp_dim)
    attention = 12 * layers * sequence_length * dim / (2 if config.architecture == "decoder" else 1)
    transform = dim if "masked_lm" in config.heads else 0
    head = 6 * (config.vocab_size + transform) * config.table_dim * num_predictions / sequence_length
    return matrices + attention + head


def flops_per_pair(config: TransformerConfig, length: int) -> float:
    """Floating-point operations of an encoder-decoder for one token of the source and one of the target, forward and
    backward, where both have this length: `flops_per_token` of the encoder and of the decoder, and the decoder's
    attention to the source.

    That is 6 * 4 D^2 + 12 T D in each of its layers: queries and outputs of target tokens, keys and values of source
    tokens, and scores that nothing hides.
    """
    layers, dim = config.num_decoder_layers, config.dim
    encoder = dataclasses.replace(config, architecture="encoder", num_decoder_layers=0, heads=())
    decoder = dataclasses.replace(config, architecture="decoder", num_decoder_layers=0, num_layers=layers)
    across = 6 * layers * 4 * dim**2 + 12 * layers * length * dim
    return flops_per_token(encoder, length, 0) + flops_per_token(decoder, length, length) + across
