"""The original Transformer (Vaswani et al. 2017): an encoder, and a decoder that attends to its output.

Shapes: B batch, S source length, T target length, D model, V vocabulary.
"""

import flax.linen as nn
import jax

from tx_jax.config import TransformerConfig
from tx_jax.models.output import Output
from tx_jax.nn.block import Context
from tx_jax.nn.embed import Embeddings, row_positions
from tx_jax.nn.heads import CausalLMHead
from tx_jax.nn.masks import Mask, continued
from tx_jax.nn.stack import Stack


class EncoderDecoder(nn.Module):
    """Source, target and output share one table of tokens (section 3.4). `encode` once, `decode` as often as needed."""

    config: TransformerConfig

    def setup(self):
        config = self.config
        self.embeddings = Embeddings(config)
        if config.decoder_embeddings:
            self.decoder_embeddings = Embeddings(config, has_tokens=False)
        self.encoder = Stack(config, config.num_layers)
        self.decoder = Stack(config, config.num_decoder_layers)
        self.causal_lm = CausalLMHead(config)

    def __call__(
        self,
        tokens_BS: jax.Array,
        *,
        valid_BS: jax.Array,
        target_tokens_BT: jax.Array,
        target_valid_BT: jax.Array,
        deterministic: bool,
    ) -> Output:
        """Logits of each next target token, given the source and the preceding target tokens.

        Args:
          tokens_BS, target_tokens_BT: token ids; the target begins with the start token.
          valid_BS, target_valid_BT: True for tokens, False for padding, which is masked in attention.
          deterministic: whether dropout is off; otherwise a "dropout" RNG is needed.
        """
        memory_BSD = self.encode(tokens_BS, valid_BS=valid_BS, deterministic=deterministic)
        return self.decode(
            target_tokens_BT,
            valid_BT=target_valid_BT,
            memory_BSD=memory_BSD,
            memory_valid_BS=valid_BS,
            deterministic=deterministic,
        )

    def encode(self, tokens_BS: jax.Array, *, valid_BS: jax.Array, deterministic: bool) -> jax.Array:
        """The encoder's output [B, S, D]."""
        context = Context(Mask(valid_BS))
        return self._run(self.encoder, self.embeddings, tokens_BS, valid_BS, context, deterministic)

    def decode(
        self,
        tokens_BT: jax.Array,
        *,
        valid_BT: jax.Array,
        memory_BSD: jax.Array,
        memory_valid_BS: jax.Array,
        first_B: jax.Array | None = None,
        deterministic: bool,
    ) -> Output:
        """Applies the decoder and its output layer, given the output of `encode`.

        Args:
          first_B: see `Decoder`.
        """
        context = Context(
            continued(valid_BT, None, first_B),
            memory_BSD=memory_BSD,
            memory_mask=Mask(memory_valid_BS),
        )
        embeddings = self.decoder_embeddings if self.config.decoder_embeddings else self.embeddings
        hidden_BTD = self._run(self.decoder, embeddings, tokens_BT, valid_BT, context, deterministic, first_B)
        layer = self.causal_lm(hidden_BTD, table=self.embeddings.token)
        return Output(hidden_BTD, {"causal_lm": layer.logits()}, output_layers={"causal_lm": layer})

    def _run(
        self,
        stack: Stack,
        embeddings: Embeddings,
        tokens: jax.Array,
        valid: jax.Array,
        context: Context,
        deterministic: bool,
        first: jax.Array | None = None,
    ) -> jax.Array:
        positions = row_positions(tokens) if first is None else first[:, None] + row_positions(tokens)
        given = None if first is None else positions  # without them, rows of a learned table are read in their order
        x = embeddings(
            tokens,
            segments_BT=None,
            positions_BT=given,
            deterministic=deterministic,
            token=self.embeddings.token,
        )
        hidden, _ = stack(x, context=context, positions_BT=positions, valid_BT=valid, deterministic=deterministic)
        return hidden
