"""From texts, pairs and lists of words to the rows that a model reads.

Shapes: B batch, T length.
"""

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tx_jax import sharding
from tx_jax.config import TransformerConfig
from tx_jax.config.checks import is_whole, require
from tx_jax.data.by_length import batches_by_length, bucket
from tx_jax.data.labeled.sequences import Layout
from tx_jax.errors import InputError, InputWarning
from tx_jax.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tx_jax.interpret.capture import Model

NO_WORD = -1


@dataclasses.dataclass(frozen=True)
class Row:
    """
    Attributes:
      ids: the tokens, special ones included; of an encoder-decoder the source's.
      tokens: them as the vocabulary writes them.
      segments: 0 for the first text and its special tokens, 1 for the second.
      special: which of them the model's layout added, such as [CLS].
      words: of a row of words, each token's word; `NO_WORD` for special tokens, and everywhere in other rows.
      spans: each token's first character in its text and the one behind its last; (0, 0) for special tokens.
      target_ids, target_tokens: what the decoder of an encoder-decoder reads.
    """

    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    segments: tuple[int, ...]
    special: tuple[bool, ...]
    words: tuple[int, ...] = ()
    spans: tuple[tuple[int, int], ...] = ()
    target_ids: tuple[int, ...] = ()
    target_tokens: tuple[str, ...] = ()

    def length(self, key: str) -> int:
        """That of "tokens" or "target_tokens"."""
        return len(self.target_ids if key == "target_tokens" else self.ids)

    def first_pieces(self) -> np.ndarray:
        """The place of each word's first token, in a row of words."""
        places: dict[int, int] = {}
        for place, word in enumerate(self.words):
            if word != NO_WORD:
                places.setdefault(word, place)
        return np.array([places[word] for word in range(len(places))], int)


def rows_of_texts(
    model: "Model",
    texts: Sequence[str],
    pairs: Sequence[str] = (),
    *,
    masks: bool = False,
    cut: bool = False,
    first: int = 1,
) -> list[Row]:
    """A row of each text, or of each pair: [CLS] A [SEP] B [SEP], as the model was trained with. Of a decoder that
    continues texts a text has no special tokens; of an encoder-decoder the pair is source and target.

    Args:
      pairs: the second text of each row; none, or as many as texts.
      masks: whether the name of the mask token is read as a mask; no other special token's is.
      cut: whether what does not fit is cut off at the end; otherwise it is an error.
      first: the number of the first text, for errors.

    Raises:
      InputError: a text is empty or longer than the model, or an encoder-decoder has no second text.
    """
    tokenizer, config = model.require_tokenizer(), model.model
    if config.architecture == "encoder_decoder" and not pairs:
        raise InputError(
            "an encoder-decoder reads a source and a target: give the target as the second text (of the words of "
            "experiments.interpret, only attention takes one, as --text_pair)"
        )
    if pairs and len(pairs) != len(texts):
        raise InputError(f"{len(texts)} texts and {len(pairs)} second texts: each text needs one, or none has one")
    rows = []
    for number, parts in enumerate(zip(texts, pairs, strict=True) if pairs else zip(texts, strict=True), start=first):
        encoded = [_encoded(tokenizer, part, masks, f"text {number}") for part in parts]
        rows.append(_row(config, tokenizer, encoded, f"text {number}", cut))
    return rows


def rows_to_encode(model: "Model", texts: Sequence[str], *, cut: bool = False, first: int = 1) -> list[Row]:
    """A row of each text for what reads one stack of layers: of an encoder-decoder the encoder, whose target is not
    computed. Arguments and errors as of `rows_of_texts`."""
    pairs = texts if model.model.architecture == "encoder_decoder" else ()
    return rows_of_texts(model, texts, pairs, cut=cut, first=first)


Encoded = tuple[list[int], list[tuple[int, int]]]


def _encoded(tokenizer: Tokenizer, text: str, masks: bool, where: str) -> Encoded:
    """Ids and spans. Masked texts have no spans: around a mask the tokenizer does not see the text as it stands."""
    if masks:
        ids = tokenizer.encode_masked(text)
        spans = [(0, 0)] * len(ids)
    else:
        (aligned,) = tokenizer.encode_aligned([text])
        ids, spans = aligned.ids, [(int(first), int(last)) for first, last in aligned.spans]
    if not ids:
        raise InputError(f"{where} is empty: give at least one word")
    return ids, spans


