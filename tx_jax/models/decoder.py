"""The decoder of the GPT family (Radford et al. 2018, 2019; Brown et al. 2020).

GPT-3's layers alternate dense and banded sparse attention; all are dense here.
Shapes: B batch, T length, D model, V vocabulary.
"""

import flax.linen as nn
import jax

from tx_jax.config import TransformerConfig
from tx_jax.config.heads import HEADS
from tx_jax.models.output import Output
from tx_jax.nn.block import Context
from tx_jax.nn.embed import Embeddings, row_positions
from tx_jax.nn.heads import build_head, last_tokens
from tx_jax.nn.masks import continued
from tx_jax.nn.stack import Stack


class Decoder(nn.Module):
    """Embeddings, a stack of blocks in which no token sees what follows it, and the heads that `config.heads` names."""

    config: TransformerConfig

    def setup(self):
        config = self.config
        self.embeddings = Embeddings(config)
        self.decoder = Stack(config, config.num_layers)
        for name in config.heads:
            setattr(self, name, build_head(name, config))

    def __call__(
        self,
        tokens_BT: jax.Array,
        *,
        segments_BT: jax.Array | None = None,
        valid_BT: jax.Array,
        documents_BT: jax.Array | None = None,
        positions_BT: jax.Array | None = None,
        first_B: jax.Array | None = None,
        deterministic: bool,
    ) -> Output:
        """Runs the decoder and its heads; sequences are classified from their last token.

        Args:
          first_B: with a collection "cache" (see `MultiHeadAttention`): how many tokens of each row precede these, all
            in the cache; None = none.
          the others: see `Encoder`.
        """
        config = self.config
        if first_B is not None:
            positions_BT = first_B[:, None] + row_positions(tokens_BT)
        x_BTD = self.embeddings(
            tokens_BT, segments_BT=segments_BT, positions_BT=positions_BT, deterministic=deterministic
        )
        hidden_BTD, _ = self.decoder(
            x_BTD,
            context=Context(continued(valid_BT, documents_BT, first_B)),
            positions_BT=row_positions(tokens_BT) if positions_BT is None else positions_BT,
            valid_BT=valid_BT,
            deterministic=deterministic,
        )
        logits, layers = {}, {}
        for name in config.heads:
            if name == "causal_lm":
                layers[name] = self.causal_lm(hidden_BTD, table=self.embeddings.token)
                logits[name] = layers[name].logits()
            else:
                x = last_tokens(hidden_BTD, valid_BT) if HEADS[name].reads == "pooled" else hidden_BTD
                logits[name] = getattr(self, name)(x, deterministic=deterministic)
        return Output(hidden_BTD, logits, output_layers=layers)
