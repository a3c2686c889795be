"""Low-rank adapters."""

import dataclasses
import math

from tx_jax.config.checks import require, require_patterns
from tx_jax.config.heads import SUPERVISED

# What fine-tuning begins anew, and so trains whole.
NEW_MODULES = ("pooler", *SUPERVISED)


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """LoRA (Hu et al. 2021): the model stays as it is, and products of two small matrices are added to its kernels.

    What `whole` matches trains as it does without LoRA, and has no adapters. Nothing else trains.

    Attributes:
      rank: of the products; 0 = no LoRA.
      alpha: a product is scaled by alpha / rank.
      dropout: of the input of adapters, in training; the kernels beside them get all of it.
      targets: regular expressions over parameter paths, of the kernels that get an adapter.
      also_train: regular expressions over parameter paths, of what trains whole beside `NEW_MODULES`.
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
        """Regular expressions over parameter paths, of what trains whole."""
        return (*(f"^{module}/" for module in NEW_MODULES), *self.also_train)


NO_LORA = LoraConfig()