def _row(config: TransformerConfig, tokenizer: Tokenizer, parts: Sequence[Encoded], where: str, cut: bool) -> Row:
    if config.architecture == "encoder_decoder":
        tokenizer.require("bos", "eos")
        (source, spans), (target, _) = parts
        ids = [*_fitting(config, source, 1, where, cut), tokenizer.eos_id]
        target_ids = [tokenizer.bos_id, *_fitting(config, target, 1, f"{where}, target", cut)]
        special = [False] * (len(ids) - 1) + [True]
        row = Row(*map(tuple, (ids, tokenizer.tokens(ids), [0] * len(ids), special)))
        spans = (*spans[: len(ids) - 1], (0, 0))
        return dataclasses.replace(
            row, spans=spans, target_ids=tuple(target_ids), target_tokens=tuple(tokenizer.tokens(target_ids))
        )
    layout = Layout((), (), ()) if len(parts) == 1 and _goes_on(config) else Layout.of(tokenizer)
    between = layout.between if len(parts) == 2 else ()
    specials = len(layout.before) + len(between) + len(layout.after)
    kept = _fitting(config, [piece for ids, _ in parts for piece in ids], specials, where, cut)
    cuts = [len(parts[0][0]), len(kept) - len(parts[0][0])] if len(parts) == 2 else [len(kept)]
    if min(cuts) < 1:
        raise InputError(f"{where}: the first text fills the model's {config.max_length} tokens: shorten it")
    pieces = [(layout.before, True, 0, None), (parts[0][0][: cuts[0]], False, 0, parts[0][1]), (between, True, 0, None)]
    if len(parts) == 2:
        pieces.append((parts[1][0][: cuts[1]], False, 1, parts[1][1]))
    pieces.append((layout.after, True, len(parts) - 1, None))
    ids = [i for part, _, _, _ in pieces for i in part]
    return Row(
        ids=tuple(ids),
        tokens=tuple(tokenizer.tokens(ids)),
        segments=tuple(segment for part, _, segment, _ in pieces for _ in part),
        special=tuple(special for part, special, _, _ in pieces for _ in part),
        words=(NO_WORD,) * len(ids),
        spans=tuple((0, 0) if spans is None else spans[i] for part, _, _, spans in pieces for i in range(len(part))),
    )


def _goes_on(config: TransformerConfig) -> bool:
    """Whether a text is read as the beginning of a longer one, without special tokens, as in generation."""
    return config.architecture == "decoder" and "causal_lm" in config.heads


def _fitting(config: TransformerConfig, ids: Sequence[int], specials: int, where: str, cut: bool) -> Sequence[int]:
    room = config.max_length - specials
    if len(ids) > room and not cut:
        raise InputError(
            f"{where} has {len(ids) + specials:,} tokens, but the model takes at most {config.max_length:,}: shorten it"
        )
    return ids[:room]


def unknown_words(row: Row, texts: Sequence[str], unk_id: int | None) -> tuple[str, ...]:
    """What of the texts of a row became the unknown token, as it is written there, each once."""
    if unk_id is None:
        return ()
    unknown = [i for i, token in enumerate(row.ids) if token == unk_id and not row.special[i] and row.spans]
    pieces = [texts[row.segments[i]][slice(*row.spans[i])] for i in unknown]
    return tuple(dict.fromkeys(piece.strip() for piece in pieces))


def rows_of_words(model: "Model", sentences: Sequence[Sequence[str]]) -> list[Row]:
    """A row of each sentence whose words are given, as taggers read them.

    Raises:
      InputError: a sentence has no words, one that the tokenizer drops, or more tokens than the model takes.
    """
    tokenizer, config = model.require_tokenizer(), model.model
    if config.architecture == "encoder_decoder":
        raise InputError("an encoder-decoder reads pairs of texts, not sentences of words")
    layout = Layout((), (), ()) if _goes_on(config) else Layout.of(tokenizer)
    before, after = layout.before, layout.after
    rows = []
    for number, sentence in enumerate(sentences, start=1):
        if not sentence:
            raise InputError(f"sentence {number} is empty: give at least one word")
        pieces = tokenizer.encode_words(list(sentence))
        if dropped := [word for word, ids in zip(sentence, pieces, strict=True) if not ids]:
            raise InputError(f"sentence {number}: the tokenizer makes nothing of {dropped[0]!r}: take it out")
        ids = _fitting(
            config, [i for word in pieces for i in word], len(before) + len(after), f"sentence {number}", False
        )
        words = [word for word, ids_of_word in enumerate(pieces) for _ in ids_of_word]
        whole = [*before, *ids, *after]
        special = [True] * len(before) + [False] * len(ids) + [True] * len(after)
        rows.append(
            Row(
                ids=tuple(whole),
                tokens=tuple(tokenizer.tokens(whole)),
                segments=(0,) * len(whole),
                special=tuple(special),
                words=(*(NO_WORD for _ in before), *words, *(NO_WORD for _ in after)),
                spans=((0, 0),) * len(whole),
            )
        )
    return rows


