"""Heads on top of a transformer stack: pooler, language-model heads, classifiers.

Shapes: B batch, T length, P predictions, D model, E width of the embedding tables, V vocabulary.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from tx_jax import sharding
from tx_jax.config import TransformerConfig
from tx_jax.config.heads import HEADS
from tx_jax.nn.cross_entropy import OutputLayer
from tx_jax.nn.dense import Dense
from tx_jax.nn.dropout import Dropout
from tx_jax.nn.embed import Embedding
from tx_jax.nn.mlp import ACTIVATIONS
from tx_jax.nn.norm import LayerNorm
from tx_jax.nn.param import param

_ACTIVATIONS = {"tanh": jnp.tanh, **ACTIVATIONS}


def gather_positions(x_BTD: jax.Array, positions_BP: jax.Array) -> jax.Array:
    """The rows of x at the given positions: [B, P, D]."""
    x_BPD = jnp.take_along_axis(x_BTD, positions_BP[:, :, None], axis=1)
    return sharding.constrain(sharding.constrain(x_BPD, "batch", None, None), "batch", "length", None)


def last_tokens(x_BTD: jax.Array, valid_BT: jax.Array) -> jax.Array:
    """The row of x at each example's last token, regardless of the padding side: [B, D]."""
    last_B = jnp.where(valid_BT, jnp.arange(valid_BT.shape[1])[None], 0).max(axis=1)
    return gather_positions(x_BTD, last_B[:, None])[:, 0]


def pool(x_BTD: jax.Array, valid_BT: jax.Array, pooling: str) -> jax.Array:
    """Pools each row to its first token or to the mean of its tokens: [B, D]. The mean is accumulated in float32."""
    if pooling == "first":
        return x_BTD[:, 0]
    weights_BT1 = valid_BT[:, :, None].astype(jnp.float32)
    mean_BD = (x_BTD.astype(jnp.float32) * weights_BT1).sum(axis=1) / weights_BT1.sum(axis=1)
    return mean_BD.astype(x_BTD.dtype)


class Pooler(nn.Module):
    """activation(dense(hidden of [CLS])) (google-research/bert, modeling.py; its activation is tanh).

    With `classifier_transform`, a LayerNorm follows, as in the masked LM head (ModernBERT, Warner et al. 2024).
    """

    config: TransformerConfig

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Transforms the pooled representation [B, D] or every token [B, T, D]; the shape is unchanged."""
        config = self.config
        use_bias = config.use_bias or not config.classifier_transform
        dense = Dense(config.dim, config.init_stddev, jnp.dtype(config.dtype), use_bias=use_bias)
        # Store the dense layer's parameters directly under the pooler: `pooler/kernel`.
        nn.share_scope(self, dense)
        h = _ACTIVATIONS[config.pooler](dense(x))
        if config.classifier_transform:
            h = LayerNorm(config.layer_norm_eps, use_bias=config.use_bias, name="norm")(h)
        return h


class MaskedLMHead(nn.Module):
    """A transform, then the output layer tied to the token embedding (google-research/bert, get_masked_lm_output)."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, hidden_BPD: jax.Array, *, table: Embedding) -> OutputLayer:
        """The output layer with its input [B, P, E]. `table` is the token embedding."""
        config = self.config
        dtype = jnp.dtype(config.dtype)
        transform = Dense(config.table_dim, config.init_stddev, dtype, use_bias=config.use_bias, name="transform")
        activation = config.pooler if config.classifier_transform else config.activation
        h_BPE = _ACTIVATIONS[activation](transform(hidden_BPD))
        h_BPE = LayerNorm(config.layer_norm_eps, use_bias=config.use_bias, name="norm")(h_BPE)
        bias_V = param(self, "bias", nn.initializers.zeros_init(), (config.vocab_size,))
        if not config.tie_embeddings:
            table = Embedding(config.vocab_size, config.table_dim, config.init_stddev, name="output")
        return OutputLayer(h_BPE, table.table, bias_V, table.shares)


class CausalLMHead(nn.Module):
    """Only the output layer, either tied to the token embedding or with its own table; Marian's has a bias.

    Before a tied table narrower than the model is a projection to its width (Zhang et al. 2022, OPT's `project_out`).
    """

    config: TransformerConfig

    @nn.compact
    def __call__(self, hidden_BTD: jax.Array, *, table: Embedding) -> OutputLayer:
        """The output layer with its input [B, T, E]. `table` is the token embedding."""
        config = self.config
        if config.table_dim != config.dim:
            dtype = jnp.dtype(config.dtype)
            hidden_BTD = Dense(config.table_dim, config.init_stddev, dtype, use_bias=False, name="transform")(
                hidden_BTD
            )
        if not config.tie_embeddings:
            table = Embedding(config.vocab_size, config.dim, config.init_stddev, name="output")
        bias_V = None
        if config.output_bias:
            bias_V = param(self, "bias", nn.initializers.zeros_init(), (config.vocab_size,))
        return OutputLayer(hidden_BTD, table.table, bias_V, table.shares)


class ReplacedTokenHead(nn.Module):
    """Detects replaced tokens (ELECTRA, Clark et al. 2020; google-research/electra, pretrain_helpers)."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, hidden_BTD: jax.Array, *, deterministic: bool = True) -> jax.Array:
        """Logits [B, T], float32; positive = replaced. This head has no dropout."""
        config = self.config
        transform = Dense(config.dim, config.init_stddev, jnp.dtype(config.dtype), name="transform")
        h_BTD = ACTIVATIONS[config.activation](transform(hidden_BTD))
        return Dense(1, config.init_stddev, jnp.float32, name="out")(h_BTD)[..., 0]


class Classifier(nn.Module):
    """Dropout, then one dense layer to logits [..., outputs], float32."""

    config: TransformerConfig
    outputs: int
    dropout: float
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, deterministic: bool) -> jax.Array:
        dense = Dense(self.outputs, self.config.init_stddev, jnp.float32, use_bias=self.use_bias)
        nn.share_scope(self, dense)
        return dense(Dropout(self.dropout)(x, deterministic=deterministic))


# Heads that need more than a `Classifier`; `tx_jax.extend` adds those of a user's own.
MODULES: dict[str, Callable[[TransformerConfig], nn.Module]] = {
    "masked_lm": MaskedLMHead,
    "causal_lm": CausalLMHead,
    "replaced_token": ReplacedTokenHead,
    "pooled": Pooler,
}


def build_head(name: str, config: TransformerConfig) -> nn.Module:
    """Returns the module for a head listed in `config.heads.HEADS`."""
    if name in MODULES:
        return MODULES[name](config)
    head = HEADS[name]
    outputs = config.num_labels if head.outputs == "labels" else head.outputs
    # GPT-2's sequence classifier has neither dropout nor bias (transformers, modeling_gpt2.py).
    plain = config.architecture == "decoder" and head.reads == "pooled"
    has_dropout = (head.dropout or config.transforms(name)) and not plain
    return Classifier(config, outputs, config.dropout_of_classifiers if has_dropout else 0.0, use_bias=not plain)
