"""Shows what the model sees in readable form: examples token by token, and statistics over many.

Shapes: B examples, T sequence length, P predictions.
"""

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable
from typing import Literal

import numpy as np

from tx_jax.data.pretraining.byte_lengths import byte_lengths
from tx_jax.data.pretraining.targets import Batch
from tx_jax.text import Tokenizer

Kind = Literal["text", "special", "mask", "random", "kept"]


@dataclasses.dataclass(frozen=True)
class Piece:
    """One token of an example.

    Attributes:
      text: the original token as it is in the text, with the space before it if there is one.
      seen: the token that the model sees in its place, in the same form: it differs if masked or replaced.
      kind: "text" and "special" tokens are not predicted; the others are: they are masked, replaced by a random token,
        or kept. A random token that happens to be the original counts as kept.
      segment: 0 or 1.
      document: number within the row, from 1.
    """

    text: str
    seen: str
    kind: Kind
    segment: int
    document: int


@dataclasses.dataclass(frozen=True)
class Example:
    """One row of a batch.

    Attributes:
      pieces: without padding.
      padding: share of the row that is padding.
      unknown: share of the tokens that are the unknown token.
      follows: whether the second segment is the text that follows the first; None if there are no pairs.
    """

    pieces: tuple[Piece, ...]
    padding: float
    unknown: float
    follows: bool | None


def examples(batch: Batch, tokenizer: Tokenizer) -> list[Example]:
    """The rows of a batch, masked or causal, except padding rows."""
    real = np.flatnonzero(batch["example_weights"])
    texts = functools.cache(lambda token_id: token_text(tokenizer, token_id))
    kinds, originals = _kinds(batch, tokenizer), _originals(batch)
    segments = batch.get("segments", np.zeros_like(originals))
    documents = batch.get("documents", np.ones_like(originals))
    found = []
    for row in real:
        valid = np.flatnonzero(batch["valid"][row])
        columns = (originals, batch["tokens"], kinds, segments, documents)
        pieces = [
            Piece(texts(int(original)), texts(int(token)), str(kind), int(segment), int(document))
            for original, token, kind, segment, document in zip(*(x[row, valid] for x in columns), strict=True)
        ]
        found.append(
            Example(
                pieces=tuple(pieces),
                padding=1 - len(valid) / originals.shape[1],
                unknown=float((originals[row, valid] == tokenizer.unk_id).mean())
                if tokenizer.unk_id is not None
                else 0.0,
                follows=bool(batch["next_sentence_labels"][row] == 0) if "next_sentence_labels" in batch else None,
            )
        )
    return found


def statistics(batches: Iterable[Batch], tokenizer: Tokenizer) -> dict[str, float]:
    """Statistics of batches; padding rows do not count.

    Returns, as far as they apply:
      examples: number of rows.
      length: tokens per row, including special tokens but not padding.
      padding: share of all positions.
      unknown: share of the tokens that are the unknown token.
      tokens_per_byte: text tokens, except unknown ones, per byte of the text that they stand for.
      chosen: share of the tokens, special tokens included, that are to be predicted.
      mask, random, kept: shares of those; see `Piece.kind`.
      dropped: share of the wanted predictions for which `max_predictions` had no room.
      follows: share of the pairs in which the second segment is the text that follows the first.
      documents: documents per row, if they are packed.
    """
    sums: Counter[str] = Counter()
    lengths = byte_lengths(tokenizer)
    has = set()
    for batch in batches:
        real = batch["example_weights"] > 0
        batch = {name: values[real] for name, values in batch.items()}
        has |= batch.keys()
        tokens = _originals(batch)[batch["valid"]]
        is_text = ~np.isin(tokens, tokenizer.special_ids)
        sums["examples"] += len(batch["tokens"])
        sums["positions"] += batch["tokens"].size
        sums["tokens"] += len(tokens)
        sums["unknown"] += int((tokens == tokenizer.unk_id).sum()) if tokenizer.unk_id is not None else 0
        sums["text_tokens"] += int(is_text.sum())
        sums["bytes"] += float(lengths[tokens].sum(dtype=np.float64))
        if "masked_weights" in batch:
            sums.update(Counter(_kinds(batch, tokenizer)[batch["valid"]].tolist()))
            sums["dropped"] += float(batch["masked_dropped"].sum())
        if "next_sentence_labels" in batch:
            sums["follows"] += int((batch["next_sentence_labels"] == 0).sum())
        if "documents" in batch:
            sums["documents"] += int(batch["documents"].max(axis=1).sum())
    return _shares(sums, has)


def _shares(sums: Counter[str], has: set[str]) -> dict[str, float]:
    def share(part: float, whole: float) -> float:
        return part / whole if whole else 0.0

    shares = {
        "examples": sums["examples"],
        "length": share(sums["tokens"], sums["examples"]),
        "padding": 1 - share(sums["tokens"], sums["positions"]),
        "unknown": share(sums["unknown"], sums["tokens"]),
        "tokens_per_byte": share(sums["text_tokens"], sums["bytes"]),
    }
    if "masked_weights" in has:
        chosen = sums["mask"] + sums["random"] + sums["kept"]
        shares["chosen"] = share(chosen, sums["tokens"])
        shares |= {kind: share(sums[kind], chosen) for kind in ("mask", "random", "kept")}
        shares["dropped"] = share(sums["dropped"], sums["dropped"] + chosen)
    if "next_sentence_labels" in has:
        shares["follows"] = share(sums["follows"], sums["examples"])
    if "documents" in has:
        shares["documents"] = share(sums["documents"], sums["examples"])
    return shares


def _originals(batch: Batch) -> np.ndarray:
    """The tokens before corruption: int32 [B, T]."""
    if "masked_weights" not in batch:
        return batch["tokens"]
    tokens = batch["tokens"].copy()
    rows, slots = np.nonzero(batch["masked_weights"])
    tokens[rows, batch["masked_positions"][rows, slots]] = batch["masked_targets"][rows, slots]
    return tokens


def _kinds(batch: Batch, tokenizer: Tokenizer) -> np.ndarray:
    """The `Kind` of each token: str [B, T]."""
    kinds = np.where(np.isin(batch["tokens"], tokenizer.special_ids), "special", "text").astype("<U7")
    if "masked_weights" not in batch:
        return kinds
    rows, slots = np.nonzero(batch["masked_weights"])
    columns, targets = batch["masked_positions"][rows, slots], batch["masked_targets"][rows, slots]
    seen = batch["tokens"][rows, columns]
    kinds[rows, columns] = np.where(seen == tokenizer.mask_id, "mask", np.where(seen == targets, "kept", "random"))
    return kinds


def token_text(tokenizer: Tokenizer, token_id: int) -> str:
    """A token as it is in a text, with the space before it if there is one.

    Special tokens, and tokens that are a part of a character, are given as the vocabulary spells them.
    """
    entry = tokenizer.token(token_id)
    if token_id in tokenizer.special_ids:
        return f" {entry}"
    # Decoded alone, a token would lose the space before it, and a WordPiece would keep the mark that it continues.
    before = tokenizer.encode("a")
    text = tokenizer.decode([*before, token_id]).removeprefix(tokenizer.decode(before))
    return entry if not text or "\N{REPLACEMENT CHARACTER}" in text else text
