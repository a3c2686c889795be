"""Run in a process of its own with 8 virtual devices: prints what is generated on a mesh and on one device, as JSON.

python -m tests.decoding.sharded
"""

import json

import jax
import numpy as np

from tests.decoding import models
from tx_jax.config import MeshConfig
from tx_jax.decoding import Options, generate, steps

MESH = MeshConfig(data=2, fsdp=2, context=1, tensor=2)
TEXTS = ["the cat", "a größe", "one two three", "o", "the mat"]  # not as many as the data axes divide
RUNS = {
    "greedy": ("gpt2", Options(temperature=0, max_new_tokens=6)),
    "sampled": ("gpt2", Options(max_new_tokens=6, top_p=0.9, seed=2, num_return_sequences=2)),
    "beams": ("gpt2", Options(num_beams=3, max_new_tokens=6)),
    "beams of an encoder-decoder": ("seq2seq_pre", Options(num_beams=3, max_new_tokens=6)),
}
CACHE = [2, 2, 8, 8]  # of 8 rows, 4 heads, 8 places of 8: what one device holds


def compare(form: str, options: Options) -> dict:
    """The vocabulary is filled up, as two devices share it."""
    size = {"vocab_size": 304}
    one = generate(models.model(form, **size), TEXTS, options)
    spread = models.model(form, mesh=MESH, **size)
    found = generate(spread, TEXTS, options)
    with jax.set_mesh(spread.mesh):
        prompts = models.prompts(*[[1, 2]] * 8, sources=[[3, 4]] * 8 if form.startswith("seq2seq") else ())
        prefill = jax.jit(steps.prefill, static_argnums=(0, 3, 4))
        _, kept = prefill(spread.model, spread.params, prompts, 8, steps.Writable(300))
    (cache, *_) = jax.tree.leaves(kept.cache)
    return {
        "tokens": [g.tokens for g in found],
        "expected": [g.tokens for g in one],
        "difference": float(np.abs(np.subtract([g.score for g in found], [g.score for g in one])).max()),
        "cache": list(cache.sharding.shard_shape(cache.shape)),
    }


if __name__ == "__main__":
    print(json.dumps({name: compare(*run) for name, run in RUNS.items()}))
