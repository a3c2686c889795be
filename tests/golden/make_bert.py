"""Writes bert.npz: what transformers' BertForPreTraining computes, in float64, from the weights of weights.py.

Run by hand, in an environment that has this package and also torch and transformers:

    python -m tests.golden.make_bert          # compares this package with transformers and prints a table
    python -m tests.golden.make_bert --write  # also rewrites tests/golden/bert.npz

The table also covers shapes too large to store. Written with transformers 5.23 and torch 2.13.
"""

import pathlib
import sys

import jax
import numpy as np
import torch
from transformers import BertConfig, BertForPreTraining

from tests.golden import compute, weights

LIVE = {
    "1 head": weights.Sizes(61, 16, 1, 1, 64, 12, "gelu", 1e-12),
    "bert-mini": weights.Sizes(30522, 256, 4, 4, 1024, 128, "gelu", 1e-12),
    "bert-base, 4 layers": weights.Sizes(30522, 768, 4, 12, 3072, 256, "gelu_tanh", 1e-12),
    "bert-base": weights.Sizes(30522, 768, 12, 12, 3072, 64, "gelu", 1e-12),
}
GROUPS = {
    "embeddings/token": "bert.embeddings.word_embeddings",
    "embeddings/position": "bert.embeddings.position_embeddings",
    "embeddings/segment": "bert.embeddings.token_type_embeddings",
    "embeddings/norm": "bert.embeddings.LayerNorm",
    "pooler": "bert.pooler.dense",
    "next_sentence": "cls.seq_relationship",
    "masked_lm": "cls.predictions",
    "masked_lm/transform": "cls.predictions.transform.dense",
    "masked_lm/norm": "cls.predictions.transform.LayerNorm",
}
LAYER_GROUPS = {
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "mlp/wi": "intermediate.dense",
    "mlp/wo": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
# Full gradients kept in the file; of every other parameter, the norm.
FULL_GRADIENTS = ("embeddings/position/embedding", "encoder/layer_1/attention/key/kernel", "masked_lm/bias")


def torch_name(path: str) -> str:
    """The name in BertForPreTraining of a parameter path."""
    group, _, kind = path.rpartition("/")
    kind = "bias" if kind == "bias" else "weight"
    if group.startswith("encoder/layer_"):
        layer, _, role = group.removeprefix("encoder/layer_").partition("/")
        return f"bert.encoder.layer.{layer}.{LAYER_GROUPS[role]}.{kind}"
    return f"{GROUPS[group]}.{kind}"


def reference(sizes: weights.Sizes, drawn: dict, inputs: dict, dtype: torch.dtype) -> dict[str, np.ndarray]:
    """Hidden states, logits, loss and gradients (by path, in this package's layout) of BertForPreTraining."""
    config = BertConfig(
        vocab_size=sizes.vocab_size,
        hidden_size=sizes.dim,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        intermediate_size=sizes.mlp_dim,
        max_position_embeddings=sizes.max_length,
        hidden_act={"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}[sizes.activation],
        layer_norm_eps=sizes.layer_norm_eps,
        attn_implementation="eager",
    )
    model = BertForPreTraining(config).to(dtype).eval()
    parameters = dict(model.named_parameters())
    assert sorted(parameters) == sorted(torch_name(path) for path in drawn)
    with torch.no_grad():
        for path, value in drawn.items():
            tensor = torch.from_numpy(value.T.copy() if path.endswith("kernel") else value)
            target = parameters[torch_name(path)]
            assert target.shape == tensor.shape, path
            target.copy_(tensor)
    labels = np.full(inputs["tokens"].shape, -100)
    np.put_along_axis(labels, inputs["positions"], inputs["labels"], axis=1)
    output = model(
        input_ids=torch.from_numpy(inputs["tokens"]).long(),
        token_type_ids=torch.from_numpy(inputs["segments"]).long(),
        attention_mask=torch.from_numpy(inputs["valid"]).long(),
        labels=torch.from_numpy(labels),
        next_sentence_label=torch.from_numpy(inputs["next_sentence"]).long(),
        output_hidden_states=True,
    )
    output.loss.backward()
    gradients = {path: parameters[torch_name(path)].grad.numpy() for path in drawn}
    return {
        "hidden": torch.stack(output.hidden_states).detach().numpy(),
        "pooled": model.bert.pooler(output.hidden_states[-1]).detach().numpy(),
        "masked_lm": output.prediction_logits.detach().numpy(),
        "next_sentence": output.seq_relationship_logits.detach().numpy(),
        "loss": output.loss.detach().numpy(),
        "gradients": {path: g.T if path.endswith("kernel") else g for path, g in gradients.items()},
    }


def stored(outputs: dict) -> dict[str, np.ndarray]:
    """What goes into the file, in float32."""
    arrays = {name: value for name, value in outputs.items() if name != "gradients"}
    gradients = outputs["gradients"]
    arrays["gradient_norms"] = np.array([np.linalg.norm(gradients[path]) for path in sorted(gradients)])
    arrays |= {f"gradient:{path}": gradients[path] for path in FULL_GRADIENTS}
    return {name: np.asarray(value, np.float32) for name, value in arrays.items()}


def compare(name: str, sizes: weights.Sizes, expected: dict, drawn: dict, inputs: dict, noise: dict) -> None:
    """Prints one line: the largest absolute difference from transformers; of gradients, relative to their norm."""
    for label, actual in (("tx_jax", compute.outputs(sizes, drawn, inputs)), ("torch float32", noise)):
        valid = inputs["valid"]
        columns = {
            "hidden": np.abs(actual["hidden"] - expected["hidden"])[:, valid].max(),
            "mlm": np.abs(actual["masked_lm"] - expected["masked_lm"])[valid].max(),
            "pooled": np.abs(actual["pooled"] - expected["pooled"]).max(),
            "nsp": np.abs(actual["next_sentence"] - expected["next_sentence"]).max(),
            "loss": np.abs(actual["loss"] - expected["loss"]),
            "gradients": max(compute.gradient_errors(actual["gradients"], expected["gradients"]).values()),
        }
        line = "  ".join(f"{key} {value:.1e}" for key, value in columns.items())
        print(f"{name:20s} {label:14s} {line}  (largest logit {np.abs(expected['masked_lm']).max():.1f})", flush=True)


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    arrays = {}
    for name, sizes in {**weights.GOLDEN, **LIVE}.items():
        drawn = weights.draw_weights(weights.parameter_shapes(sizes), weights.SEED)
        inputs = weights.draw_inputs(sizes, weights.SEED)
        outputs = reference(sizes, drawn, inputs, torch.float64)
        compare(name, sizes, outputs, drawn, inputs, noise=reference(sizes, drawn, inputs, torch.float32))
        if name in weights.GOLDEN:
            arrays |= {f"{name}/{key}": value for key, value in stored(outputs).items()}
            arrays[f"{name}/drawn"] = np.array(weights.fingerprint(drawn | inputs))
    if sys.argv[1:] == ["--write"]:
        np.savez_compressed(pathlib.Path(__file__).with_name("bert.npz"), **arrays)


if __name__ == "__main__":
    main()
