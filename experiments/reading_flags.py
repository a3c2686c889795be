"""Flags that say how a file of examples is to be read, for what reads one with a model that is trained already.

They are about that file alone: what the configuration of the training says of its own files does not count.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from absl import flags

from experiments.model_flags import DATA_FLAGS

COLUMNS = flags.DEFINE_string("columns", None, "Names of the input's columns, with commas, if its first line has none.")
FORMAT = flags.DEFINE_enum(
    "format",
    "auto",
    ["auto", "csv", "tsv", "jsonl", "json", "parquet", "txt", "conll", "conllu", "squad"],
    "Of the input; auto: by its content.",
)
DELIMITER = flags.DEFINE_string(
    "delimiter", "", r"Of a table: what separates its columns, \t for a tab; by default found."
)
QUOTE = flags.DEFINE_string("quote", "", "Of a table: what stands around texts with delimiters in them; or none.")
COMMENT = flags.DEFINE_string("comment", "", "Of CoNLL's columns: what lines that are comments begin with, such as #.")
NULL_VALUES = flags.DEFINE_list("null_values", [], "Texts that mean that there is no value, with commas: NA,nan.")
# Of these, and of those of `model_flags`.
_NAMES = ("columns", "format", "delimiter", "quote", "comment", "null_values", *DATA_FLAGS, "label_map")
_OPTION = re.compile(rf"(?:--config\.)?\bdata\.({'|'.join(_NAMES)})\b")


def options() -> dict[str, Any]:
    """Keys of `LabeledDataConfig`: what the flags say of the file, in the place of what training said of its own."""
    return {
        "format": FORMAT.value,
        "columns": tuple(COLUMNS.value.split(",")) if COLUMNS.value else (),
        "delimiter": DELIMITER.value,
        "quote": QUOTE.value,
        "comment": COMMENT.value,
        "null_values": tuple(NULL_VALUES.value),
    }


@contextlib.contextmanager
def named_as_flags() -> Iterator[None]:
    """Errors within name these flags where they name options of the training."""
    from tx_jax.errors import InputError

    try:
        yield
    except InputError as error:
        raise InputError(_OPTION.sub(r"--\1", str(error))) from None
