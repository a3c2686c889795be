"""The encoder of the BERT family: BERT, RoBERTa, DistilBERT, ELECTRA, DeBERTa, ModernBERT.

Shapes: B batch, T length, P predictions, D model, V vocabulary.
"""

import flax.linen as nn
import jax

from tx_jax.config import TransformerConfig
from tx_jax.config.heads import HEADS
from tx_jax.models.output import Output
from tx_jax.nn.block import Context
from tx_jax.nn.embed import Embedding, Embeddings, row_positions, token_positions
from tx_jax.nn.heads import build_head, gather_positions, pool
from tx_jax.nn.masks import Mask
from tx_jax.nn.stack import Stack


class Encoder(nn.Module):
    """Embeddings, a stack of bidirectional blocks, and the heads that `config.heads` names."""

    config: TransformerConfig

    def setup(self):
        config = self.config
        self.embeddings = Embeddings(config)
        self.encoder = Stack(config, config.num_layers)
        if config.enhanced_mask_decoder:
            self.mask_decoder_position = Embedding(config.max_length, config.dim, config.init_stddev)
        if config.needs_pooler:
            self.pooler = build_head("pooled", config)
        for name in config.heads:
            if name != "pooled":
                setattr(self, name, build_head(name, config))

    def __call__(
        self,
        tokens_BT: jax.Array,
        *,
        segments_BT: jax.Array | None = None,
        valid_BT: jax.Array,
        documents_BT: jax.Array | None = None,
        positions_BT: jax.Array | None = None,
        masked_positions_BP: jax.Array | None = None,
        deterministic: bool,
    ) -> Output:
        """Runs the encoder and its heads.

        Args:
          tokens_BT: token ids.
          segments_BT: 0 for the first segment, 1 for the second; None = all 0.
          valid_BT: True for tokens, False for padding. No token attends to padding.
          documents_BT: each token's document number, for rows that hold several documents. Tokens do not attend across
            documents.
          positions_BT: the position of each token, starting at 0; None = its index in the row.
          masked_positions_BP: the positions that the masked LM predicts; None = all positions.
          deterministic: disables dropout; if False, a "dropout" RNG is required.
        """
        config = self.config
        if positions_BT is None and config.position_offset:
            positions_BT = token_positions(valid_BT)
        x_BTD = self.embeddings(
            tokens_BT, segments_BT=segments_BT, positions_BT=positions_BT, deterministic=deterministic
        )
        if positions_BT is None:
            positions_BT = row_positions(tokens_BT)
        hidden_BTD, decoded_BTD = self.encoder(
            x_BTD,
            context=Context(Mask(valid_BT, documents_BT)),
            positions_BT=positions_BT,
            valid_BT=valid_BT,
            documents_BT=documents_BT,
            queries_BTD=self.mask_decoder_position(positions_BT) if config.enhanced_mask_decoder else None,
            deterministic=deterministic,
        )
        pooled_BD = None
        if config.needs_pooler:
            pooled_BD = self.pooler(pool(hidden_BTD, valid_BT, config.classifier_pooling))
        read = {"pooled": pooled_BD, "tokens": hidden_BTD}
        logits, layers = {}, {}
        for name in config.heads:
            if name == "masked_lm":
                x_BTD = hidden_BTD if decoded_BTD is None else decoded_BTD
                if masked_positions_BP is not None:
                    x_BTD = gather_positions(x_BTD, masked_positions_BP)
                layers[name] = self.masked_lm(x_BTD, table=self.embeddings.token)
                logits[name] = layers[name].logits()
            elif name != "pooled":
                x = self.pooler(hidden_BTD) if config.transforms(name) else read[HEADS[name].reads]
                logits[name] = getattr(self, name)(x, deterministic=deterministic)
        if "multiple_choice" in logits:
            logits["multiple_choice"] = logits["multiple_choice"][:, 0]
        return Output(hidden_BTD, logits, pooled_BD, layers)
