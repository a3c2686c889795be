"""The encoder-decoder against torch's nn.Transformer, and against Marian, BART and mBART of transformers: same weights,
padding on both sides, outputs and gradients.

    python -m tests.parity.seq2seq            # prints max |difference|; exit code 1 where a figure is too large
    python -m tests.parity.seq2seq --write    # also stores the logits of transformers, for the test suite

Needs torch (CPU) and transformers beside this package.
"""

import dataclasses
import math
import pathlib
import sys
import tempfile

import jax
import numpy as np
import torch
from flax.traverse_util import unflatten_dict

from tests.golden import weights
from tests.parity import cases, ours, seq2seq_cases, theirs
from tests.parity.seq2seq_cases import SEED, apply, side
from tx_jax import tree
from tx_jax.config import TransformerConfig
from tx_jax.convert import from_hf, to_hf
from tx_jax.convert.heads import shapes_of
from tx_jax.convert.model_dir import Model, Source

MAX_LOGITS = 2e-5  # |ours - theirs|, float32
MAX_GRADIENTS = 1e-4  # relative, of each parameter

CONFIG = cases.changed(
    cases.BERT,
    "causal_lm",
    architecture="encoder_decoder",
    num_decoder_layers=2,
    num_segments=0,
    activation="relu",
    layer_norm_eps=1e-5,
    embedding_norm=False,
    embedding_scale=True,
    position_embedding="sinusoidal",
)


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    failed = False
    for position in ("post", "pre"):
        config = dataclasses.replace(CONFIG, norm_position=position)
        params = cases.draw_params(shapes_of(config), SEED)
        batch = {**side(config, "source", 11, SEED), **side(config, "target", 9, SEED + 1)}
        logits, gradients = our_results(config, params, batch)
        expected, expected_gradients = their_results(config, params, batch)
        valid = batch["target_valid"]
        difference = np.abs(logits - expected)[valid].max()
        assert set(gradients) == set(expected_gradients)
        norms = {path: np.linalg.norm(g) for path, g in expected_gradients.items()}
        worst = 0.0
        for path, g in expected_gradients.items():
            if path.endswith("key/bias"):  # softmax does not see it: rounding only
                assert max(norms[path], np.linalg.norm(gradients[path])) < 1e-6 * max(norms.values())
            else:
                worst = max(worst, np.linalg.norm(gradients[path] - g) / norms[path])
        largest = np.abs(expected[valid]).max()
        print(f"{position}-LN: max |difference| {difference:.1e} of logits up to {largest:.1f}, gradients {worst:.1e}")
        failed = failed or difference > MAX_LOGITS or worst > MAX_GRADIENTS
    found = {name: family(name) for name in cases.SEQ2SEQ}
    for name, (expected, difference, worst, bitwise) in found.items():
        largest = np.abs(expected).max()
        print(
            f"{name}: max |difference| {difference:.1e} of logits up to {largest:.1f}, gradients {worst:.1e}, "
            f"to_hf(from_hf(x)) == x: {bitwise}"
        )
        failed = failed or difference > MAX_LOGITS or worst > MAX_GRADIENTS or not bitwise
    if "--write" in sys.argv:
        stored = {f"{name}/logits": values[0] for name, values in found.items()}
        drawn = {name: seq2seq_cases.drawn(name) for name in found}
        stored |= {f"{name}/drawn": np.array(weights.fingerprint(a | b)) for name, (a, b) in drawn.items()}
        np.savez_compressed(seq2seq_cases.GOLDEN, **stored)
    sys.exit("the implementations differ" if failed else 0)


def family(name: str) -> tuple[np.ndarray, float, float, bool]:
    """The logits of transformers; how far ours differ; how far our gradients do, relative to the norm of each tensor's;
    and whether the tensors come back as they were."""
    model_type, config = cases.SEQ2SEQ[name]
    params, batch = seq2seq_cases.drawn(name)
    source = Source("parity", None, model_type, "float32", {"pad_token_id": 1, "decoder_start_token_id": 1})
    with tempfile.TemporaryDirectory() as root:
        folder = pathlib.Path(root) / "ours"
        model = theirs.load(folder, to_hf.write(Model(config, params, None, source), folder))
        model.save_pretrained(folder.with_name("theirs"))
        back, _ = from_hf.read(folder.with_name("theirs"))
    bitwise = all(x.tobytes() == back.params[path].tobytes() for path, x in params.items())
    tensors = {key: torch.from_numpy(np.asarray(x)).long() for key, x in batch.items()}
    expected = model(
        input_ids=tensors["source_tokens"],
        attention_mask=tensors["source_valid"],
        decoder_input_ids=tensors["target_tokens"],
        decoder_attention_mask=tensors["target_valid"],
    ).logits
    (expected * torch.from_numpy(waves(tuple(expected.shape), batch))).sum().backward()
    logits, gradients = our_results(config, params, batch)
    converted = to_hf.convert(Model(config, gradients, None, source))[1]
    worst = 0.0
    norms = {key: float(x.grad.norm()) for key, x in model.named_parameters() if x.grad is not None}
    for key, x in model.named_parameters():
        if key.endswith("k_proj.bias"):  # softmax does not see it: rounding only
            assert max(norms[key], float(np.linalg.norm(converted[key]))) < 1e-6 * max(norms.values())
        elif key in converted and x.grad is not None:  # the output layer's bias is no parameter there
            worst = max(worst, float(np.linalg.norm(converted[key] - x.grad.numpy())) / norms[key])
    theirs_ = expected.detach().numpy()
    return theirs_, float(np.abs(logits - theirs_)[batch["target_valid"]].max()), worst, bitwise


