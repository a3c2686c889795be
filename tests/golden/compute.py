"""The same outputs as make_bert.py takes from transformers, computed by this package."""

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from tests.golden.weights import Sizes
from tx_jax.config import TransformerConfig
from tx_jax.models import registry


def bert_config(sizes: Sizes) -> TransformerConfig:
    return TransformerConfig(
        architecture="encoder",
        **sizes._asdict(),
        num_segments=2,
        norm_position="post",
        dropout=0.0,
        attention_dropout=0.0,
        init_stddev=0.02,
        heads=("masked_lm", "next_sentence"),
        dtype="float32",
        remat="none",
    )


def outputs(sizes: Sizes, weights: dict[str, np.ndarray], inputs: dict[str, np.ndarray]) -> dict:
    """Hidden states [L + 1, B, T, D] (embeddings first), logits, loss, and gradients by path, in float32."""
    model = registry.build(bert_config(sizes))
    params = flax.traverse_util.unflatten_dict({path: jnp.asarray(w) for path, w in weights.items()}, sep="/")

    def apply(params, **kwargs):
        return model.apply(
            {"params": params},
            inputs["tokens"],
            segments_BT=inputs["segments"],
            deterministic=True,
            **kwargs,
        )

    @jax.jit
    def forward(params):
        output, sown = apply(params, valid_BT=inputs["valid"], mutable=["intermediates"])
        return output, jnp.stack(sown["intermediates"]["encoder"]["hidden"])

    @jax.jit
    @jax.value_and_grad
    def loss_and_gradients(params):
        output = apply(params, valid_BT=inputs["valid"], masked_positions_BP=inputs["positions"])
        return cross_entropy(output.logits["masked_lm"], inputs["labels"]) + cross_entropy(
            output.logits["next_sentence"], inputs["next_sentence"]
        )

    output, hidden = forward(params)
    loss, gradients = loss_and_gradients(params)
    return {
        "hidden": np.asarray(hidden),
        "pooled": np.asarray(output.pooled),
        "masked_lm": np.asarray(output.logits["masked_lm"]),
        "next_sentence": np.asarray(output.logits["next_sentence"]),
        "loss": np.asarray(loss),
        "gradients": {path: np.asarray(g) for path, g in flax.traverse_util.flatten_dict(gradients, sep="/").items()},
    }


def cross_entropy(logits: jax.Array, labels: np.ndarray) -> jax.Array:
    """WeightedSum over all positions."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.asarray(labels)[..., None], axis=-1).mean()


def gradient_errors(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> dict[str, float]:
    """||actual - expected|| / ||expected|| by path.

    Softmax does not see the bias of the keys: its true gradient is zero and what is left is rounding, so it is
    measured against the gradient of the key kernel.
    """
    errors = {}
    for path, value in expected.items():
        scale = expected[path.replace("key/bias", "key/kernel")]
        errors[path] = float(np.linalg.norm(actual[path] - value) / np.linalg.norm(scale))
    return errors
