"""tx_jax: train, adapt and understand Transformers in JAX/Flax.

    import tx_jax

    model = tx_jax.load("runs/bert")      # a run, a converted model, a Hugging Face folder or name: see `api.Model`
    config = tx_jax.get_config("bert_base:smoke")
    tx_jax.train(config, workdir="runs/mine")

Importing tx_jax imports nothing else: JAX comes with the first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tx_jax.api import Model, load, train
    from tx_jax.shipped import get_config

__version__ = "0.1.0"
__all__ = ["Model", "get_config", "load", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from importlib import import_module

        return getattr(import_module("tx_jax.shipped" if name == "get_config" else "tx_jax.api"), name)
    raise AttributeError(f"module 'tx_jax' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