def waves(logits_shape: tuple[int, ...], batch: dict[str, np.ndarray]) -> np.ndarray:
    return ours.waves(logits_shape, {"valid": batch["target_valid"]})


def our_results(config: TransformerConfig, params: dict, batch: dict) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Logits, and the gradients of their weighed sum by path."""

    def loss(p: dict) -> tuple[jax.Array, jax.Array]:
        logits = apply(config, p, batch)
        return (logits * waves(logits.shape, batch)).sum(), logits

    gradients, logits = jax.jit(jax.grad(loss, has_aux=True))(unflatten_dict(params, sep="/"))
    return np.asarray(logits), {path: np.asarray(g) for path, g in tree.flatten(gradients).items()}


def their_results(config: TransformerConfig, params: dict, batch: dict) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """As `our_results`. nn.Transformer has neither embeddings nor an output layer: one table, beside it."""
    model = transformer(config)
    leaves = {path: torch.from_numpy(np.array(value)).requires_grad_() for path, value in params.items()}
    table = leaves["embeddings/token/embedding"]

    def embed(tokens: np.ndarray) -> torch.Tensor:
        positions = sinusoids(tokens.shape[1], config.dim)
        return table[torch.from_numpy(tokens).long()] * math.sqrt(config.dim) + positions

    source_padding, target_padding = (torch.from_numpy(~batch[f"{name}_valid"]) for name in ("source", "target"))
    length = batch["target_tokens"].shape[1]
    hidden = torch.func.functional_call(
        model,
        their_names(leaves),
        (embed(batch["source_tokens"]), embed(batch["target_tokens"])),
        {
            "tgt_mask": torch.triu(torch.ones(length, length, dtype=torch.bool), 1),
            "src_key_padding_mask": source_padding,
            "memory_key_padding_mask": source_padding,
            "tgt_key_padding_mask": target_padding,
        },
        strict=True,
    )
    logits = hidden @ table.T
    (logits * torch.from_numpy(waves(tuple(logits.shape), batch))).sum().backward()
    return logits.detach().numpy(), {path: leaf.grad.numpy() for path, leaf in leaves.items()}


def transformer(config: TransformerConfig) -> torch.nn.Transformer:
    """nn.Transformer, which post-LN too ends in norms unless it is given stacks without."""
    pre = config.norm_position == "pre"
    sizes = {"d_model": config.dim, "nhead": config.num_heads, "dim_feedforward": config.mlp_dim, "dropout": 0.0}
    layer = sizes | {"norm_first": pre, "batch_first": True, "layer_norm_eps": config.layer_norm_eps}

    def norm() -> torch.nn.LayerNorm | None:
        return torch.nn.LayerNorm(config.dim, config.layer_norm_eps) if pre else None

    encoder = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(**layer), config.num_layers, norm(), enable_nested_tensor=False
    )
    decoder = torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(**layer), config.num_decoder_layers, norm())
    return torch.nn.Transformer(
        config.dim, config.num_heads, custom_encoder=encoder, custom_decoder=decoder, batch_first=True
    )


def their_names(leaves: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Our parameters under torch's names, computed so that gradients come back to ours."""
    found = {}
    leaves = {path: value.T if value.ndim == 2 else value for path, value in leaves.items()}  # torch: [out, in]
    norms = {
        "encoder": {"attention_norm": "norm1", "mlp_norm": "norm2"},
        "decoder": {"attention_norm": "norm1", "cross_attention_norm": "norm2", "mlp_norm": "norm3"},
    }
    for path, value in leaves.items():
        room, *rest = path.split("/")
        if room not in norms:
            continue
        if rest[0] == "final_norm":
            found[f"{room}.norm.{'weight' if rest[1] == 'scale' else 'bias'}"] = value
            continue
        layer, part, *last = rest
        name = f"{room}.layers.{layer.removeprefix('layer_')}"
        if part.endswith("norm"):
            found[f"{name}.{norms[room][part]}.{'weight' if last[0] == 'scale' else 'bias'}"] = value
        elif part == "mlp":
            linear = {"wi": "linear1", "wo": "linear2"}[last[0]]
            found[f"{name}.{linear}.{'weight' if last[1] == 'kernel' else 'bias'}"] = value
        elif last[0] in ("query", "out"):  # query, key and value are one matrix there
            attention = f"{name}.{'self_attn' if part == 'attention' else 'multihead_attn'}"
            kind = "weight" if last[1] == "kernel" else "bias"
            if last[0] == "out":
                found[f"{attention}.out_proj.{kind}"] = value
            else:
                three = [leaves[path.replace("query", other)] for other in ("query", "key", "value")]
                found[f"{attention}.in_proj_{kind}"] = torch.cat(three)
    return found


def sinusoids(length: int, dim: int) -> torch.Tensor:
    """Vaswani et al. 2017, section 3.5, in float64 and then rounded."""
    angles = torch.arange(length, dtype=torch.float64)[:, None] / 10_000 ** (
        torch.arange(0, dim, 2, dtype=torch.float64) / dim
    )
    return torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(length, dim).float()


if __name__ == "__main__":
    main()
