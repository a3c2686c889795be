"""The configuration of a Transformer: differences between papers are fields here, not code paths."""

import dataclasses
import math
from typing import Literal

from tx_jax import added
from tx_jax.config.checks import require
from tx_jax.config.heads import HEADS, heads_of
from tx_jax.errors import InputError, did_you_mean


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """One Transformer. Computation is in `dtype`; parameters are float32.

    Attributes:
      num_layers: layers of the encoder, or of a decoder without an encoder. `num_decoder_layers` counts those of a
        decoder behind an encoder.
      max_length: number of positions; the size of the position table if `position_embedding` is learned.
      num_segments: rows of the segment table; 0 = none.
      norm_position: "post" is the original's and BERT's, "pre" GPT-2's.
      heads: the heads on top, names in the table `HEADS`. "pooled" is only a pooler, for sentence vectors.
      num_labels: outputs of sequence and token classification.
      attention: the implementation, a name in the table of `nn/attention/choice.py`; "auto" = the fastest that can.
      embedding_dim: width of the embedding tables; 0 = dim (ELECTRA's smaller ones are projected to dim, and back for a
        causal LM).
      embedding_norm: LayerNorm after the sum of the embeddings.
      embedding_scale: token embeddings are multiplied by sqrt(dim) (Vaswani et al. 2017, section 3.4).
      position_embedding: in "sinusoidal", the paper's, sines and cosines alternate; in "sinusoidal_halves", Marian's,
        all sines come first.
      decoder_embeddings: the decoder behind an encoder has a position table and a norm of embeddings of its own (BART).
        Both sides share the table of tokens.
      first_norm: with pre-LN, the first layer has a norm although the embeddings were normalized (mBART).
      position_offset: the first token's row in the position table. RoBERTa's is 2: its padding index plus one; padding
        then takes the row before.
      pooler: the activation of the pooler.
      classifier_transform: ModernBERT's prediction head: the pooler has a LayerNorm after its activation, and token
        classifiers read the pooler's output for every token. The masked LM's transform has the pooler's activation.
      classifier_pooling: what the pooler reads: the first token or the mean of all.
      classifier_dropout: dropout on the classifiers' input; -1 = dropout.
      use_bias: whether the dense layers and norms in the blocks and in the masked LM's transform have biases.
      gated_mlp: wo(activation(wi(x)) * gate(x)) (Shazeer 2020).
      tie_embeddings: tied weights: the output layer of a language model is the token table.
      output_bias: whether the output layer of a causal LM has a bias (Marian); that of a masked LM always has one.
      scale_residual_init: as in GPT-2: layers whose output is added to the residual are initialized smaller by
        sqrt(2 num_layers).
      initial_attention: what each head of an encoder's first layer attends to before training: the "previous" or the
        "next" token, the "same" token (itself, and wherever else it is), or at "random"; empty: all at random. The
        tables of tokens, segments and positions begin otherwise, too (see `nn/initial_attention.py`). A small model
        learns in far fewer steps.
      relative_attention: DeBERTa's attention terms besides content-to-content.
      relative_distance: larger distances are clipped to it.
      relative_buckets: logarithmic buckets on each side; 0 = a row for every distance.
      relative_norm: LayerNorm on the table of relative positions.
      share_relative_projections: relative positions use the content's projections.
      key_bias: whether key projections have a bias.
      conv_kernel: width of DeBERTa-v2's convolution beside the first layer; 0 = none.
      enhanced_mask_decoder: the masked LM runs the last layer twice more, with absolute positions in the query.
      rotary_theta: base of the rotary angles.
      local_window: a token attends to at most local_window / 2 tokens on each side; 0 = to all. Every
        `global_every`th layer, beginning with the first, attends to all; the others use `local_rotary_theta`.
    """

    architecture: Literal["encoder", "decoder", "encoder_decoder"]
    vocab_size: int
    dim: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    max_length: int
    num_segments: int
    activation: Literal["gelu", "gelu_tanh", "relu", "silu"]
    norm_position: Literal["post", "pre"]
    layer_norm_eps: float
    dropout: float
    attention_dropout: float
    init_stddev: float
    heads: tuple[str, ...]
    dtype: Literal["float32", "bfloat16"]
    remat: Literal["none", "dots", "block"]
    attention: Literal["auto", "xla", "cudnn", "splash", "rows", "relative"] = "auto"
    num_decoder_layers: int = 0
    num_labels: int = 2
    embedding_dim: int = 0
    embedding_norm: bool = True
    embedding_scale: bool = False
    decoder_embeddings: bool = False
    first_norm: bool = False
    position_embedding: Literal["learned", "sinusoidal", "sinusoidal_halves", "rotary", "none"] = "learned"
    position_offset: int = 0
    pooler: Literal["tanh", "gelu", "gelu_tanh", "relu"] = "tanh"
    classifier_transform: bool = False
    classifier_pooling: Literal["first", "mean"] = "first"
    classifier_dropout: float = -1.0
    use_bias: bool = True
    gated_mlp: bool = False
    tie_embeddings: bool = True
    output_bias: bool = False
    scale_residual_init: bool = False
    initial_attention: tuple[Literal["random", "same", "previous", "next"], ...] = ()
    relative_attention: tuple[Literal["c2p", "p2c"], ...] = ()
    relative_distance: int = 0
    relative_buckets: int = 0
    relative_norm: bool = False
    share_relative_projections: bool = False
    key_bias: bool = True
    conv_kernel: int = 0
    conv_activation: Literal["tanh", "gelu"] = "tanh"
    enhanced_mask_decoder: bool = False
    rotary_theta: float = 10_000.0
    local_window: int = 0
    local_rotary_theta: float = 10_000.0
    global_every: int = 1

    def __post_init__(self):
        positive = ("vocab_size", "dim", "num_layers", "num_heads", "mlp_dim", "max_length", "num_labels")
        for name in (*positive, "global_every"):
            value = getattr(self, name)
            require(value >= 1, f"model.{name}={value} must be at least 1")
        counts = ("num_segments", "num_decoder_layers", "embedding_dim", "position_offset", "relative_distance")
        for name in (*counts, "relative_buckets", "conv_kernel", "local_window"):
            value = getattr(self, name)
            require(value >= 0, f"model.{name}={value} must not be negative")
        require(
            self.dim % self.num_heads == 0,
            f"model.dim={self.dim} is not divisible by model.num_heads={self.num_heads}",
        )
        for name in ("dropout", "attention_dropout"):
            value = getattr(self, name)
            require(0 <= value < 1, f"model.{name}={value} must be in [0, 1)")
        require(
            self.classifier_dropout == -1 or 0 <= self.classifier_dropout < 1,
            f"model.classifier_dropout={self.classifier_dropout} must be in [0, 1), or -1 for model.dropout",
        )
        for name in ("layer_norm_eps", "init_stddev", "rotary_theta", "local_rotary_theta"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"model.{name}={value} must be positive")
        self._check_architecture()
        self._check_positions()
        self._check_initial_attention()

    def _check_architecture(self) -> None:
        require(
            not self.classifier_transform or self.architecture == "encoder",
            "model.classifier_transform is for model.architecture='encoder'",
        )
        require(len(set(self.heads)) == len(self.heads), f"model.heads={self.heads} names a head twice")
        allowed = heads_of(self.architecture)
        for head in self.heads:
            if head not in allowed:
                raise InputError(
                    f"model.heads={self.heads}: {head!r} is not one of those that model.architecture="
                    f"{self.architecture!r} can have: {', '.join(allowed)}." + added.hint(did_you_mean(head, allowed))
                )
        require(
            (self.num_decoder_layers > 0) == (self.architecture == "encoder_decoder"),
            f"model.num_decoder_layers={self.num_decoder_layers} with model.architecture={self.architecture!r}: "
            "an encoder_decoder has at least 1, the others have 0",
        )
        require(
            self.tie_embeddings or self.embedding_dim in (0, self.dim) or self.architecture == "encoder",
            f"model.embedding_dim={self.embedding_dim} needs model.tie_embeddings=True in a decoder",
        )

    def _check_positions(self) -> None:
        if self.relative_attention:
            require(self.architecture == "encoder", "model.relative_attention is for model.architecture='encoder'")
            require(self.relative_distance >= 1, "model.relative_attention needs model.relative_distance >= 1")
            require(
                not self.relative_buckets or 2 <= self.relative_buckets < self.relative_distance,
                f"model.relative_buckets={self.relative_buckets} must be 0, or at least 2 and below "
                f"model.relative_distance={self.relative_distance}",
            )
        require(
            not self.enhanced_mask_decoder or "masked_lm" in self.heads,
            f"model.enhanced_mask_decoder is part of the masked LM, which model.heads={self.heads} lacks",
        )
        require(
            not self.enhanced_mask_decoder or self.norm_position == "post",
            "model.enhanced_mask_decoder needs model.norm_position='post'",
        )
        require(
            self.position_embedding in ("learned", "none") or self.head_dim % 2 == 0,
            f"model.position_embedding={self.position_embedding!r} needs an even model.dim / model.num_heads, "
            f"not {self.head_dim}",
        )
        require(self.conv_kernel % 2 == 1 or not self.conv_kernel, f"model.conv_kernel={self.conv_kernel} must be odd")
        require(self.local_window % 2 == 0, f"model.local_window={self.local_window} must be even")

    def _check_initial_attention(self) -> None:
        given = self.initial_attention
        if not given:
            return
        otherwise = '; --config.model.initial_attention="()" begins at random'
        for name, needed in (
            ("architecture", "encoder"),
            ("position_embedding", "learned"),
            ("embedding_norm", True),
            ("embedding_scale", False),
            ("relative_attention", ()),
        ):
            value = getattr(self, name)
            require(value == needed, f"model.initial_attention needs model.{name}={needed!r}, not {value!r}{otherwise}")
        require(self.table_dim == self.dim, f"model.initial_attention needs model.embedding_dim=0{otherwise}")
        require(self.num_heads > 1, f"model.initial_attention needs model.num_heads of at least 2{otherwise}")
        require(
            self.head_dim % 2 == 0 and self.head_dim >= 16,
            f"model.initial_attention needs heads of at least 16, an even number, not model.dim / model.num_heads = "
            f"{self.head_dim}: narrower ones cannot tell neighbors apart{otherwise}",
        )
        require(
            len(given) == self.num_heads,
            f"model.initial_attention={given} must have one value for each of model.num_heads={self.num_heads} heads, "
            f"not {len(given)}{otherwise}",
        )
        require(set(given) != {"random"}, f"model.initial_attention={given} is the same as none{otherwise}")
        most = self.num_heads - (2 if self.num_segments else 1)
        require(
            given.count("same") <= most,
            f"model.initial_attention={given}: at most {most} of {self.num_heads} heads can begin with equal tokens, "
            f"as positions{' and segments' if self.num_segments else ''} need room, a head's width each",
        )

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def table_dim(self) -> int:
        """Width of the embedding tables."""
        return self.embedding_dim or self.dim

    @property
    def needs_pooler(self) -> bool:
        """With `classifier_transform` classifiers of tokens have one, too."""
        reading = any(HEADS[head].reads == "pooled" or self.transforms(head) for head in self.heads)
        return self.architecture == "encoder" and reading

    def transforms(self, head: str) -> bool:
        """Whether a head that reads tokens reads what the pooler makes of each."""
        return self.classifier_transform and HEADS[head].supervised and HEADS[head].reads == "tokens"

    @property
    def dropout_of_classifiers(self) -> float:
        return self.dropout if self.classifier_dropout == -1 else self.classifier_dropout
