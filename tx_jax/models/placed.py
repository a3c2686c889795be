"""What decoding and interpretation need of a model."""

from typing import Any, Protocol

import jax

from tx_jax.config import TransformerConfig
from tx_jax.text.tokenizer import Tokenizer


class PlacedModel(Protocol):
    """A model with its parameters on a mesh, such as `runs.trained.Trained`."""

    @property
    def model(self) -> TransformerConfig: ...
    @property
    def params(self) -> Any: ...
    @property
    def mesh(self) -> jax.sharding.Mesh: ...
    @property
    def untrained(self) -> tuple[str, ...]: ...
    def require_tokenizer(self) -> Tokenizer: ...
