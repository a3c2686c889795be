"""Attention probabilities and hidden states of every family, here and in transformers.

    python -m tests.parity.attention          # the table; exit code 1 where a figure exceeds 1e-5

The same weights, padding and segments as in `compare`; only queries that are tokens count, as padding sees nothing that
matters. Needs torch (CPU) and transformers beside this package.
"""

import pathlib
import sys
import tempfile

import jax
import numpy as np
import torch
from flax.traverse_util import unflatten_dict

from tests.parity import cases, compare, theirs
from tx_jax.convert import to_hf
from tx_jax.convert.heads import shapes_of
from tx_jax.convert.model_dir import Model, Source
from tx_jax.interpret import capture, sites

MAX_DIFFERENCE = 1e-5
# One a body; heads change nothing inside.
CASES = (
    "BERT pretraining",
    "BERT masked LM, untied",
    "RoBERTa masked LM",
    "XLM-R masked LM",
    "CamemBERT masked LM",
    "DistilBERT masked LM",
    "ELECTRA discriminator",
    "DeBERTa masked LM",
    "DeBERTa c2p, positions, segments",
    "DeBERTa-v2 masked LM",
    "DeBERTa-v3 masked LM",
    "DeBERTa-v2 without buckets",
    "ModernBERT masked LM",
    "GPT-2 causal LM",
)


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    failed = []
    print(f"{'case':36s} {'attention':>9s} {'hidden':>9s}")
    for name in CASES:
        model_type, config = cases.CASES[name]
        params = cases.draw_params(shapes_of(config), compare.SEED)
        batch = cases.draw_batch(config, compare.SEED)
        with tempfile.TemporaryDirectory() as folder:
            written = Model(config, params, None, Source("parity", None, model_type, "float32", {"pad_token_id": 1}))
            path = pathlib.Path(folder) / "model"
            model = theirs.load(path, to_hf.write(written, path))
        with torch.no_grad():
            expected = theirs.run(model, config.heads, batch, output_attentions=True, output_hidden_states=True)
        figures = differences(config, params, batch, expected)
        ok = max(figures) <= MAX_DIFFERENCE
        print(f"{name:36s} {figures[0]:9.1e} {figures[1]:9.1e}  {'' if ok else 'TOO LARGE'}", flush=True)
        failed += [] if ok else [name]
    sys.exit(f"differ: {', '.join(failed)}" if failed else 0)


def differences(config: cases.TransformerConfig, params: dict, batch: dict, expected: object) -> tuple[float, float]:
    """The largest differences of probabilities and of hidden states."""
    stack = sites.only_stack(config)
    attention = [f"{stack}/layer_{i}/attention/probabilities" for i in range(config.num_layers)]
    hidden = sites.hidden(config, stack)
    inputs = dict(batch)
    if config.num_segments < 2:
        del inputs["segments"]
    read = (*attention, *hidden)
    _, values = jax.jit(lambda p: capture.run(config, p, inputs, read=read))(unflatten_dict(params, sep="/"))
    valid = batch["valid"]
    assert len(expected.attentions) == len(attention)
    assert len(expected.hidden_states) == len(hidden)
    figures = []
    for names, others in ((attention, expected.attentions), (hidden, expected.hidden_states)):
        worst = 0.0
        for name, other in zip(names, others, strict=True):
            a, b = np.asarray(values[name]), other.numpy()
            assert a.shape == b.shape, (name, a.shape, b.shape)
            a, b = (x.swapaxes(1, 2)[valid] if a.ndim == 4 else x[valid] for x in (a, b))
            worst = max(worst, float(np.abs(a - b).max()))
        figures.append(worst)
    return figures[0], figures[1]


if __name__ == "__main__":
    main()
