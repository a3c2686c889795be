"""Flags that say how to read a file of examples, for commands that use an already trained model.

They apply to that file alone: what the training's configuration says about its own files is ignored.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from absl import flags

from experiments.model_flags import DATA_FLAGS

COLUMNS = flags.DEFINE_string("columns", None, "Comma-separated column names of the input, if its first line has none.")
FORMAT = flags.DEFINE_enum(
    "format",
    "auto",
    ["auto", "csv", "tsv", "jsonl", "json", "parquet", "txt", "conll", "conllu", "squad"],
    "Format of the input; auto: detected from its content.",
)
DELIMITER = flags.DEFINE_string("delimiter", "", r"Tables: the separator of columns, \t for a tab; default: detected.")
QUOTE = flags.DEFINE_string("quote", "", "Tables: the character around texts that contain delimiters; or none.")
COMMENT = flags.DEFINE_string("comment", "", "CoNLL's columns: the start of comment lines, such as #.")
NULL_VALUES = flags.DEFINE_list("null_values", [], "Texts that mean a missing value, comma-separated: NA,nan.")
# The names of these flags and of those of `model_flags`.
_NAMES = ("columns", "format", "delimiter", "quote", "comment", "null_values", *DATA_FLAGS, "label_map")
_OPTION = re.compile(rf"(?:--config\.)?\bdata\.({'|'.join(_NAMES)})\b")


def options() -> dict[str, Any]:
    """Keys of `LabeledDataConfig`: what the flags say about the file. They replace the training's values."""
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
    """Errors raised inside name these flags instead of the training's options."""
    from tx_jax.errors import InputError

    try:
        yield
    except InputError as error:
        raise InputError(_OPTION.sub(r"--\1", str(error))) from None
