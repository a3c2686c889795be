"""Low-rank adapters."""

import dataclasses
import math

from tx_jax.config.checks import require, require_patterns
from tx_jax.config.heads import supervised


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """LoRA (Hu et al. 2021): the model is frozen, and products of two small matrices are added to its kernels.

    Parameters that `whole` matches train as they do without LoRA, and have no adapters. Nothing else trains.

    Attributes:
      rank: rank of the products; 0 = no LoRA.
      alpha: a product is scaled by alpha / rank.
      dropout: dropout rate on the adapters' input in training; the kernels themselves get the input without it.
      targets: regular expressions over parameter paths: the kernels that get an adapter.
      also_train: regular expressions over parameter paths: what trains in full besides the modules that fine-tuning
        initializes anew: the pooler and the supervised heads.
    """

    rank: int = 0
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("attention/(query|value)/kernel$",)
    also_train: tuple[str, ...] = ()

    def __post_init__(self):
        require(self.rank >= 0, f"lora.rank={self.rank} must not be negative; 0 is no LoRA")
        require(0 < self.alpha < math.inf, f"lora.alpha={self.alpha} must be positive")
        require(0 <= self.dropout < 1, f"lora.dropout={self.dropout} must be in [0, 1)")
        require(not self.rank or bool(self.targets), "lora.targets is empty: name the kernels that get an adapter")
        require_patterns("lora.targets", self.targets)
        require_patterns("lora.also_train", self.also_train)

    @property
    def whole(self) -> tuple[str, ...]:
        """Regular expressions over parameter paths: what trains in full."""
        return (*(f"^{module}/" for module in ("pooler", *supervised())), *self.also_train)


NO_LORA = LoraConfig()
