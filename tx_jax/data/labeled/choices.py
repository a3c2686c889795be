"""Multiple choice: one row per choice, [CLS] context [SEP] choice [SEP] (Devlin et al. 2018, section 4.4)."""

from collections.abc import Mapping, Sequence

import numpy as np

from tx_jax.config.labeled import LabeledDataConfig
from tx_jax.data.labeled.readers import Record
from tx_jax.data.labeled.sequences import encode, texts
from tx_jax.data.labeled.table import Groups, Table
from tx_jax.text.tokenizer import Tokenizer


def table(
    records: Sequence[Record],
    data: LabeledDataConfig,
    tokenizer: Tokenizer,
    *,
    segments: bool,
    targets: Mapping[str, np.ndarray],
) -> Table:
    """ "tokens" and "segments" [N, choices, T], and the targets.

    The context is the first column of `data.text`; if there is a second column, every choice starts with its text, such
    as the subject of SWAG's endings. Counts such as "truncated" count the records with at least one such choice.
    """
    size = len(data.choices)
    contexts = [text for text in texts(records, data.text[0]) for _ in range(size)]
    columns = [texts(records, name) for name in data.choices]
    if len(data.text) == 2:
        beginnings = texts(records, data.text[1])
        columns = [[f"{a} {b}".strip() for a, b in zip(beginnings, column, strict=True)] for column in columns]
    choices = [text for row in zip(*columns, strict=True) for text in row]
    encoded, counts = encode([contexts, choices], tokenizer, data.sequence_length, segments=segments, group=size)
    columns = {name: Groups(part, size) for name, part in encoded.items()}
    return Table({**columns, **targets}, data.sequence_length, counts)
