"""A model that was trained here, exported and run in transformers: the same tokens, the same logits.

    python -m tests.parity.export runs/quickstart      # exit code 1 where a logit differs by more than 1e-4

Needs torch and transformers.
"""

import pathlib
import sys
import tempfile

import jax
import numpy as np
import transformers

from tests.parity import ours, theirs
from tx_jax.convert import to_hf
from tx_jax.convert.model_dir import Model
from tx_jax.runs import trained
from tx_jax.tree import flatten

PAIRS = [
    ("Return a list of the names in the current scope.", "Without arguments, return all of them."),
    ("This function raises an exception", "if the file does not exist: see open()."),
    ("naïve café, 数学, ΑΒΓ", "x"),
]
MAX_DIFFERENCE = 1e-4


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    run = trained.load(pathlib.Path(sys.argv[1]))
    params = {path: np.asarray(x) for path, x in flatten(run.params).items()}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) / "model"
        name = to_hf.write(Model(run.model, params, run.tokenizer, None), folder)
        model = theirs.load(folder, name)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(*zip(*PAIRS, strict=True), padding=True, return_tensors="pt")
    names = {"tokens": "input_ids", "segments": "token_type_ids", "valid": "attention_mask"}
    batch = {ours_: inputs[theirs_].numpy().astype(np.int32) for ours_, theirs_ in names.items()}
    batch["valid"] = batch["valid"].astype(bool)
    same_tokens = all(
        [tokenizer.cls_token_id, *first, tokenizer.sep_token_id, *second, tokenizer.sep_token_id] == row[valid].tolist()
        for (first, second), row, valid in zip(
            (run.tokenizer.encode_batch(pair) for pair in PAIRS), batch["tokens"], batch["valid"], strict=True
        )
    )
    expected = theirs.outputs(model, run.model.heads, batch)
    actual = ours.outputs(run.model, params, batch)
    valid = batch["valid"]
    differences = {}
    for head in run.model.heads:
        a, b = actual[head], expected[head]
        rows = valid if a.shape[:2] == valid.shape else slice(None)
        differences[head] = float(np.abs(a - b)[rows].max())
    largest = max(float(np.abs(expected[head]).max()) for head in run.model.heads)
    shown = ", ".join(f"{head} {value:.1e}" for head, value in differences.items())
    print(f"{sys.argv[1]} as {name}: tokens {'equal' if same_tokens else 'DIFFER'}; logits differ by {shown}", end=" ")
    print(f"(largest {largest:.1f})")
    sys.exit(0 if same_tokens and max(differences.values()) <= MAX_DIFFERENCE else "differs")


if __name__ == "__main__":
    main()
