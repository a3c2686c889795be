"""What this package computes in a case: outputs of every head, hidden states, a loss and its gradients."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from tx_jax import tree
from tx_jax.config import TransformerConfig
from tx_jax.models import registry
from tx_jax.models.output import Output


def outputs(config: TransformerConfig, params: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> dict:
    """Logits by head, "pooled", and "hidden" [layers + 1, B, T, D]: the embeddings, then each layer's output."""
    output, sown = jax.jit(lambda p: _apply(config, p, batch, mutable=["intermediates"]))(
        unflatten_dict(params, sep="/")
    )
    room = "decoder" if config.architecture == "decoder" else "encoder"
    hidden = list(sown["intermediates"][room]["hidden"])
    if config.norm_position == "pre":
        hidden[-1] = output.hidden  # with the closing norm, as transformers reports it
    return {"hidden": np.stack(hidden), **{head: np.asarray(of_head(output, head)) for head in config.heads}}


def of_head(output: Output, head: str) -> jax.Array:
    """What a head gives: its logits, or the pooler's vectors."""
    return output.pooled if head == "pooled" else output.logits[head]


def logits(config: TransformerConfig, params: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """Of the first head, and nothing else."""
    run = jax.jit(lambda p: _apply(config, p, batch).logits[config.heads[0]])
    return np.asarray(run(unflatten_dict(params, sep="/")))


def loss_and_gradients(
    config: TransformerConfig, params: Mapping[str, np.ndarray], batch: Mapping[str, np.ndarray]
) -> tuple[float, dict[str, np.ndarray]]:
    """The sum of all logits at valid positions, weighed by fixed waves: a loss that every output is part of."""

    def loss(p: dict) -> jax.Array:
        output = _apply(config, p, batch)
        outputs = [of_head(output, head) for head in config.heads]
        return sum(jnp.sum(x * waves(x.shape, batch)) for x in outputs)

    value, gradients = jax.jit(jax.value_and_grad(loss))(unflatten_dict(params, sep="/"))
    return float(value), {path: np.asarray(g) for path, g in tree.flatten(gradients).items()}


def waves(shape: tuple[int, ...], batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """Weights for logits of a shape, 0 at padding."""
    weights = np.sin(np.arange(np.prod(shape), dtype=np.float32)).reshape(shape)
    valid = batch["valid"]
    if shape[:2] == valid.shape:
        weights = weights * valid.reshape(*valid.shape, *(1,) * (len(shape) - 2))
    return weights / np.abs(weights).sum()


def _apply(config: TransformerConfig, params: dict, batch: Mapping[str, np.ndarray], **kwargs: object):
    return registry.build(config).apply(
        {"params": params},
        jnp.asarray(batch["tokens"]),
        segments_BT=jnp.asarray(batch["segments"]),
        valid_BT=jnp.asarray(batch["valid"]),
        deterministic=True,
        **kwargs,
    )
