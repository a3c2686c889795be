"""Generation here and in transformers, with the same weights: greedy and beam search token for token, and what each
processor makes of a distribution.

    python -m tests.parity.generation     # prints a table; exit code 1 where anything differs

Weights are noise, larger than initial ones, so that continuations are no loops of one token and searches end early,
late and in between. transformers pads on the left, as it asks to. Needs torch and transformers.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import torch
import transformers

from tests.decoding import models
from tests.parity import theirs
from tx_jax import tree
from tx_jax.convert import to_hf
from tx_jax.convert.model_dir import Model
from tx_jax.decoding import Options, generate, processors
from tx_jax.runs.trained import Trained

TEXTS = ["the cat", "a größe, naïve café", "one two three four five one two", "o", "on the mat sat"]
NEW = 12
MAX_PROBABILITIES = 1e-5
PENALTIES = (0.0, 1.0, -0.5, 2.0)


def main() -> None:
    ours = model()
    with tempfile.TemporaryDirectory() as folder:
        to_hf.write(
            Model(
                ours.model, {path: np.asarray(x) for path, x in tree.flatten(ours.params).items()}, ours.tokenizer, None
            ),
            Path(folder),
        )
        other = theirs.load(Path(folder), "GPT2LMHeadModel")
    failed = 0
    for what, options, arguments in cases():
        found, expected = our_ids(ours, options), their_ids(other, ours, arguments)
        same = sum(a == b for a, b in zip(found, expected, strict=True))
        lengths = sorted({len(ids) for ids in expected})
        print(f"{what}: {same} of {len(expected)} sequences equal, of {lengths} tokens")
        failed += same != len(expected)
    for what, difference in distributions():
        print(f"{what}: max |difference| of probabilities {difference:.1e}")
        failed += difference > MAX_PROBABILITIES
    sys.exit("the implementations differ" if failed else 0)


def model() -> Trained:
    """A GPT-2 of two layers whose end token is one that it often writes: two rows of the table are exchanged."""
    ours = models.model("gpt2")
    free = generate(ours, TEXTS, Options(max_new_tokens=NEW, num_beams=4, num_return_sequences=4))
    often = np.bincount([token for one in free for token in one.tokens[2:]]).argmax()
    embedding = ours.params["embeddings"]["token"]
    rows = np.array([ours.tokenizer.eos_id, often])
    embedding["embedding"] = embedding["embedding"].at[rows].set(embedding["embedding"][rows[::-1]])
    return ours


def cases() -> Iterator[tuple[str, Options, dict]]:
    yield "greedy", Options(temperature=0, max_new_tokens=NEW), {}
    penalized = {"repetition_penalty": 1.3}
    yield "greedy, repetition penalty", Options(temperature=0, max_new_tokens=NEW, **penalized), penalized
    for early_stopping in (False, True, "never"):
        for penalty in PENALTIES:
            arguments = {
                "num_beams": 4,
                "num_return_sequences": 3,
                "early_stopping": early_stopping,
                "length_penalty": penalty,
            }
            name = f"4 beams, early_stopping={early_stopping}, length_penalty={penalty}"
            yield name, Options(max_new_tokens=NEW, **arguments), arguments
    arguments = {"num_beams": 3, "num_return_sequences": 2, **penalized}
    yield "3 beams, repetition penalty", Options(max_new_tokens=NEW, **arguments), arguments


def our_ids(ours: Trained, options: Options) -> list[list[int]]:
    """All prompts as one batch."""
    return [one.tokens for one in generate(ours, TEXTS, options)]


def their_ids(other: torch.nn.Module, ours: Trained, arguments: dict) -> list[list[int]]:
    """Each prompt by itself, as padding on the left changes what a GPT-2 of transformers computes by rounding."""
    end, found = ours.tokenizer.eos_id, []
    for text in TEXTS:
        ids = torch.tensor([ours.tokenizer.encode(text)])
        with torch.no_grad():
            made = other.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=NEW,
                eos_token_id=end,
                pad_token_id=end,
                **arguments,
            )
        for row in made[:, ids.shape[1] :].tolist():
            found.append(row[: row.index(end) + 1] if end in row else row)
    return found


def distributions() -> Iterator[tuple[str, float]]:
    """Each processor alone, and all one after another."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (8, 1000)).astype(np.float32)
    ids = rng.integers(0, 1000, (8, 50))
    seen = np.zeros(logits.shape, bool)
    seen[np.arange(8)[:, None], ids] = True
    made = transformers.generation.logits_process
    steps = {
        "repetition penalty 1.3": (
            made.RepetitionPenaltyLogitsProcessor(1.3),
            lambda x: processors.penalized(x, jnp.asarray(seen), jnp.float32(1.3)),
        ),
        "temperature 0.7": (made.TemperatureLogitsWarper(0.7), lambda x: x / 0.7),
        "top-k 100": (made.TopKLogitsWarper(100), lambda x: processors.top_k(x, 100)),
        "top-p 0.9": (made.TopPLogitsWarper(0.9), lambda x: processors.top_p(x, jnp.float32(0.9))),
        "min-p 0.01": (made.MinPLogitsWarper(0.01), lambda x: processors.min_p(x, jnp.float32(0.01))),
    }
    theirs_all, ours_all = torch.from_numpy(logits), jnp.asarray(logits)
    for name, (their_step, our_step) in steps.items():
        one = their_step(torch.from_numpy(ids), torch.from_numpy(logits).clone()), our_step(jnp.asarray(logits))
        yield name, difference(*one)
        theirs_all, ours_all = their_step(torch.from_numpy(ids), theirs_all), our_step(ours_all)
    yield "all one after another", difference(theirs_all, ours_all)


def difference(expected: torch.Tensor, found: object) -> float:
    probabilities = torch.softmax(expected.double(), -1).numpy()
    x = np.asarray(found, np.float64)
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return float(np.abs(e / e.sum(axis=1, keepdims=True) - probabilities).max())


if __name__ == "__main__":
    main()
