"""The sizes and choices of one Transformer: differences between papers are fields here, not code paths."""

import dataclasses
import math
from typing import Literal

from tx_jax.config.checks import require

HeadName = Literal["masked_lm", "next_sentence"]


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes and choices of one Transformer. `dtype` is that of the computation; parameters are float32."""

    architecture: Literal["encoder"]
    vocab_size: int
    dim: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    max_length: int
    num_segments: int
    activation: Literal["gelu", "gelu_tanh", "relu"]
    norm_position: Literal["post", "pre"]
    layer_norm_eps: float
    dropout: float
    attention_dropout: float
    init_stddev: float
    heads: tuple[HeadName, ...]
    dtype: Literal["float32", "bfloat16"]
    remat: Literal["none", "block"]

    def __post_init__(self):
        for name in ("vocab_size", "dim", "num_layers", "num_heads", "mlp_dim", "max_length", "num_segments"):
            value = getattr(self, name)
            require(value >= 1, f"model.{name}={value} must be at least 1")
        require(
            self.dim % self.num_heads == 0,
            f"model.dim={self.dim} is not divisible by model.num_heads={self.num_heads}",
        )
        for name in ("dropout", "attention_dropout"):
            value = getattr(self, name)
            require(0 <= value < 1, f"model.{name}={value} must be in [0, 1)")
        for name in ("layer_norm_eps", "init_stddev"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"model.{name}={value} must be positive")
        require(len(set(self.heads)) == len(self.heads), f"model.heads={self.heads} names a head twice")

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads
