"""The encoder of the BERT family (Devlin et al. 2018).

Shapes: B batch, T length, P predictions, D model, V vocabulary.
"""

import flax.linen as nn
import flax.struct
import jax

from tx_jax.config import TransformerConfig
from tx_jax.nn.embed import BertEmbeddings
from tx_jax.nn.heads import MaskedLMHead, NextSentenceHead, Pooler, gather_positions
from tx_jax.nn.masks import padding_mask
from tx_jax.nn.stack import Stack


@flax.struct.dataclass
class Output:
    """What a model returns. What its configuration has no head for is None.

    Attributes:
      hidden: [B, T, D], the last layer.
      pooled: [B, D].
      masked_lm: logits [B, P, V], or [B, T, V] where no positions were asked for; float32.
      next_sentence: logits [B, 2], float32; 0 = B follows A.
    """

    hidden: jax.Array
    pooled: jax.Array | None = None
    masked_lm: jax.Array | None = None
    next_sentence: jax.Array | None = None


class Encoder(nn.Module):
    """Embeddings, a stack of bidirectional blocks, and the heads that `config.heads` names."""

    config: TransformerConfig

    def setup(self):
        config = self.config
        self.embeddings = BertEmbeddings(config)
        self.encoder = Stack(config)
        if "next_sentence" in config.heads:
            self.pooler = Pooler(config)
            self.next_sentence = NextSentenceHead(config)
        if "masked_lm" in config.heads:
            self.masked_lm = MaskedLMHead(config)

    def __call__(
        self,
        tokens_BT: jax.Array,
        *,
        segments_BT: jax.Array,
        valid_BT: jax.Array,
        positions_BP: jax.Array | None = None,
        deterministic: bool,
    ) -> Output:
        """Runs the encoder and its heads.

        Args:
          tokens_BT: token ids.
          segments_BT: 0 for the first segment, 1 for the second.
          valid_BT: True for tokens, False for padding, which nothing attends to.
          positions_BP: where the masked LM predicts; everywhere if None.
          deterministic: no dropout; otherwise a "dropout" RNG is needed.
        """
        x_BTD = self.embeddings(tokens_BT, segments_BT=segments_BT, deterministic=deterministic)
        hidden_BTD = self.encoder(x_BTD, mask_BHTS=padding_mask(valid_BT), deterministic=deterministic)
        output = Output(hidden=hidden_BTD)
        if "next_sentence" in self.config.heads:
            pooled_BD = self.pooler(hidden_BTD)
            output = output.replace(pooled=pooled_BD, next_sentence=self.next_sentence(pooled_BD))
        if "masked_lm" in self.config.heads:
            gathered = hidden_BTD if positions_BP is None else gather_positions(hidden_BTD, positions_BP)
            output = output.replace(masked_lm=self.masked_lm(gathered, attend=self.embeddings.token.attend))
        return output
