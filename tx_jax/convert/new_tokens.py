"""Adds words to a model's vocabulary as single tokens: the first step of adapting it to a domain.

A new token's embedding is initialized to the mean of similar words, so it is meaningful to the model before any
training (Hewitt 2021 argues for the mean of all embeddings; the mean of a few similar words is closer).
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from tx_jax.convert.model_dir import Model
from tx_jax.errors import InputError, InputWarning
from tx_jax.text import Tokenizer

# Path suffixes of the parameters that have one row per token.
ROWS = ("token/embedding", "masked_lm/bias", "masked_lm/output/embedding", "causal_lm/output/embedding")


def add_tokens(model: Model, words: Sequence[str], similar: Mapping[str, Sequence[str]]) -> Model:
    """Returns the model with these words added to its tokenizer, and with rows for them in every parameter that has one
    row per token: the input embeddings, the output table if it is separate, and the output bias.

    Args:
      words: new, whole words. Their ids follow the ids of all tokens and of all nonzero rows of the model.
      similar: for each new word, the similar words whose mean initializes it. A similar word of several tokens counts
        as their mean. A new word without similar words is initialized to the mean of the tokens that it was split into
        before.

    Issues an InputWarning about nonzero rows that belong to no token of the tokenizer.

    Raises:
      InputError: the model has no tokenizer; a word is already in the tokenizer, or cannot be a token; similar words
        are given for a word that is not new, or are unknown to the tokenizer.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        why = f": {model.tokenizer_problem}" if model.tokenizer_problem else ""
        raise InputError(f"the model was converted without a tokenizer, so no words can be added{why}")
    if stray := sorted(set(similar) - set(words)):
        raise InputError(f"similar words for {', '.join(stray)}, not among the new tokens: {', '.join(words)}")
    tokenizer = _with_all_rows(model, tokenizer)
    sources = {word: [pieces_of(other, tokenizer) for other in similar.get(word, (word,))] for word in words}
    larger = tokenizer.with_tokens(words) if words else tokenizer
    ids = larger.encode_words(words)
    params = dict(model.params)
    for path in params:
        if path.endswith(ROWS):
            params[path] = _with_rows(
                params[path], {new: sources[word] for word, (new,) in zip(words, ids, strict=True)}, larger.vocab_size
            )
    vocab_size = max(model.config.vocab_size, larger.vocab_size)
    config = dataclasses.replace(model.config, vocab_size=vocab_size)
    return dataclasses.replace(model, config=config, params=params, tokenizer=larger)


def _with_all_rows(model: Model, tokenizer: Tokenizer) -> Tokenizer:
    """Returns the tokenizer, with ids reserved for rows of the model that may be trained but have no token.

    Rows of zeros are unused. Other rows could be padding rows, or words that someone added whose names were lost, and
    there is no way to tell, so they are kept, with a warning.
    """
    first, last = tokenizer.vocab_size, model.config.vocab_size - 1
    tables = [np.asarray(x)[first:] for path, x in model.params.items() if path.endswith(ROWS)]
    if last < first or not any(table.any() for table in tables):
        return tokenizer
    warnings.warn(
        f"the model has {last + 1} rows, its tokenizer {first} tokens: rows {first} to {last} may belong to tokens "
        f"whose names are lost, so they stay as they are, and new tokens begin at {last + 1}",
        InputWarning,
        stacklevel=3,
    )
    return tokenizer.with_reserved(last + 1)


def pieces_of(word: str, tokenizer: Tokenizer) -> list[int]:
    """Returns the token ids of a word in the middle of a text. Raises InputError if the tokenizer does not know it."""
    (ids,) = tokenizer.encode_words([word])
    if not ids or tokenizer.unk_id in ids:
        raise InputError(f"the tokenizer does not know {word!r}, so nothing can begin as it: give other similar words")
    return ids


def _with_rows(table: np.ndarray, sources: Mapping[int, list[list[int]]], num_tokens: int) -> np.ndarray:
    """Returns the table, extended to `num_tokens` rows if it has fewer, with the mean of means in each new row."""
    missing = max(0, num_tokens - len(table))
    grown = np.concatenate([table, np.zeros((missing, *table.shape[1:]), table.dtype)])
    for new, words in sources.items():
        grown[new] = np.mean([table[ids].mean(axis=0) for ids in words], axis=0)
    return grown
