"""What further pretraining taught a model about its domain: the domain's words, before and after.

Shapes: N occurrences, T length, P pieces of a word, V vocabulary.
"""

import dataclasses
import functools
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from tx_jax.config import TransformerConfig, differences, to_dict
from tx_jax.data.corpus.token_store import Split
from tx_jax.errors import InputError
from tx_jax.files import write_atomically
from tx_jax.models import registry
from tx_jax.runs.run_dir import RunDir
from tx_jax.runs.trained import Trained
from tx_jax.text import Tokenizer

CONTEXT = 48  # tokens on either side of a word
_BATCH = 16


@dataclasses.dataclass(frozen=True)
class Occurrence:
    """An occurrence of a domain word in a text."""

    word: str
    before: str
    after: str


def occurrences(split: Split, words: Sequence[str], tokenizer: Tokenizer, limit: int) -> list[Occurrence]:
    """The occurrences of the words in a split's documents, at most the first `limit` of each word.

    Args:
      words: each must be one token of the tokenizer, which is the store's.

    Raises:
      InputError: a word that is several tokens, or that the tokenizer does not know.
    """
    word_of = {token: word for word, token in zip(words, _tokens(words, tokenizer), strict=True)}
    left = dict.fromkeys(word_of, limit)
    found = []
    for document in _documents(split):
        if not any(left.values()):
            break
        for position in np.flatnonzero(np.isin(document, list(word_of))):
            token = int(document[position])
            if left[token]:
                left[token] -= 1
                before = tokenizer.decode(document[max(0, position - CONTEXT) : position])
                after = tokenizer.decode(document[position + 1 : position + 1 + CONTEXT])
                found.append(Occurrence(word_of[token], before, after))
    return found


def _tokens(words: Sequence[str], tokenizer: Tokenizer) -> list[int]:
    """The ids of words that are one token each. Raises InputError for others."""
    found = []
    for word, ids in zip(words, tokenizer.encode_words(words), strict=True):
        if len(ids) != 1 or ids[0] == tokenizer.unk_id:
            raise InputError(f"{word!r} is not a token of the model: its pieces are {' '.join(tokenizer.tokens(ids))}")
        found += ids
    return found


def _documents(split: Split) -> Iterator[np.ndarray]:
    bounds = split.sentence_offsets[split.document_offsets]
    for start, end in itertools.pairwise(bounds):
        yield split.read(np.array([start]), np.array([end]))


