"""One or two texts as a row: [CLS] A [SEP], or [CLS] A [SEP] B [SEP] (Devlin et al. 2018, section 3)."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tx_jax.config.labeled import LabeledDataConfig
from tx_jax.data.labeled.readers import Record
from tx_jax.data.labeled.table import Ragged, Table
from tx_jax.data.rows import require_room
from tx_jax.errors import InputError
from tx_jax.text.tokenizer import Tokenizer

_BLOCK = 10_000  # texts encoded at a time: enough for all cores, and few enough to hold as Python lists


@dataclasses.dataclass(frozen=True)
class Layout:
    """The special tokens before, between and after the texts.

    BERT:    [CLS] A [SEP]   [CLS] A [SEP] B [SEP]
    RoBERTa: <s> A </s>      <s> A </s></s> B </s>
    GPT-2:   A <eos>         A <eos> B <eos>, where the head reads the last token (Radford et al. 2018, section 3.3)
    """

    before: tuple[int, ...]
    between: tuple[int, ...]
    after: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "Layout":
        """The layout that models with such a tokenizer were trained with; see `Tokenizer.pair_separators`.

        Raises:
          InputError: the tokenizer has no token that could end a text.
        """
        if tokenizer.cls_id is None or tokenizer.sep_id is None:
            tokenizer.require("eos")
            return cls((), (tokenizer.eos_id,), (tokenizer.eos_id,))
        between = (tokenizer.sep_id,) * tokenizer.pair_separators
        return cls((tokenizer.cls_id,), between, (tokenizer.sep_id,))


def kept_lengths(a_length: np.ndarray, b_length: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """The lengths of pairs after truncating the longer text first, as transformers does ("longest_first").

    If both texts are truncated and the room is odd, the longer one (B on a tie) keeps one more token. BERT's own code
    gives that token to A, but models are used with transformers, so training must truncate as transformers does.
    """
    half, rest = room // 2, room % 2
    a_half = half + rest * (a_length > b_length)
    b_half = half + rest * (a_length <= b_length)
    fits, a_fits, b_fits = a_length + b_length <= room, a_length <= half, b_length <= half
    a_kept = np.where(a_fits, a_length, np.where(b_fits, room - b_length, a_half))
    b_kept = np.where(b_fits, b_length, np.where(a_fits, room - a_length, b_half))
    return np.where(fits, a_length, a_kept), np.where(fits, b_length, b_kept)


def table(
    records: Sequence[Record],
    data: LabeledDataConfig,
    tokenizer: Tokenizer,
    *,
    segments: bool,
    targets: Mapping[str, np.ndarray],
) -> Table:
    """A table of the records' texts and their targets.

    Args:
      segments: whether the model distinguishes the texts of a pair by segments.
      targets: arrays [N] or [N, ...] by their key in the batch; empty for prediction.
    """
    parts = [texts(records, name) for name in data.text]
    columns, counts = encode(parts, tokenizer, data.sequence_length, segments=segments)
    return Table({**columns, **targets}, data.sequence_length, counts)


def texts(records: Sequence[Record], name: str) -> list[str]:
    """A column of text.

    Raises:
      InputError: a value is neither a string nor a number.
    """
    values = [record[name] for record in records]
    for number, value in enumerate(values, start=1):
        if not isinstance(value, str | int | float):
            raise InputError(
                f"example {number} has a {type(value).__name__} in column {name!r}, where a text is needed"
            )
    return list(map(str, values))


def encode(
    parts: Sequence[Sequence[str]], tokenizer: Tokenizer, length: int, *, segments: bool, group: int = 1
) -> tuple[dict[str, Ragged], dict[str, int]]:
    """N texts (one part) or pairs (two), truncated at the end to `length` tokens; for pairs, see `kept_lengths`.

    Args:
      group: how many sequences make up an example, which is counted once.

    Returns:
      "tokens" and, for pairs with segments, "segments"; and how many examples were "truncated" or have an "empty text".
    """
    layout, pairs = Layout.of(tokenizer), len(parts) == 2
    between = layout.between if pairs else ()
    specials = len(layout.before) + len(between) + len(layout.after)
    room = require_room(length, specials, "a pair of texts" if pairs else "a text", least=len(parts))
    ids = [_encode(part, tokenizer) for part in parts]
    lengths = [np.array(list(map(len, part)), np.int64) for part in ids]
    kept = kept_lengths(*lengths, room) if pairs else (np.minimum(lengths[0], room),)
    pieces = [
        [np.asarray(layout.before, np.int32), row[0][: count[0]]]
        + ([np.asarray(between, np.int32), row[1][: count[1]]] if pairs else [])
        + [np.asarray(layout.after, np.int32)]
        for row, count in zip(zip(*ids, strict=True), zip(*kept, strict=True), strict=True)
    ]
    columns = {"tokens": Ragged.of(map(np.concatenate, pieces), fill=tokenizer.pad_id or 0)}
    if segments and pairs:
        columns["segments"] = Ragged.of(np.repeat([0, 0, 0, 1, 1], list(map(len, row))) for row in pieces)
    truncated = np.sum(lengths, axis=0) > np.sum(kept, axis=0)
    counts = {"truncated": truncated, "empty text": np.min(lengths, axis=0) == 0}
    return columns, {
        name: int(which.reshape(-1, group).any(axis=1).sum()) for name, which in counts.items() if which.any()
    }


def _encode(part: Sequence[str], tokenizer: Tokenizer) -> list[np.ndarray]:
    """Token ids of each text."""
    blocks = (part[i : i + _BLOCK] for i in range(0, len(part), _BLOCK))
    return [np.array(ids, np.int32) for block in blocks for ids in tokenizer.encode_batch(block)]
