"""tx_jax: train, adapt and understand Transformers in JAX/Flax."""

__version__ = "0.1.0"