def word_probabilities(model: Trained, found: Sequence[Occurrence]) -> np.ndarray:
    """float64 [N]: the probability that the masked LM gives each word at its position, with all of its tokens masked at
    once. For a word of several tokens it is the product of theirs, so models with different tokenizers are comparable.

    Raises:
      InputError: a model or tokenizer that cannot fill masks.
    """
    tokenizer = model.require_masks()
    tokenizer.require("pad")
    rows = [_masked(occurrence, tokenizer, model.model.max_length) for occurrence in found]
    if not rows:
        return np.zeros(0)
    size = -(-len(rows) // _BATCH) * _BATCH
    length, width = max(len(ids) for ids, _, _ in rows), max(len(pieces) for _, _, pieces in rows)
    tokens, valid = np.full((size, length), tokenizer.pad_id, np.int32), np.zeros((size, length), bool)
    positions, wanted, weights = np.zeros((3, size, width), np.int32)
    valid[len(rows) :, 0] = True  # rows that fill up the last batch
    for i, (ids, at, pieces) in enumerate(rows):
        tokens[i, : len(ids)], valid[i, : len(ids)] = ids, True
        positions[i, : len(pieces)] = at + np.arange(len(pieces))
        wanted[i, : len(pieces)], weights[i, : len(pieces)] = pieces, 1
    log_probability = jax.jit(functools.partial(_log_probability, model.model, tokenizer.vocab_size))
    values = [
        log_probability(model.params, *(x[first : first + _BATCH] for x in (tokens, valid, positions, wanted, weights)))
        for first in range(0, size, _BATCH)
    ]
    return np.exp(np.concatenate(values)[: len(rows)].astype(np.float64))


def _masked(occurrence: Occurrence, tokenizer: Tokenizer, max_length: int) -> tuple[list[int], int, list[int]]:
    """The text as tokens, with a mask for each piece of the word and as much context as the model takes; where the
    masks begin; and the pieces."""
    (pieces,) = tokenizer.encode_words([occurrence.word])
    ids = tokenizer.encode_masked(f"{occurrence.before} {tokenizer.token(tokenizer.mask_id)} {occurrence.after}")
    at = ids.index(tokenizer.mask_id)
    room = max_length - 2 - len(pieces)
    start = max(0, min(at - room // 2, len(ids) - 1 - room))
    masks = [tokenizer.mask_id] * len(pieces)
    ids = [tokenizer.cls_id, *ids[start:at], *masks, *ids[at + 1 : start + room + 1], tokenizer.sep_id]
    return ids, 1 + at - start, pieces


def _log_probability(
    config: TransformerConfig,
    vocab_size: int,
    params: dict,
    tokens_NT: jax.Array,
    valid_NT: jax.Array,
    positions_NP: jax.Array,
    wanted_NP: jax.Array,
    weights_NP: jax.Array,
) -> jax.Array:
    output = registry.build(config).apply(
        {"params": params}, tokens_NT, valid_BT=valid_NT, masked_positions_BP=positions_NP, deterministic=True
    )
    log_probabilities_NPV = jax.nn.log_softmax(output.logits["masked_lm"][..., :vocab_size])  # the table may be padded
    wanted_NP1 = wanted_NP[..., None]
    return (jnp.take_along_axis(log_probabilities_NPV, wanted_NP1, axis=-1)[..., 0] * weights_NP).sum(axis=-1)


def neighbours(model: Trained, words: Sequence[str], *, top: int = 5) -> dict[str, list[tuple[str, float]]]:
    """For each word the nearest other tokens by the cosine of their input embeddings, except special tokens.

    Raises:
      InputError: a word that is several tokens, or that the tokenizer does not know.
    """
    tokenizer = model.tokenizer
    table = np.asarray(model.params["embeddings"]["token"]["embedding"], np.float64)[: tokenizer.vocab_size]
    table = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    nearest = {}
    for word, token in zip(words, _tokens(words, tokenizer), strict=True):
        cosines = table @ table[token]
        cosines[[*tokenizer.special_ids, token]] = -np.inf
        order = np.argsort(-cosines)[:top]
        nearest[word] = [(tokenizer.token(int(i)), float(cosines[i])) for i in order]
    return nearest


def fine_tunings(folder: Path, names: Iterable[str]) -> dict[str, dict]:
    """The results of fine-tuning each of the models: the seeds.json of `experiments.train --seeds` in the folder with
    the model's name, if there is one.

    Raises:
      InputError: there is none, or they differ in more than the model that they started from.
    """
    reached = {name: json.loads(file.read_text()) for name in names if (file := folder / name / "seeds.json").is_file()}
    if not reached:
        raise InputError(f"{folder} has no fine-tuning results: {', '.join(f'{name}/seeds.json' for name in names)}")

    def settings(name: str) -> dict[str, Any]:
        seeds = reached[name]["seeds"]
        values = to_dict(RunDir(folder / name / f"seed_{seeds[0]}").load_config())
        return {key: values[key] for key in values.keys() - {"model", "start_from", "seed"}} | {"seeds": seeds}

    first, *others = reached
    for other in others:
        if changes := differences(settings(first), settings(other)):
            raise InputError(
                f"{folder}: {first} and {other} cannot be compared: {'; '.join(changes)}. Remove the wrong one"
            )
    return reached


def draw(probabilities: dict[str, dict[str, float]], path: Path) -> None:
    """The mean probability of each word as bars, one for each model.

    Args:
      probabilities: by the model's name, then the word.
    """
    words = list(next(iter(probabilities.values())))
    figure = Figure(figsize=(max(6, 0.9 * len(words) + 3), 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(probabilities)
    for number, (name, values) in enumerate(probabilities.items()):
        axes.bar(np.arange(len(words)) + number * width, [values[word] for word in words], width, label=name)
    axes.set_xticks(np.arange(len(words)) + 0.4 - width / 2, words, rotation=30, ha="right")
    axes.set(ylabel="probability of the masked word", title="Words of the domain in held-out text")
    axes.legend(fontsize="small")
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110)
    write_atomically(path, picture.getvalue())