def tokens_of(row: Row, text: str, word: str, where: str) -> list[int]:
    """The places of the tokens that a word, or several, have in a text; of its first occurrence as a whole word. Where
    there are more, an InputWarning says so.

    Raises:
      InputError: the word is not in the text.
    """
    start = _whole_word(text, word)
    if start < 0:
        inside = f" as a whole word, only within {text!r}" if word in text else f": {text!r}"
        raise InputError(f"{where}: {word!r} is not in the text{inside}")
    end = start + len(word)
    if _whole_word(text[end:], word) >= 0:
        message = f"{where} has {word!r} more than once: the first is looked at, at character {start}"
        warnings.warn(message, InputWarning, stacklevel=3)
    return [
        place
        for place, (first, last) in enumerate(row.spans)
        if not row.special[place] and first < end and last > start
    ]


def _whole_word(text: str, word: str) -> int:
    """Where a word begins in a text; -1 where it is not, or only inside of other words."""
    start = text.find(word) if word else -1
    while start >= 0:
        around = text[start - 1 : start] + text[start + len(word) : start + len(word) + 1]
        if not any(character.isalnum() for character in around):
            return start
        start = text.find(word, start + 1)
    return -1


def batches(
    rows: Sequence[Row], config: TransformerConfig, batch_size: int, multiple: int = 1
) -> Iterator[tuple[list[int], dict[str, np.ndarray]]]:
    """The rows' indices, sorted by length, and the arrays [B, T] that the model reads, in few shapes.

    Args:
      batch_size: rows of the model's full length; as many more of shorter ones as have as many tokens.
      multiple: batches have a multiple of so many rows; the last ones are filled up with repetitions.

    Raises:
      InputError: `batch_size` is no number of rows.
    """
    require(is_whole(batch_size, 1), f"batch_size={batch_size!r}: give a number of rows, 1 or more")
    longest, on_cpu = config.max_length, sharding.platform() == "cpu"
    lengths = np.array([len(row.ids) for row in rows], int)
    for indices, count, length in batches_by_length(lengths, longest, batch_size, multiple, on_cpu=on_cpu):
        chosen = [rows[i] for i in np.resize(indices, count)]
        of_targets = bucket(max(1, *(len(row.target_ids) for row in chosen)), longest)
        yield indices.tolist(), arrays(chosen, config, length, of_targets)


def arrays(
    rows: Sequence[Row], config: TransformerConfig, length: int | None = None, target_length: int | None = None
) -> dict[str, np.ndarray]:
    """The arrays [B, T] that the model reads, padded to a length; by default that of the longest row."""

    def padded(values: Sequence[Sequence[int]], width: int | None) -> np.ndarray:
        array = np.zeros((len(values), width or max(map(len, values))), np.int32)
        for row, of_row in zip(array, values, strict=True):
            row[: len(of_row)] = of_row
        return array

    def valid(values: Sequence[Sequence[int]], width: int) -> np.ndarray:
        return np.arange(width)[None] < np.array([[len(of_row)] for of_row in values])

    tokens = padded([row.ids for row in rows], length)
    found = {"tokens": tokens, "valid": valid([row.ids for row in rows], tokens.shape[1])}
    if config.architecture == "encoder_decoder":
        targets = padded([row.target_ids for row in rows], target_length)
        found |= {"target_tokens": targets, "target_valid": valid([row.target_ids for row in rows], targets.shape[1])}
    elif config.num_segments > 1:
        found["segments"] = padded([row.segments for row in rows], tokens.shape[1])
    return found
