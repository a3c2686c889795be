"""From texts to the rows of a batch, of few shapes."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from tx_jax import sharding
from tx_jax.config import TransformerConfig
from tx_jax.data.by_length import bucket
from tx_jax.decoding.options import Options
from tx_jax.decoding.steps import Prompts, Writable
from tx_jax.errors import InputError
from tx_jax.text.pair_forms import PairTokens
from tx_jax.text.tokenizer import Tokenizer

NEW_TOKENS = 128  # of a decoder, where nobody says how many
NEW_TOKENS_BEYOND_SOURCE = 50


@dataclasses.dataclass(frozen=True)
class Row:
    """
    Attributes:
      place: its index among the prompts of the call.
      number: the prompt's.
      ids: the prompt; of an encoder-decoder what the target begins with.
      source: what the encoder reads; None without one.
      limit: how many tokens it may get.
    """

    place: int
    number: int
    ids: tuple[int, ...]
    source: tuple[int, ...] | None
    limit: int

    @property
    def length(self) -> int:
        """That of what the text was turned into."""
        return len(self.ids if self.source is None else self.source)


def check(config: TransformerConfig, untrained: Sequence[str]) -> None:
    """Raises InputError for a model that cannot generate."""
    if config.architecture == "encoder":
        raise InputError(
            "an encoder, which sees the text on both sides, cannot generate: fill in masks with experiments.fill_mask, "
            "label texts with experiments.predict, or train a decoder, such as configs/gpt2_small.py"
        )
    if "causal_lm" not in config.heads or "causal_lm" in untrained:
        raise InputError(
            f"the model has no trained causal_lm head to generate with (model.heads={config.heads}): continue from a "
            "model that has one, or train one"
        )


def writable(config: TransformerConfig, tokenizer: Tokenizer) -> Writable:
    """The tokens that a model may write: those of its tokenizer, as far as they are not for reading only."""
    if config.architecture == "decoder":
        return Writable(tokenizer.vocab_size)
    tokens = tokenizer.pair_tokens
    return Writable(tokenizer.vocab_size, tokens.first, tokens.never)


def encode(
    config: TransformerConfig,
    tokenizer: Tokenizer,
    prompts: Sequence[str | Sequence[int]],
    numbers: Sequence[int],
    options: Options,
) -> list[Row]:
    """The prompts' rows, in their order.

    Raises:
      InputError: a prompt is empty, or does not fit the model together with what it may get; or the tokenizer has no
        token to begin or end with.
    """
    tokenizer.require("eos")
    of_pairs = tokenizer.pair_tokens if config.architecture == "encoder_decoder" else None
    _check_beams(options, tokenizer)
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    encoded = iter(tokenizer.encode_batch(texts))
    rows = []
    for place, (prompt, number) in enumerate(zip(prompts, numbers, strict=True)):
        ids = tuple(next(encoded) if isinstance(prompt, str) else map(int, prompt))
        if not ids:
            raise InputError(f"prompt {number} is empty: give at least one word to continue")
        if wrong := [i for i in ids if not 0 <= i < tokenizer.vocab_size]:
            raise InputError(
                f"prompt {number} has the id {wrong[0]}, but the vocabulary has {tokenizer.vocab_size} tokens"
            )
        rows.append(_row(config, of_pairs, place, number, ids, options))
    return rows


def _check_beams(options: Options, tokenizer: Tokenizer) -> None:
    if options.num_beams > tokenizer.vocab_size:
        raise InputError(
            f"num_beams={options.num_beams} exceeds the vocabulary of {tokenizer.vocab_size} tokens: so many different "
            "beginnings do not exist"
        )
    names = tokenizer.tokens(tokenizer.special_ids)
    if options.num_beams > 1 and (texts := [text for text in options.stop if text not in names]):
        raise InputError(
            f"stop={texts[0]!r} is no special token, and beam search ends only at tokens: leave it out, or give "
            "num_beams=1"
        )


def _row(
    config: TransformerConfig,
    of_pairs: PairTokens | None,
    place: int,
    number: int,
    ids: tuple[int, ...],
    options: Options,
) -> Row:
    seq2seq = of_pairs is not None
    source, target = None, ids
    if of_pairs is not None:
        source, target = (*of_pairs.before, *ids, *of_pairs.after), (of_pairs.start,)
    taken = len(source or target)
    # A decoder needs a place for one more token, at least.
    if taken + (not seq2seq) > config.max_length:
        raise InputError(
            f"prompt {number} has {taken:,} tokens, but the model takes at most {config.max_length - (not seq2seq):,}: "
            "shorten it"
        )
    room = config.max_length - len(target)
    wanted = options.max_new_tokens
    if wanted is not None and wanted > room:
        raise InputError(
            f"max_new_tokens={wanted} does not fit behind prompt {number} of {len(target):,} tokens: the model has "
            f"{config.max_length:,} positions, so at most {room:,}"
        )
    usual = len(ids) + NEW_TOKENS_BEYOND_SOURCE if seq2seq else NEW_TOKENS
    return Row(place, number, target, source, min(usual, room) if wanted is None else wanted)


def batches(rows: Sequence[Row], batch_size: int, multiple: int, longest: int) -> Iterator[tuple[list[Row], int]]:
    """The rows, sorted by length, in batches of one bucket of lengths each, and the size that a batch is filled up to.

    Args:
      multiple: sizes are multiples of it.
      longest: no bucket is longer.
    """
    waiting: list[Row] = []
    for row in sorted(rows, key=lambda row: row.length):
        if waiting and (
            len(waiting) == batch_size or bucket(row.length, longest) != bucket(waiting[0].length, longest)
        ):
            yield waiting, _size(len(waiting), batch_size, multiple)
            waiting = []
        waiting.append(row)
    if waiting:
        yield waiting, _size(len(waiting), batch_size, multiple)


def _size(count: int, batch_size: int, multiple: int) -> int:
    """A power of two, or the batch size."""
    size = min(1 << (count - 1).bit_length(), max(batch_size, count))
    return -(-size // multiple) * multiple


def device_prompts(rows: Sequence[Row], mesh: jax.sharding.Mesh, longest: int) -> Prompts:
    """The rows of a batch on the mesh, split over its data axes."""

    def put(x: np.ndarray) -> jax.Array:
        return jax.device_put(x, sharding.batch_sharding(mesh, "example", x.ndim))

    def filled(ids: Sequence[Sequence[int]], length: int) -> np.ndarray:
        array = np.zeros((len(ids), length), np.int32)
        for row, values in zip(array, ids, strict=True):
            row[: len(values)] = values
        return array

    targets, sources = [row.ids for row in rows], [row.source for row in rows if row.source is not None]
    lengths = np.array([len(ids) for ids in targets], np.int32)
    if not sources:
        return Prompts(put(filled(targets, bucket(int(lengths.max()), longest))), put(lengths))
    source = filled(sources, bucket(max(map(len, sources)), longest))
    valid = np.arange(source.shape[1])[None] < np.array([len(ids) for ids in sources])[:, None]
    return Prompts(put(filled(targets, int(lengths.max()))), put(lengths), put(source), put(valid))
