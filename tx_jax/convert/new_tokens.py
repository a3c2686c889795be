"""Words that a model learns to read as one token: the first steps of adapting it to a domain.

A new token begins as the mean of words that are like it, so that the model makes something of it before it has seen it
(as Hewitt 2021 argues for the mean of all; the mean of a few similar words is nearer).
"""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from tx_jax.convert.model_dir import Model
from tx_jax.errors import InputError, InputWarning
from tx_jax.text import Tokenizer

# Parameters with a row for each token, by the end of their path.
ROWS = ("token/embedding", "masked_lm/bias", "masked_lm/output/embedding", "causal_lm/output/embedding")


def add_tokens(model: Model, words: Sequence[str], similar: Mapping[str, Sequence[str]]) -> Model:
    """The model with a tokenizer that has these words, and with rows for them wherever tokens have one: the input
    embeddings, the output table where it is another, the output bias.

    Args:
      words: new, whole words. Their ids follow those of all tokens, and of all rows of the model that hold something.
      similar: for a word those whose mean it begins as. One that is several tokens counts as their mean. A word for
        which there are none begins as the mean of the tokens that it was before.

    Warns with InputWarning of rows that hold something, but belong to no token of the tokenizer.

    Raises:
      InputError: the model has no tokenizer; a word that the tokenizer has already, or that cannot be a token; similar
        words for a word that is not new, or that the tokenizer does not know.
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
    """The tokenizer, with ids for rows of the model that may hold what was learned of a token that it does not know.

    Rows of zeros hold nothing. Of others nothing tells whether they are padding, or words that somebody added and whose
    names were lost: they are kept, with a warning.
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
    """The token ids of a word in the midst of a text. Raises InputError for one that the tokenizer does not know."""
    (ids,) = tokenizer.encode_words([word])
    if not ids or tokenizer.unk_id in ids:
        raise InputError(f"the tokenizer does not know {word!r}, so nothing can begin as it: give other similar words")
    return ids


def _with_rows(table: np.ndarray, sources: Mapping[int, list[list[int]]], num_tokens: int) -> np.ndarray:
    """The table, grown to `num_tokens` rows where it has fewer, with the mean of means in each new row."""
    missing = max(0, num_tokens - len(table))
    grown = np.concatenate([table, np.zeros((missing, *table.shape[1:]), table.dtype)])
    for new, words in sources.items():
        grown[new] = np.mean([table[ids].mean(axis=0) for ids in words], axis=0)
    return grown
